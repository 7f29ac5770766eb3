import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from lipscale.errors import LipscaleError
from lipscale.evaluation import calibration
from lipscale.evaluation.calibration import netcal_ece, netcal_temperature
from lipscale.evaluation.metrics import accuracy, expected_calibration_error, probabilities, reliability
from lipscale.method.temperature import fit_temperature
from lipscale.store import files
from lipscale.store.checksums import seal


def test_ece_by_hand():
    """Four images: confidence 0.94 right and 0.95 wrong share a bin, 0.6 right and 0.7 right have their own.

    |1 - 1.89| / 4 + |1 - 0.6| / 4 + |1 - 0.7| / 4
    """
    confidence = np.array([0.94, 0.95, 0.6, 0.7])
    table = np.stack([confidence, 1 - confidence], axis=1)
    labels = np.array([0, 1, 0, 0])
    by_hand = (abs(1 - 1.89) + 0.4 + 0.3) / 4
    assert expected_calibration_error(table, labels) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0, 1000.0])
def test_ece_against_netcal(classes, scale):
    generator = np.random.default_rng(0)
    logits = scale * generator.normal(size=(500, classes))
    labels = np.where(generator.random(500) < 0.5, logits.argmax(axis=1), generator.integers(classes, size=500))
    ours = expected_calibration_error(probabilities(logits), labels)
    assert ours == pytest.approx(netcal_ece(logits, labels), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_bins_of_confidence_are_those_of_the_ece_and_of_scikit_learn(scale):
    generator = np.random.default_rng(0)
    table = probabilities(scale * generator.normal(size=(500, 10)))
    labels = np.where(generator.random(500) < 0.5, table.argmax(axis=1), generator.integers(10, size=500))
    images, confidence, share = reliability(table, labels)
    there = images > 0
    assert images.sum() == 500
    assert np.isnan(confidence[~there]).all()
    ece = (images * np.abs(share - confidence))[there].sum() / 500
    assert ece == pytest.approx(expected_calibration_error(table, labels), rel=1e-12)
    right = table.argmax(axis=1) == labels
    theirs = calibration_curve(right, table.max(axis=1), n_bins=15)
    assert share[there] == pytest.approx(theirs[0])
    assert confidence[there] == pytest.approx(theirs[1])


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_temperature_against_netcal(classes, scale):
    import torch

    generator = np.random.default_rng(0)
    labels = generator.integers(classes, size=400)
    logits = generator.normal(size=(400, classes))
    logits[np.arange(400), labels] += 1.5
    logits *= scale
    ours = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels))
    assert netcal_temperature(logits, labels, near=ours) == pytest.approx(ours, rel=0.01)


def test_a_wrong_temperature_is_not_confirmed_by_netcal():
    """netcal finds T* also where it is started beside a wrong one; so a wrong one fails the comparison."""
    import torch

    generator = np.random.default_rng(0)
    labels = generator.integers(10, size=400)
    logits = generator.normal(size=(400, 10))
    logits[np.arange(400), labels] += 1.5
    ours = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels))
    assert netcal_temperature(logits, labels, near=1.1 * ours) == pytest.approx(ours, rel=0.01)


def test_temperature_against_netcal_where_one_image_of_400_is_wrong():
    """Nearly separable: the NLL is flat, and netcal agrees only when its optimiser is given time."""
    import torch

    for seed in range(10):
        generator = np.random.default_rng(seed)
        labels = generator.integers(10, size=400)
        logits = generator.normal(size=(400, 10))
        logits[np.arange(400), labels] += 8
        logits[0, labels[0]] -= 12
        ours = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels))
        assert netcal_temperature(logits, labels, near=ours) == pytest.approx(ours, rel=0.01)


def test_disagreement_with_netcal_stops_the_run(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    labels = generator.integers(10, size=200)
    logits = generator.normal(size=(200, 10))
    logits[np.arange(200), labels] += 1.5
    arrays = {"validation_logits": logits, "validation_labels": labels, "test_logits": logits, "test_labels": labels}
    np.savez(tmp_path / "logits.npz", **arrays)
    (tmp_path / "history.csv").write_text("next_lipschitz\n1.0\n")
    for name in ("logits.npz", "history.csv"):
        seal(tmp_path / name)
    calibration.calibrate(tmp_path)
    theirs = files.read_json(tmp_path / "calibration.json")["netcal_temperature"]
    monkeypatch.setattr(calibration, "netcal_temperature", lambda *_, **__: 1.02 * theirs)
    with pytest.raises(LipscaleError, match=r"netcal's temperature is .* and ours .*; allowed: a difference of 1 %"):
        calibration.calibrate(tmp_path)


def test_accuracy():
    assert accuracy(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), np.array([0, 1, 0])) == pytest.approx(2 / 3)

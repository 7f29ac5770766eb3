"""ECE, temperature and reliability: by hand, against netcal, against scikit-learn."""

import math

import numpy as np
import pytest
import torch
from netcal.metrics import ECE
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss

from lipscale.errors import LipscaleError
from lipscale.evaluation import calibration
from lipscale.evaluation.calibration import calibrate, netcal_ece, netcal_temperature
from lipscale.evaluation.metrics import (
    accuracy,
    adaptive_ece,
    brier_scores,
    classwise_ece,
    expected_calibration_error,
    log_losses,
    probabilities,
    reliability,
    top_label,
)
from lipscale.method.temperature import fit_temperature, nll


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


def random_logits(scale: float, classes: int, images: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels, about half of which have the largest."""
    generator = np.random.default_rng(0)
    logits = scale * generator.normal(size=(images, classes))
    labels = np.where(generator.random(images) < 0.5, logits.argmax(axis=1), generator.integers(classes, size=images))
    return logits, labels


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_classwise_ece_is_the_mean_of_netcals_binary_ece(classes, scale):
    logits, labels = random_logits(scale, classes)
    theirs = [ECE(15).measure(p, (labels == k).astype(int)) for k, p in enumerate(probabilities(logits).T)]
    assert classwise_ece(logits, labels) == pytest.approx(np.mean(theirs), rel=1e-9)


@pytest.mark.parametrize("scale", [0.1, 1.0, 3.0])
def test_adaptive_ece_against_netcal(scale):
    logits, labels = random_logits(scale, 10)
    confidence, predictions = top_label(logits)
    theirs = ECE(15, equal_intervals=False).measure(confidence, (predictions == labels).astype(int))
    assert adaptive_ece(logits, labels) == pytest.approx(theirs, rel=1e-9)


def test_adaptive_ece_where_confidences_are_the_same():
    """Saturated confidences: equal values share a bin, whatever the order of the images."""
    logits, labels = np.repeat([[np.log(1.5), 0], [1000, 0]], [30, 70], axis=0), np.tile([0, 0, 0, 0, 1], 20)  # 0.6 and 1
    shuffled = np.random.default_rng(0).permutation(100)
    assert adaptive_ece(logits, labels) == pytest.approx(0.3 * 0.2 + 0.7 * 0.2)
    assert adaptive_ece(logits[shuffled], labels[shuffled]) == pytest.approx(adaptive_ece(logits, labels))


@pytest.mark.parametrize("classes", [2, 10])
def test_brier_score_and_log_loss_against_scikit_learn(classes):
    logits, labels = random_logits(1.0, classes)
    table = probabilities(logits)
    theirs = brier_score_loss(labels, table, labels=range(classes), scale_by_half=False)
    assert brier_scores(logits, labels).mean() == pytest.approx(theirs, rel=1e-12)
    assert log_losses(logits, labels).mean() == pytest.approx(log_loss(labels, table), rel=1e-9)
    assert brier_scores(1000 * np.eye(3), np.array([0, 1, 0])) == pytest.approx([0, 0, 2])


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_bins_of_confidence_are_those_of_the_ece_and_of_scikit_learn(scale):
    generator = np.random.default_rng(0)
    logits = scale * generator.normal(size=(500, 10))
    table = probabilities(logits)
    labels = np.where(generator.random(500) < 0.5, table.argmax(axis=1), generator.integers(10, size=500))
    images, confidence, share = reliability(logits, labels)
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
    generator = np.random.default_rng(0)
    labels = generator.integers(classes, size=400)
    logits = generator.normal(size=(400, classes))
    logits[np.arange(400), labels] += 1.5
    logits *= scale
    ours = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels))
    assert netcal_temperature(logits, labels, near=ours) == pytest.approx(ours, rel=0.01)


def test_a_wrong_temperature_is_not_confirmed_by_netcal():
    """netcal finds T* also where it is started beside a wrong one; so a wrong one fails the comparison."""
    generator = np.random.default_rng(0)
    labels = generator.integers(10, size=400)
    logits = generator.normal(size=(400, 10))
    logits[np.arange(400), labels] += 1.5
    ours = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels))
    assert netcal_temperature(logits, labels, near=1.1 * ours) == pytest.approx(ours, rel=0.01)


def test_temperature_against_netcal_where_one_image_of_400_is_wrong():
    """Nearly separable: the NLL is flat, and netcal agrees only when its optimiser is given time."""
    for seed in range(10):
        generator = np.random.default_rng(seed)
        labels = generator.integers(10, size=400)
        logits = generator.normal(size=(400, 10))
        logits[np.arange(400), labels] += 8
        logits[0, labels[0]] -= 12
        ours = fit_temperature(torch.from_numpy(logits), torch.from_numpy(labels))
        assert netcal_temperature(logits, labels, near=ours) == pytest.approx(ours, rel=0.01)


@pytest.fixture
def split():
    """Logits and labels of 200 images."""
    generator = np.random.default_rng(0)
    labels = generator.integers(10, size=200)
    logits = generator.normal(size=(200, 10))
    logits[np.arange(200), labels] += 1.5
    return logits, labels


def test_what_is_measured(split):
    """T* on one split, all else on the other."""
    logits, labels = split
    found = calibrate(logits, labels, 3 * logits, labels, lipschitz=2.0)
    ours = fit_temperature(*map(torch.from_numpy, split))
    assert found.temperature == ours
    assert not found.bounded
    assert found.netcal_temperature == pytest.approx(ours, rel=0.01)
    assert found.ece == netcal_ece(3 * logits, labels)
    assert found.ece_scaled == netcal_ece(3 * logits, labels, ours)
    assert found.nll == nll(torch.from_numpy(3 * logits), torch.from_numpy(labels))
    assert found.nll_scaled == nll(torch.from_numpy(3 * logits), torch.from_numpy(labels), ours)
    brier, scaled = (brier_scores(3 * logits, labels, divisor).mean() for divisor in (1, ours))
    assert (found.brier, found.brier_scaled) == (brier, scaled)
    assert found.classwise_ece == classwise_ece(3 * logits, labels)
    assert found.adaptive_ece_scaled == adaptive_ece(3 * logits, labels, ours)
    assert list(found.summary()) == [
        "temperature", "bounded", "netcal_temperature", "ece", "ece_scaled", "nll", "nll_scaled", "brier", "brier_scaled",
        "classwise_ece", "classwise_ece_scaled", "adaptive_ece", "adaptive_ece_scaled", "validation_accuracy", "validation_ece",
        "validation_ece_scaled", "validation_nll",
    ]  # fmt: skip


def test_the_validation_split_has_measures_of_its_own(split):
    logits, labels = split
    found = calibrate(logits, labels, 3 * logits[:50], labels[:50], lipschitz=2.0)
    assert found.validation_accuracy == accuracy(logits, labels)
    assert (found.validation_ece, found.validation_nll) == (netcal_ece(logits, labels), nll(*map(torch.from_numpy, split)))
    assert found.validation_ece_scaled == netcal_ece(logits, labels, found.temperature)


@pytest.mark.parametrize(("lipschitz", "numerator"), [(2.0, 2.0), (math.inf, 1.0)])
def test_the_sweep_is_over_l_or_over_one_over_t(split, lipschitz, numerator):
    sweep = calibrate(*split, *split, lipschitz).sweep
    assert [row["temperature"] for row in sweep] == (numerator / calibration.SWEEP).tolist()
    assert sweep[100]["ece"] == netcal_ece(*split, sweep[100]["temperature"])
    assert all(tuple(row) == calibration.SWEEP_COLUMNS for row in sweep)


def test_rows_of_the_reliability_diagram(split):
    found = calibrate(*split, *split, lipschitz=1.0)
    assert [(row["scaled"], row["temperature"]) for row in found.reliability] == [(0, 1.0)] * 15 + [(1, found.temperature)] * 15
    assert all(tuple(row) == calibration.RELIABILITY_COLUMNS for row in found.reliability)
    assert all((row["confidence"] is None) == (row["images"] == 0) for row in found.reliability)
    for scaled, ece in ((0, found.ece), (1, found.ece_scaled)):
        rows = [row for row in found.reliability if row["scaled"] == scaled and row["images"]]
        assert sum(row["images"] * abs(row["accuracy"] - row["confidence"]) for row in rows) / 200 == pytest.approx(ece)


def test_a_temperature_without_a_finite_value_is_bounded():
    labels = np.arange(10)
    found = calibrate(np.eye(10), labels, np.eye(10), labels, lipschitz=1.0)
    assert (found.temperature, found.bounded, found.netcal_temperature) == (1e-3, True, None)


def test_disagreement_with_netcal_is_an_error(split, monkeypatch):
    theirs = calibrate(*split, *split, lipschitz=1.0).netcal_temperature
    monkeypatch.setattr(calibration, "netcal_temperature", lambda *_, **__: 1.02 * theirs)
    with pytest.raises(LipscaleError, match=r"run toy: netcal's temperature is .* and ours .*; allowed: a difference of 1 %"):
        calibrate(*split, *split, lipschitz=1.0, name="toy")


def test_labels_beyond_the_logits_are_refused(split):
    logits, labels = split
    with pytest.raises(LipscaleError, match="the images have label 10; allowed: 0 to 9"):
        calibrate(logits, labels, logits, labels + 1, lipschitz=1.0)


def test_accuracy():
    assert accuracy(np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), np.array([0, 1, 0])) == pytest.approx(2 / 3)

"""Certified radii in one call, and the public names of lipscale."""

import csv
import math
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

import lipscale
from lipscale import cli
from lipscale.certification.certificate import certificate, certified_radii
from lipscale.errors import LipscaleError

SHAPE = (2, 4, 4)


@pytest.fixture
def plain() -> lipscale.PlainNetwork:
    torch.manual_seed(0)
    network = nn.Sequential(lipscale.Centre(2), nn.Flatten(), nn.Linear(32, 16), lipscale.GroupSort2(), nn.Linear(16, 5))
    return lipscale.export(network, SHAPE)


def pictures(count: int = 50) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8)


def test_certification(plain):
    images = pictures()
    labels = np.arange(50) % 5
    found = lipscale.certify(plain, images, labels)
    logits = plain.double()(torch.from_numpy(images).double() / 255).numpy()
    assert np.array_equal(found.logits, logits)
    assert found.logits.dtype == np.float64
    margins, radii, pair_radii = certified_radii(logits, labels, certificate(plain))
    assert np.array_equal(found.radii, radii)
    assert np.array_equal(found.pair_radii, pair_radii)
    assert np.array_equal(found.margins, margins)
    assert (found.lipschitz, found.lipschitz_certified) == (plain.lipschitz, plain.lipschitz)
    assert found.accuracy() == (found.predictions == labels).mean() > 0
    assert found.accuracy(9) == (radii >= 9 / 255).mean()
    assert found.accuracy(9, pairs=True) == (pair_radii >= 9 / 255).mean()
    assert 0 < found.accuracy(9) <= found.accuracy(9, pairs=True) < 1


def test_the_network_stays_as_it_is(plain):
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    lipscale.certify(plain, pictures())
    assert all(
        tensor.dtype == torch.float32 and torch.equal(tensor, before[name]) for name, tensor in plain.state_dict().items()
    )


def test_without_labels_predictions_are_certified(plain):
    found = lipscale.certify(plain, pictures())
    assert found.labels is None
    labelled = lipscale.certify(plain, pictures(), found.predictions)
    assert np.array_equal(found.radii, labelled.radii)
    assert 0 < found.share_decided(9) == labelled.accuracy(9) < 1
    assert found.share_decided(9, pairs=True) == labelled.accuracy(9, pairs=True)
    with pytest.raises(LipscaleError, match="without labels there is no accuracy; allowed: share_decided"):
        found.accuracy()
    with pytest.raises(LipscaleError, match="allowed: accuracy"):
        labelled.share_decided(9)


@pytest.mark.parametrize("epsilon", [-1, -1e-300, math.nan])
def test_budgets_below_0_are_refused(plain, epsilon):
    """The radius of a wrong prediction, 0, is not below them, so that all images would count as certified."""
    with pytest.raises(LipscaleError, match=f"epsilon is {epsilon}; allowed: a number above 0"):
        lipscale.certify(plain, pictures(), np.zeros(50, int)).accuracy(epsilon)
    with pytest.raises(LipscaleError, match="allowed: a number above 0"):
        lipscale.certify(plain, pictures()).share_decided(epsilon)


@pytest.mark.parametrize("labels", [None, np.arange(50) % 5], ids=["unlabelled", "labelled"])
def test_the_command_writes_labels_only_where_there_are_any(plain, labels, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    lipscale.save(plain, "model.safetensors")
    np.savez("images.npz", images=pictures(), **({} if labels is None else {"labels": labels}))
    assert cli.main(["certify", "model.safetensors", "images.npz", "--output", "radii.csv", "--epsilons", "9"]) == 0
    printed = dict(line.split(",") for line in capsys.readouterr().out.splitlines())
    found = lipscale.certify(plain, pictures(), labels)
    with open("radii.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ([""] * 50 if labels is None else [str(label) for label in labels])
    assert [row["prediction"] for row in rows] == [str(prediction) for prediction in found.predictions]
    assert [float(row["radius"]) for row in rows] == found.radii.tolist()
    assert ("clean_accuracy" in printed, "certified_9" in printed, "decided_9" in printed) == (
        (False, False, True) if labels is None else (True, True, False)
    )


@pytest.mark.parametrize("epsilon", ["0", "-36"])
def test_the_command_refuses_budgets_of_0_and_below(epsilon, capsys):
    assert cli.main(["certify", "model.safetensors", "images.npz", "--epsilons", epsilon]) == 1
    assert f"--epsilons is {epsilon}; allowed: 1 or more, in 1/255" in capsys.readouterr().err


@pytest.mark.parametrize(
    "convert", [torch.from_numpy, lambda images: images / 255, lambda images: torch.from_numpy(images) / 255]
)
def test_images_may_be_tensors_and_floating(plain, convert):
    expected, found = lipscale.certify(plain, pictures()), lipscale.certify(plain, convert(pictures()))
    assert found.radii == pytest.approx(expected.radii, rel=1e-4)


def test_nothing_is_certified_without_constraint(plain):
    plain.lipschitz = math.inf
    found = lipscale.certify(plain, pictures())
    assert found.lipschitz == math.inf
    assert (found.radii == 0).all()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 3, 4, 4), np.uint8), None, r"shape \(3, 4, 4\); allowed: \(2, 4, 4\), as the network's have"),
        (np.zeros(SHAPE, np.uint8), None, r"allowed: \(images, channels, height, width\)"),
        (np.full((2, *SHAPE), 1.5), None, r"pixels outside \[0, 1\]"),
        (np.full((2, *SHAPE), np.nan), None, r"pixels outside \[0, 1\]"),
        (np.zeros((2, *SHAPE), np.int64), None, "int64; allowed"),
        (np.zeros((0, *SHAPE), np.uint8), None, "allowed: "),
        (np.zeros((2, *SHAPE), np.uint8), [0], "a class number for each image"),
        (np.zeros((2, *SHAPE), np.uint8), [0.0, 1.0], "a class number for each image"),
        (np.zeros((2, *SHAPE), np.uint8), [0, 5], "label 5; allowed: 0 to 4"),
        (np.zeros((2, *SHAPE), np.uint8), [-1, 0], "label -1; allowed: 0 to 4"),
    ],
)
def test_images_that_cannot_be_certified_are_refused(plain, images, labels, message):
    with pytest.raises(LipscaleError, match=message):
        lipscale.certify(plain, images, labels)


@pytest.mark.parametrize("lipschitz", [None, math.inf])
def test_the_command_prints_certified_calibration(plain, tmp_path, capsys, lipschitz):
    if lipschitz:
        plain.lipschitz = lipschitz
    images, labels = pictures(), np.arange(50) % 5
    lipscale.save(plain, tmp_path / "model.safetensors")
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    assert cli.main(["certify", str(tmp_path / "model.safetensors"), str(tmp_path / "images.npz"), "--epsilons", "1", "9"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    about_images = ("image_shape", "classes", "pixels", "arithmetic", "preparation_sha256")
    assert tuple(row["quantity"] for row in rows[1:6]) == about_images
    values = {row["quantity"]: float(row["value"]) for row in rows if row["quantity"] not in about_images}
    assert list(values) == [
        *("images", "lipschitz", "lipschitz_certified", "clean_accuracy"),
        *("certified_1", "pair_certified_1", "certified_9", "pair_certified_9"),
        *(f"{measure}_{epsilon}" for epsilon in (1, 9) for measure in ("certified_nll", "certified_brier", "worst_case_ece")),
    ]
    found = lipscale.certify(plain, images, labels)
    for epsilon in (1, 9):
        bounds = lipscale.certified_calibration(found.logits, found.labels, found.certificate, epsilon)
        assert values[f"certified_nll_{epsilon}"] == bounds.certified_nll
        assert values[f"certified_brier_{epsilon}"] == bounds.certified_brier
        assert values[f"worst_case_ece_{epsilon}"] == bounds.worst_case_ece
    assert math.isinf(values["certified_nll_9"]) == (lipschitz == math.inf)


def test_the_command_prints_no_calibration_without_labels(plain, tmp_path, capsys):
    lipscale.save(plain, tmp_path / "model.safetensors")
    np.savez(tmp_path / "images.npz", images=pictures())
    assert cli.main(["certify", str(tmp_path / "model.safetensors"), str(tmp_path / "images.npz")]) == 0
    printed = capsys.readouterr().out
    assert "decided_36," in printed
    assert not re.search("nll|brier|ece", printed)


def test_a_network_that_was_not_exported_is_refused():
    with pytest.raises(LipscaleError, match=r"the network is Sequential; allowed: what lipscale\.export or load returns"):
        lipscale.certify(nn.Sequential(nn.Flatten()), pictures())


def test_importing_lipscale_loads_neither_torch_nor_numpy():
    code = "import sys, lipscale; dir(lipscale); sys.exit(bool({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", lipscale.__all__)
def test_public_names_exist_and_are_documented(name):
    value = getattr(lipscale, name)
    assert name in dir(lipscale)
    assert name == "__version__" or value.__doc__


def test_other_names_do_not_exist():
    with pytest.raises(AttributeError, match="module 'lipscale' has no attribute 'unknown'"):
        _ = lipscale.unknown

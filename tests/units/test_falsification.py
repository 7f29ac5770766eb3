"""Falsification: attacks on certified images at their own radii."""

import math
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import synthetic
from lipscale import cli
from lipscale.attacks import at_own_radius, falsification
from lipscale.attacks.certified_images import find_certified
from lipscale.attacks.falsification import COLUMNS, Options, falsify, falsify_dataset
from lipscale.certification.certify import certify
from lipscale.certification.model_file import save
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.errors import LipscaleError
from lipscale.store import checksums

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset():
    """A data set of the network's own predictions, one label of eight wrong."""
    splits = {}
    for seed, split in enumerate(falsification.SPLITS_IN_ORDER):
        images = synthetic.images(20, seed)
        everything = find_certified(synthetic.network().double(), [(split, images, None)], 20, 0, CPU)
        labels = np.full(20, 5)
        labels[everything.index] = everything.labels
        labels[::8] = (labels[::8] + 1) % 6
        splits[split] = (images, labels)
    return SimpleNamespace(images=lambda split: splits[split][0], labels=lambda split: splits[split][1])


@pytest.fixture
def quick(monkeypatch):
    """PGD alone, and a short one."""
    monkeypatch.setattr(at_own_radius, "PGD_STEPS", 20)
    monkeypatch.setattr(falsification, "attacks", lambda classes: {"pgd": at_own_radius.attacks(classes)["pgd"]})


def test_nothing_is_broken_and_all_is_reported(dataset, monkeypatch):
    synthetic.ask_less(monkeypatch)
    found = falsify_dataset(synthetic.network(), dataset, Options(images=24, batch_size=16), name="toy")
    rows, summary = found.rows, found.summary
    assert len(rows) == summary["images"] == 24
    assert all(tuple(row) == COLUMNS for row in rows)
    assert all(0 < row["radius"] <= row["pair_radius"] for row in rows)
    assert not found.broken
    assert summary["broken"] == 0
    assert summary["attacks"] == ["apgd-ce", "apgd-t", "fab-t", "square", "pgd"]
    assert summary["per_split"]["test"] < 20 < summary["per_split"]["test"] + summary["per_split"]["validation"]
    assert summary["per_split"]["train"] == 0
    assert len({(row["split"], row["index"]) for row in rows}) == 24
    assert 0.0009 <= summary["smallest_margin_left"] <= summary["median_margin_left"] < 0.9
    assert summary["device"] == "cpu"
    found.check()


def test_arrays_of_ones_own(quick):
    """uint8 and pixels in [0, 1], arrays and tensors, labels and the network's own predictions: the same rows."""
    network, images = synthetic.network(), synthetic.images(12)
    found = falsify(network, images)
    assert found.summary["per_split"] == {"images": len(found.rows)}
    labels = torch.zeros(12, dtype=torch.int32)
    index = [row["index"] for row in found.rows]
    labels[index] = torch.from_numpy(certify(network, images).predictions)[index].int()
    labelled = falsify(network, torch.from_numpy(images), labels).rows
    assert [row["label"] for row in labelled] == labels[index].tolist()
    assert [row | {"label": None} for row in labelled] == found.rows
    for same in (
        falsify(network, images / 255),
        falsify(network, images, images_at_most=12, batch_size=12, seed=0, device="cpu"),
    ):
        assert same.rows == found.rows
    assert len(falsify(network, images, images_at_most=3).rows) == 3


def test_a_certificate_that_claims_too_much_is_broken(quick):
    """Radii 50 times too large."""

    network, images = synthetic.network(), synthetic.images(12)
    certified = find_certified(synthetic.network().double(), [("images", images, None)], 12, 0, CPU)
    far = falsification.Certified(
        *(getattr(certified, name) for name in ("split", "index", "images", "labels", "margins")),
        radii=certified.radii * 50,
        pair_radii=certified.pair_radii * 50,
    )
    attacks = {name: at_own_radius.attacks(6)[name] for name in ("apgd-ce", "fab-t")}
    with falsification.bar(name="test", total=100, unit="image") as progress:
        rows = falsification._attack_batch(network, synthetic.network().double(), far, attacks, CPU, 0, progress)
    found = falsification.Falsification("toy", rows, {})
    assert found.broken
    assert {row["broken_by"] for row in found.broken} <= set(attacks)
    with pytest.raises(LipscaleError, match=r"the certificate of toy is broken for images images \d+ \((apgd|fab)"):
        found.check()


def test_a_network_that_certifies_nothing():
    network = synthetic.network()
    network.lipschitz = math.inf
    with pytest.raises(LipscaleError, match="toy certifies none of the images, so there is nothing to attack"):
        falsify(network, synthetic.images(4), name="toy")


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-20])
def test_a_network_that_is_constant(size):
    specification = [{"layer": "flatten"}, {"layer": "dense", "in_features": 64, "out_features": 3, "bias": True}]
    network = PlainNetwork(specification, 1.0, synthetic.SHAPE)
    network[1].weight.fill_(size)
    network[1].weight[1:] = 0
    network[1].bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    with pytest.raises(LipscaleError, match="toy predicts the same class for every image"):
        falsify(network, synthetic.images(4), name="toy")


def test_data_that_do_not_fit_the_network(dataset):
    network, images = synthetic.network(), synthetic.images(4)
    with pytest.raises(LipscaleError, match="the images have label 6; allowed: 0 to 5"):
        falsify(network, images, np.array([0, 1, 2, 6]))
    with pytest.raises(LipscaleError, match="the images have label 5; allowed: 0 to 2"):
        falsify_dataset(synthetic.network(classes=3), dataset, Options())
    with pytest.raises(LipscaleError, match=r"the images have shape \(1, 8, 9\); allowed: \(1, 8, 8\)"):
        falsify(network, np.zeros((4, 1, 8, 9), np.uint8))
    with pytest.raises(LipscaleError, match="pixels outside"):
        falsify(network, images.astype(np.float32))
    with pytest.raises(LipscaleError, match="the images are int64; allowed: uint8, float32 or float64"):
        falsify(network, images.astype(np.int64))
    with pytest.raises(LipscaleError, match=r"the network is Linear; allowed: what lipscale\.export or load returns"):
        falsify(torch.nn.Linear(64, 6), images)


@pytest.fixture
def files_of_a_user(tmp_path, monkeypatch):
    """A network and unlabelled images for it in the current folder."""
    monkeypatch.chdir(tmp_path)
    save(synthetic.network(), "model.safetensors")
    np.savez("images.npz", images=synthetic.images(6))
    return tmp_path


def falsify_command(*arguments: str) -> int:
    return cli.main(["falsify", *arguments, "--data", "images.npz"])


def test_two_models_that_would_write_the_same_files_are_refused(files_of_a_user, capsys):
    shutil.copy("model.safetensors", "model.other")
    assert falsify_command("model.safetensors", "model.other") == 1
    assert "two models would write model-falsification.csv; allowed: one at a time" in capsys.readouterr().err


def test_two_models_in_a_folder_have_their_own_results(files_of_a_user, quick):
    save(synthetic.network(seed=1), "other.safetensors")
    assert falsify_command("model.safetensors", "other.safetensors") == 0
    written = {path.name for path in files_of_a_user.glob("*-falsification.*")}
    assert written == {f"{name}-falsification{suffix}" for name in ("model", "other") for suffix in (".csv", ".json")}
    assert pd.read_csv("model-falsification.csv")["label"].isna().all()  # the images have none


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_results_with_a_checksum_are_not_overwritten(files_of_a_user, suffix, capsys):
    path = files_of_a_user / f"falsification{suffix}"
    path.write_text("a result")
    checksums.record(path)
    assert falsify_command("model.safetensors", "--output", "falsification") == 1
    assert f"falsification{suffix} belongs to the results of an experiment (it has a checksum)" in capsys.readouterr().err
    assert cli.main(["certify", "model.safetensors", "images.npz", "--output", path.name]) == 1
    assert checksums.checked(path).read_text() == "a result"

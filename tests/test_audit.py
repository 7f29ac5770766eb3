"""The audit: attacks on certified images at their own radii."""

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import TINY, lipscale
from lipscale import config as configs
from lipscale.attacks import falsification as audit
from lipscale.certification import export
from lipscale.data.dataset import Dataset
from lipscale.store import files
from lipscale.training import loop as training

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory, digits):
    folder = tmp_path_factory.mktemp("audited")
    settings = [run for run in configs.runs(configs.check(TINY)) if run["run"] == "fixed-1-seed0"]
    training.train(settings[0], Dataset(digits), folder / "fixed-1-seed0")
    lipscale("audit", folder / "fixed-1-seed0", "--data", digits, "--images", 305, "--batch-size", 305)
    return folder / "fixed-1-seed0"


def test_nothing_is_broken_and_all_is_reported(run):
    rows, summary = pd.read_csv(run / "audit.csv"), files.read_json(run / "audit.json")
    assert len(rows) == summary["images"] == 305
    assert (rows["radius"] > 0).all()
    assert rows["broken_by"].isna().all()
    assert summary["broken"] == 0
    assert summary["attacks"] == ["apgd-ce", "apgd-t", "fab-t", "square", "pgd"]
    assert summary["per_split"]["test"] < 300 < summary["per_split"]["test"] + summary["per_split"]["validation"]
    assert not rows.duplicated(["split", "index"]).any()


def test_attacks_come_close(run):
    """No attack within 0.999 R can leave less than a share of about 0.001, and a strong one leaves hardly more where the
    certificate is tight; that of a network with L = 1, which uses all of it, is."""
    rows = pd.read_csv(run / "audit.csv")
    left = rows["margin_left"]
    # float32 may put 64 pixels 64 * 2^-23 beyond the budget, which is less than a share of 0.0001 of these radii
    assert left[rows["radius"] > 0.08].min() >= 0.0009
    assert left.median() < 0.5


def test_every_perturbation_stays_within_its_budget(run, digits):
    """Each attack yields points in the pixel range, not farther than 0.999 of the radius, but for float32."""
    network, dataset = export.load(run / "model.safetensors"), Dataset(digits)
    exact = export.load(run / "model.safetensors").double()
    place = torch.device("cpu")
    batch = audit.find_certified(exact, dataset, audit.Options(20, 20, 0), place)
    pixels = torch.from_numpy(batch.images).double() / 255
    # 64 pixels of float32, whose images, steps and projections are each off by some units in the last place, 6e-8
    slack = 64 * 2.0**-23
    for name, function in audit._attacks(10):
        count = 0
        for found in function(audit.Calibrated(network, 1.0), exact, batch, place, 0):
            count += 1
            norms = (found.double() - pixels).flatten(1).norm(dim=1).numpy()
            assert (norms <= audit.SHARE * batch.pair_radii * (1 + slack) + slack).all(), name
            assert found.min() >= 0, name
            assert found.max() <= 1, name
        assert count == {"apgd-ce": 2, "apgd-t": 18, "fab-t": 9, "square": 1, "pgd": 2}[name]


def test_without_certified_images_there_is_nothing_to_attack(run, digits, tmp_path):
    network = export.load(run / "model.safetensors")
    network.lipschitz = np.inf
    export.save(network, tmp_path / "model.safetensors")
    said = lipscale("audit", tmp_path / "model.safetensors", "--data", digits, check=False)
    assert said.returncode == 1
    assert "certifies no image" in said.stderr

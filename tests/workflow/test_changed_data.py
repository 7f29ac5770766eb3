"""Images that are newer than what was prepared from them."""

import os
import shutil
from pathlib import Path

import pytest

from conftest import snakemake
from image_folders import tree, write_folder

pytestmark = pytest.mark.slow

MODEL = "results/pictures/runs/list-1-seed0/model.safetensors"
LOGITS = "results/pictures/runs/list-1-seed0/logits.npz"
ATTACKED = "results/pictures/runs/list-1-seed0/attack.csv"


def config(images: Path) -> dict:
    return {
        "experiment": "pictures",
        "dataset": {"name": "imagefolder", "path": str(images), "validation_images": 2, "image_size": 8},
        "network": {"architecture": "mlp", "widths": [4]},
        "training": {"epochs": 1, "batch_size": 4, "learning_rate": 0.01},
        "runs": {"seeds": [0], "list_initial_lipschitz": [1], "fixed_lipschitz": [4]},
        "evaluation": {"epsilons": [36], "attack_images": 2, "spot_check_images": 0, "attack_batch_size": 2},
        "figures": {"posthoc_lipschitz": 4},
    }


def test_networks_outlive_a_copy_of_their_images_and_their_removal(tmp_path):
    images = write_folder(tmp_path / "images", tree())
    snakemake(tmp_path, config(images), "--cores", 1, "--", MODEL)
    model = tmp_path / MODEL
    written = model.stat().st_mtime_ns
    os.utime(images)  # as of a copy
    said = snakemake(tmp_path, config(images), "--cores", 1, "--", LOGITS).stdout
    assert f"{images} is newer than results/pictures/data, which was made from it and is used as it is;" in said
    assert ("rule evaluate" in said, "rule train" in said, "rule prepare_data" in said) == (True, False, False)
    assert model.stat().st_mtime_ns == written
    assert (tmp_path / LOGITS).exists()
    shutil.rmtree(images)
    said = snakemake(tmp_path, config(images), "--cores", 1, "--dry-run", "--", ATTACKED).stdout
    assert ("rule attack" in said, "rule train" in said, "rule prepare_data" in said) == (True, False, False)

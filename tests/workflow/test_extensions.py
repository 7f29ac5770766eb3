"""A data set, an objective and a figure, each in one file outside the tree, go through the workflow, with convolutions.

So do a run with an offset, and a run whose validation split is returned to training.
"""

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from conftest import lipscale, snakemake
from lipscale.store.checksums import record

pytestmark = pytest.mark.slow

SOURCE = '''"""Noise: images of two classes, bright and dark."""

from typing import Literal

from lipscale.settings import Count, NonNegative, Settings as Section


class Settings(Section):
    name: Literal["noise"] = "noise"
    path: str | None = None
    validation_images: Count
    test_images: Count
    split_seed: NonNegative = 0

    def image_shape(self):
        return (1, 16, 16)


def load(settings):
    import numpy as np

    from lipscale.data.dataset import Split
    from lipscale.data.source import Source

    generator = np.random.default_rng(0)
    labels = np.arange(400, dtype=np.int64) % 2
    images = generator.integers(0, 160, (400, 1, 16, 16)) + 60 * labels[:, None, None, None]
    return Source(classes=["dark", "bright"], train=Split(images.astype(np.uint8), labels), test=None, origin={"noise": 0})
'''
OBJECTIVE = '''"""Cross-entropy with a squared penalty on logits."""

from typing import Literal

from lipscale.settings import Positive
from lipscale.training.objectives.base import ObjectiveSettings


class Settings(ObjectiveSettings):
    name: Literal["penalised"] = "penalised"
    weight: Positive = 0.01


def loss(forward, images, labels, settings, lipschitz):
    from torch.nn.functional import cross_entropy

    logits = forward(images)
    return cross_entropy(logits, labels) + settings.weight * logits.square().mean()
'''
FIGURE = '''"""Final L of each run."""

from matplotlib import pyplot as plt

TITLE = "final L"
TABLES = ["runs"]


def draw(tables):
    numbers = tables.runs[["run", "lipschitz"]]
    figure, axes = plt.subplots()
    axes.bar(numbers["run"], numbers["lipschitz"])
    return figure, numbers
'''
CONFIG = {
    "experiment": "toys",
    "dataset": {"name": "noise", "validation_images": 100, "test_images": 100},
    "network": {"architecture": "convnet", "patch": 1, "depth": 1, "channels": [4, 8], "widths": [8]},
    "training": {"epochs": 3, "batch_size": 50, "learning_rate": 0.02, "objective": {"name": "penalised", "weight": 0.001}},
    "runs": {
        "seeds": [0],
        "list_initial_lipschitz": [1],
        "fixed_lipschitz": [10],
        "unconstrained_learning_rate": 0.01,
        "variants": [
            {"calibration_data": "restart", "fixed_lipschitz": [10]},
            {"objective": "cross_entropy", "offsets": [36], "list_initial_lipschitz": [1]},
        ],
    },
    # far enough for every image to fall to the first stages of AutoAttack, as it is the steps that matter here
    "evaluation": {"epsilons": [2000], "attack_images": 6, "spot_check_images": 1, "attack_batch_size": 6},
    "compute": {"pack": True},
}


@pytest.fixture(scope="module")
def extensions(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("extensions")
    for name, text in {
        "sources/noise.py": SOURCE,
        "objectives/penalised.py": OBJECTIVE,
        "figures/final.py": FIGURE,
        "figures/final.rst": "Final L of each run.\n",
    }.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_parts_in_one_file_each_outside_the_tree(extensions, tmp_path, monkeypatch):
    monkeypatch.setenv("LIPSCALE_EXTENSIONS", str(extensions))
    snakemake(tmp_path, CONFIG, "--cores", 2)
    results = tmp_path / "results" / "toys"
    runs = pd.read_csv(results / "tables" / "runs.csv")
    assert set(runs["method"]) == {"list", "fixed", "unconstrained"}
    assert (runs["clean_accuracy"] > 0.7).all()
    assert pd.read_csv(results / "figures" / "final.csv")["run"].tolist() == runs["run"].tolist()

    returned = runs["variant"].str.endswith("-restart")
    assert returned.sum() == 1
    assert (runs["temperature"].isna() == returned).all()
    assert (runs["ece_scaled"].isna() == returned).all()
    history = pd.read_csv(results / "runs" / runs["run"][returned].iloc[0] / "history.csv")
    assert history["returned"].tolist() == [0] * 3 + [1] * 3

    snakemake(tmp_path, CONFIG, "--report", tmp_path / "report.zip")
    names = subprocess.run(["unzip", "-l", tmp_path / "report.zip"], capture_output=True, text=True, check=False).stdout
    assert not names or "final" in names

    runs.assign(commit="a" * 40).to_csv(results / "tables" / "runs.csv", index=False)
    record(results / "tables" / "runs.csv")
    lipscale("publish", results, "--folder", tmp_path / "published", "--command", "snakemake")
    assert (tmp_path / "published" / "final.png").exists()
    shutil.rmtree(results)

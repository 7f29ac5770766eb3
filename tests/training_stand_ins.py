"""Small stand-ins for `config.Run`, and the digits in memory, so that training is tested without files."""

from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from sklearn.datasets import load_digits

from lipscale.data.dataset import Dataset, Split
from lipscale.training.epochs import Training
from lipscale.training.objectives import cross_entropy

CPU = torch.device("cpu")


class Section(SimpleNamespace):
    """Values by attribute."""

    def __getitem__(self, name):
        return getattr(self, name)


DEFAULTS = {
    "network": {"architecture": "mlp", "family": "orthogonal", "widths": [16], "bias": True, "allocation": "softmax"},
    "training": {
        "epochs": 6,
        "batch_size": 128,
        "learning_rate": 0.02,
        "divide_loss": False,
        "augmentation": "none",
        "objective": cross_entropy.Settings(),
        "offset": 0.0,
        "offset_unit": "input",
        "calibration_data": "none",
    },
    "feedback": {
        "warmups": 0,
        "updates_per_epoch": 1,
        "largest_step": 10.0,
        "lowest_lipschitz": 1e-4,
        "highest_lipschitz": 1e5,
    },
    "compute": {"device": "cpu", "threads": 1, "precision": "float32", "compile": False, "accumulate": 1, "in_memory_gib": 2},
}


def make_run(method: str = "list", initial_lipschitz: float = 0.1, **changes: dict) -> Section:
    """A run of 10 steps an epoch; `changes` replace values of its sections."""
    sections = {name: Section(**values | changes.get(name, {})) for name, values in DEFAULTS.items()}
    return Section(run=f"{method}-test", method=method, initial_lipschitz=initial_lipschitz, seed=0, **sections)


@cache
def digits() -> Dataset:
    """scikit-learn's digits: 1,197 images to train, 300 to validate."""
    images, labels = load_digits(return_X_y=True)
    images = np.round(images * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = labels.astype(np.int64)
    parts = {"train": slice(600, None), "validation": slice(300, 600)}
    splits = {name: Split(images[part], labels[part]) for name, part in parts.items()}
    mean = [float(images[600:].mean(dtype=np.float64)) / 255]
    return Dataset(splits, [str(label) for label in range(10)], mean, (1, 8, 8))


def make_training(*arguments, **changes) -> Training:
    """The start of the run that `make_run` makes."""
    return Training(make_run(*arguments, **changes), digits(), CPU)


def without_seconds(rows: list[dict]) -> list[dict]:
    """What two runs of the same settings share."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]

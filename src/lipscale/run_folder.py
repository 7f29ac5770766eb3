"""Reading the files of a run's folder; needs numpy and nothing heavier."""

from pathlib import Path

import numpy as np

from lipscale import files


def read_settings(folder: Path) -> dict:
    """The settings of the run, as `train` got them. Raises LipscaleError where they cannot be read."""
    return files.read_yaml(folder / "config.yaml")


def read_logits(folder: Path) -> dict[str, np.ndarray]:
    """validation_logits and test_logits, float64 (images, classes); validation_labels and test_labels, int64 (images,)."""
    return files.read_arrays(folder / "logits.npz")


def final_lipschitz(folder: Path) -> float:
    """The L that the trained network enforces: what the update after the last epoch set."""
    return float(files.read_rows(folder / "history.csv")[-1]["next_lipschitz"])

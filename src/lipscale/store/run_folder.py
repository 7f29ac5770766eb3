"""Reading the sealed files of a run's folder; needs numpy and nothing heavier."""

from pathlib import Path

import numpy as np

from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.store.checksums import checked

PARTIAL = "attack-partial.json"  # verdicts of an attack that has not ended, or whose outputs nobody has read yet


def read_settings(folder: Path) -> dict:
    """The settings of the run, as `train` got them. Raises LipscaleError where they cannot be read."""
    return files.read_yaml(checked(folder / "config.yaml"))


def read_logits(folder: Path) -> dict[str, np.ndarray]:
    """validation_logits and test_logits, float64 (images, classes); validation_labels and test_labels, int64 (images,)."""
    return files.read_arrays(checked(folder / "logits.npz"))


def check_data(folder: Path, sha256: str) -> None:
    """Raises LipscaleError where the run was trained on other data than those with this checksum."""
    if files.read_json(checked(folder / "provenance.json"))["data_sha256"] != sha256:
        raise LipscaleError(f"run {folder.name} was trained on other data; remove its folder, and it is trained anew")


def read_radii(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Radii and pair radii of the test images, float64 (images,)."""
    rows = files.read_rows(checked(folder / "radii.csv"))
    return tuple(np.array([float(row[name]) for row in rows]) for name in ("radius", "pair_radius"))


def final_lipschitz(folder: Path) -> float:
    """The L that the trained network enforces: what the update after the last epoch set."""
    return float(files.read_rows(checked(folder / "history.csv"))[-1]["next_lipschitz"])

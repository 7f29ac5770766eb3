"""Reading the sealed files of a run's folder; needs numpy and nothing heavier."""

from functools import cached_property
from pathlib import Path

import numpy as np

from lipscale import config
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


class ExperimentFolder:
    """Stand-in for the coming one, with the same names."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.data = self.path / "data"
        self.tables = self.path / "tables"
        self.figures = self.path / "figures"

    @cached_property
    def config(self):
        return config.check(files.read_yaml(checked(self.path / "config.yaml")))

    def run(self, name: str) -> "RunFolder":
        return RunFolder(self.path / "runs" / name)

    @cached_property
    def runs(self) -> list["RunFolder"]:
        return [self.run(run.run) for run in config.runs(self.config)]


class RunFolder:
    """Stand-in for the coming one, with the same names."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.name = self.path.name

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def experiment(self) -> ExperimentFolder:
        return ExperimentFolder(self.path.parent.parent)

    @property
    def data(self) -> Path:
        return self.experiment.data

    @cached_property
    def settings(self):
        return config.check_run(files.read_yaml(checked(self / "config.yaml")))

    def json(self, name: str) -> dict:
        return files.read_json(checked(self / name))

    def rows(self, name: str) -> list[dict[str, str]]:
        return files.read_rows(checked(self / name))

    def final_lipschitz(self) -> float:
        return float(self.rows("history.csv")[-1]["next_lipschitz"])

    def check_data(self) -> str:
        sha256 = files.read_json(checked(self.data / "manifest.json"))["arrays_sha256"]
        if self.json("provenance.json")["data_sha256"] != sha256:
            raise LipscaleError(f"run {self.name} was trained on other data; delete its folder and rerun the workflow")
        return sha256

"""Where the files of an experiment lie, and reading those of a run. Needs numpy and nothing heavier."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

from lipscale import config
from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.store.checksums import checked
from lipscale.store.manifest import read_manifest

PARTIAL = "attack-partial.json"  # verdicts of an attack that has not ended, or whose outputs nobody has read yet
SHARDS = "attack-shards"  # the folder of the parts of an attack that is split over jobs (compute.shards)
LOGITS_SHARDS = "logits-shards"  # the same for the evaluation
CALIBRATION_SHARDS = "calibration-attack-shards"  # the same for the attack on calibration
PARTIAL_CALIBRATION = "calibration-attack-partial.npz"  # what an attack on calibration has finished


class ExperimentFolder:
    """results/<experiment>: `config.yaml` (checked, defaults filled in), `data/`, `runs/`, `tables/`, `figures/`, `pages/`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.data = self.path / "data"
        self.tables = self.path / "tables"
        self.figures = self.path / "figures"

    @cached_property
    def config(self) -> config.Experiment:
        """Raises LipscaleError where it cannot be read."""
        return config.check(files.read_yaml(checked(self.path / "config.yaml")))

    def run(self, name: str) -> "RunFolder":
        return RunFolder(self.path / "runs" / name)

    @cached_property
    def runs(self) -> list["RunFolder"]:
        """The folders of the runs that the config asks for, in its order."""
        return [self.run(run.run) for run in config.runs(self.config)]


class RunFolder:
    """results/<experiment>/runs/<run>: the files of one run, checked when they are read.

    Raises (all readers):
        LipscaleError: a file is missing, altered or of other data.
    """

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
    def settings(self) -> config.Run:
        """The checked config of the run."""
        return config.check_run(files.read_yaml(checked(self / "config.yaml")))

    def logits_shards(self) -> list[Path]:
        """The logits that each of the compute.shards jobs, counted from 1, computed of the run."""
        shards = self.settings.compute.shards
        return [self / LOGITS_SHARDS / f"{number}of{shards}.npz" for number in range(1, shards + 1)]

    def shard(self, epsilon: int, number: int) -> Path:
        """The verdicts of one of the compute.shards jobs, counted from 1, that attack the run at an epsilon."""
        return self / SHARDS / f"{epsilon}-{number}of{self.settings.compute.shards}.json"

    def shards(self, epsilons: Iterable[int]) -> list[Path]:
        """Those of all jobs at some epsilons."""
        numbers = range(1, self.settings.compute.shards + 1)
        return [self.shard(epsilon, number) for epsilon in epsilons for number in numbers]

    def calibration_shard(self, number: int) -> Path:
        """What one of the compute.shards jobs, counted from 1, found that attack the calibration of the run."""
        return self / CALIBRATION_SHARDS / f"{number}of{self.settings.compute.shards}.npz"

    def calibration_shards(self) -> list[Path]:
        """Those of all jobs."""
        return [self.calibration_shard(number) for number in range(1, self.settings.compute.shards + 1)]

    def json(self, name: str) -> dict:
        return files.read_json(checked(self / name))

    def rows(self, name: str) -> list[dict[str, str]]:
        return files.read_rows(checked(self / name))

    def logits(self) -> dict[str, np.ndarray]:
        """validation_logits and test_logits, float64 (images, classes); validation_labels and test_labels, int64 (images,)."""
        return files.read_arrays(checked(self / "logits.npz"))

    def radii(self) -> tuple[np.ndarray, np.ndarray]:
        """Radii and pair radii of the test images, float64 (images,)."""
        rows = self.rows("radii.csv")
        return tuple(np.array([float(row[name]) for row in rows]) for name in ("radius", "pair_radius"))

    def final_lipschitz(self) -> float:
        """The L that the trained network enforces: what the update after the last epoch set."""
        return float(self.rows("history.csv")[-1]["next_lipschitz"])

    @property
    def held_out(self) -> bool:
        """Whether the network was never trained on the validation split; if it was, no temperature can be fitted there."""
        return self.rows("history.csv")[-1].get("returned", "0") != "1"

    def temperature(self) -> float:
        """What logits are divided by to be calibrated: T* of calibration.json, or 1 where none could be fitted."""
        temperature = self.json("calibration.json")["temperature"]
        return 1.0 if temperature is None else temperature

    def check_data(self) -> str:
        """The checksum of the data set. Raises LipscaleError where the run was trained on other data."""
        sha256 = read_manifest(self.data)["arrays_sha256"]
        if self.json("provenance.json")["data_sha256"] != sha256:
            raise LipscaleError(f"run {self.name} was trained on other data; delete its folder and rerun the workflow")
        return sha256

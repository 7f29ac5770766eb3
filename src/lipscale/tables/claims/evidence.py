"""What a measure of a claim gets: the settings of an experiment, and accuracies and ECE of each on the same test images."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lipscale.config.runs import STANDARD
from lipscale.errors import LipscaleError
from lipscale.evaluation.metrics import BINS
from lipscale.tables.claims.quantities import Sampled, Undecided
from lipscale.tables.reader import Tables
from lipscale.units import distance

REPLICATES = 1000


class NoRuns(Exception):
    """The experiment has no runs that a claim is about."""


@dataclass(frozen=True)
class Setting:
    """The runs that share all but their seed.

    Attributes:
        runs: their rows of runs.csv by seed.
    """

    name: str
    method: str
    variant: str
    initial_lipschitz: float
    offset: float
    runs: pd.DataFrame

    def column(self, name: str, function: Callable = np.asarray) -> Sampled:
        """A column of runs.csv, in which no test images are involved. Raises Undecided where it is missing."""
        if name not in self.runs or self.runs[name].isna().any():
            raise Undecided(f"runs.csv has no {name}")
        return Sampled(tuple(self.runs.index), function(self.runs[name].to_numpy(float)))


class Evidence:
    """The tables of an experiment, for claims.

    Accuracies and calibration errors come from images.csv.gz, so that the sampling of test images is known. All networks are
    measured on the same bootstrap replicates of the test images.

    Args:
        tables: of the experiment.
        replicates: how often test images are resampled.
    """

    def __init__(self, tables: Tables, replicates: int = REPLICATES):
        self.tables = tables
        self._replicates = replicates
        self._measured: dict[tuple[str, str], Sampled] = {}

    @cached_property
    def settings(self) -> list[Setting]:
        """In the order of runs.csv."""
        runs = self.tables.runs
        defaults = {"setting": runs["run"].str.replace(r"-seed\d+$", "", regex=True), "variant": STANDARD, "offset": 0.0}
        runs = runs.assign(**{name: value for name, value in defaults.items() if name not in runs})  # tables of version 0.1
        groups = runs.groupby("setting", sort=False)
        shared = ["method", "variant", "initial_lipschitz", "offset"]
        return [
            Setting(name, *(part[key].iat[0] for key in shared), part.set_index("seed").sort_index()) for name, part in groups
        ]

    def of(self, method: str, offset: float | None = None) -> list[Setting]:
        """The settings of a method with the usual objective, with one offset or with any, by offset and L0.

        Raises NoRuns where there is none.
        """
        usual = self.settings[0].variant  # standard settings come first in every table
        found = [setting for setting in self.settings if setting.method == method and setting.variant == usual]
        found = [setting for setting in found if offset is None or setting.offset == offset]
        if not found:
            raise NoRuns
        return sorted(found, key=lambda setting: (setting.offset, setting.initial_lipschitz))

    def standard(self, method: str) -> list[Setting]:
        """Those with the usual offset too: what the section `runs` of the config lists directly."""
        return self.of(method, self.settings[0].offset)

    def measure(self, setting: Setting, name: str) -> Sampled:
        """`clean_accuracy`, `certified_EPS`, `ece`, `ece_scaled` over all test images; `robust_EPS` and, with `evaluated_`
        before their name, `clean_accuracy` and `certified_EPS` over those that AutoAttack was run on.

        Raises Undecided where images.csv.gz is missing.
        """
        key = (setting.name, name)
        if key not in self._measured:
            measured = [self._of_run(run, name) for run in setting.runs["run"]]
            values, replicates, images = zip(*measured, strict=True)
            found = Sampled(tuple(setting.runs.index), np.array(values), np.array(replicates), min(images))
            self._measured[key] = found
        return self._measured[key]

    def _of_run(self, run: str, name: str) -> tuple[float, np.ndarray, int]:
        """The value of a run, that on each replicate, (replicates,), and the number of images."""
        images = self._images[run]
        if name in ("ece", "ece_scaled"):
            gaps = _gaps(images["scaled_confidence" if name == "ece_scaled" else "confidence"], images["right"])
            sums = np.abs(self._weights @ gaps).sum(axis=1)
            return float(np.abs(gaps.sum(axis=0)).sum()) / len(gaps), sums / len(gaps), len(gaps)
        evaluated = name.startswith(("evaluated_", "robust_"))
        chosen = images["evaluated"] if evaluated else slice(None)
        good = _good(images, name.removeprefix("evaluated_"))[chosen]
        weights = self._weights[:, chosen]
        return float(good.mean()), weights @ good.astype(np.float32) / weights.sum(axis=1), len(good)

    @cached_property
    def _images(self) -> dict[str, dict[str, np.ndarray]]:
        """The columns of images.csv.gz of each run, with `evaluated`; the same images in each."""
        table = images_of(self.tables)
        robust = [name for name in table if name.startswith("robust_")]
        first, found = None, {}
        for run, part in table.sort_values("image", kind="stable").groupby("run", sort=False):
            columns = {name: part[name].to_numpy() for name in ("image", "right", "confidence", "scaled_confidence", "radius")}
            columns |= {name: part[name].to_numpy(float, na_value=np.nan) for name in robust}
            columns["evaluated"] = ~np.isnan(columns[robust[0]]) if robust else np.zeros(len(part), dtype=bool)
            first = columns["image"] if first is None else first
            if not np.array_equal(first, columns["image"]):
                raise LipscaleError(f"images.csv.gz: run {run} has other test images than the first; allowed: the same")
            found[run] = columns
        return found

    @cached_property
    def _weights(self) -> np.ndarray:
        """How often each test image is drawn in each replicate, float32 (replicates, images)."""
        images, generator = len(next(iter(self._images.values()))["image"]), np.random.default_rng(0)
        drawn = (generator.integers(0, images, images) for _ in range(self._replicates))
        return np.array([np.bincount(one, minlength=images) for one in drawn], dtype=np.float32)


def images_of(tables: Tables) -> pd.DataFrame:
    """A row per run and test image. Raises Undecided where there is no such table."""
    if tables.folder.is_dir() and not (tables.folder / "images.csv.gz").exists():
        raise Undecided("images.csv.gz is missing")
    return tables["images"]


def _good(images: dict[str, np.ndarray], name: str) -> np.ndarray:
    if name == "clean_accuracy":
        return images["right"] == 1
    if name.startswith("certified_"):
        return (images["right"] == 1) & (images["radius"] >= distance(int(name.removeprefix("certified_"))))
    return images[name] == 1


def _gaps(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(images, bins): right - confidence of each image in the bin of its confidence, see `evaluation.metrics`."""
    index = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    gaps = np.zeros((len(index), BINS), dtype=np.float32)
    gaps[np.arange(len(index)), index] = right - confidence
    return gaps

"""Confidence intervals at 95 %: of each run, columns NAME_low and NAME_high of runs.csv, and of each setting, intervals.csv.

How they are made is in `lipscale.evaluation.statistics`. All runs draw the same test images in the same replicate.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd

from lipscale.evaluation import statistics
from lipscale.units import distance

DECIMALS = 6
MEANS = ("nll", "nll_scaled", "brier", "brier_scaled")  # of columns of images.csv
ECES = {"ece": "confidence", "ece_scaled": "scaled_confidence"}  # and the column with the confidences
COLUMNS = ("measure", "mean", "low", "high", "seeds", "images")  # of intervals.csv, after those of the setting


@dataclass(frozen=True)
class Sampled:
    """A measure of a run (or its mean over the runs of a setting) in each replicate of the bootstrap.

    Attributes:
        estimate: the measured value.
        samples: (replicates,).
        images: on how many test images it rests.
        bias: by how much noise may raise it, on average; None where the measure is a plain mean.
    """

    estimate: float
    samples: np.ndarray
    images: int
    bias: float | None = None

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The confidence interval."""
        if self.bias is None:
            ends = statistics.interval(self.samples)
        else:
            ends = statistics.ece_interval(self.samples, self.estimate, self.bias)
        return tuple(round(end, DECIMALS) for end in ends)


def sample(images: pd.DataFrame, epsilons: Sequence[int]) -> dict[str, Sampled]:
    """The measures of a run that have an interval, by their columns in runs.csv; without those that rest on a T* it lacks.

    Args:
        images: of the run, see `lipscale.tables.images.join_images`.
        epsilons: budgets of the attack in 1/255.
    """
    right = images["label"] == images["prediction"]
    certified = {epsilon: images["radius"] >= distance(epsilon) for epsilon in epsilons}
    evaluated = images[f"robust_{epsilons[0]}"].notna()
    of_all = {"clean_accuracy": right} | {name: images[name] for name in MEANS if images[name].notna().all()}
    of_all |= {f"certified_{epsilon}": mask for epsilon, mask in certified.items()}
    of_evaluated = {"evaluated_clean_accuracy": right}
    of_evaluated |= {f"evaluated_certified_{epsilon}": mask for epsilon, mask in certified.items()}
    of_evaluated |= {f"robust_{epsilon}": images[f"robust_{epsilon}"] for epsilon in epsilons}
    eces = {
        name: ece_sampled(images[column].to_numpy(), right.to_numpy())
        for name, column in ECES.items()
        if images[column].notna().all()
    }
    return eces | means_sampled(pd.DataFrame(of_all)) | means_sampled(pd.DataFrame(of_evaluated)[evaluated])


def columns(sampled: Mapping[str, Sampled]) -> dict[str, float]:
    """The columns NAME_low and NAME_high of a run."""
    return {
        f"{name}_{end}": value for name, one in sampled.items() for end, value in zip(("low", "high"), one.ends, strict=True)
    }


def setting_rows(runs: pd.DataFrame, sampled: Mapping[str, Mapping[str, Sampled]], names: Sequence[str]) -> Iterator[dict]:
    """The rows of intervals.csv: each measure of each setting, its mean over seeds, and the interval over seeds and images.

    Args:
        runs: the rows of runs.csv.
        sampled: by the name of a run, what `sample` returns.
        names: the columns of `runs` that make a setting.
    """
    for setting, part in runs.groupby(list(names), sort=False):
        key = dict(zip(names, setting, strict=True))
        of_seeds = [sampled[run] for run in part["run"]]
        for measure in of_seeds[0]:
            if not all(measure in one for one in of_seeds):
                continue
            mean = mean_over_seeds([one[measure] for one in of_seeds])
            row = (measure, mean.estimate, *mean.ends, len(of_seeds), mean.images)
            yield key | dict(zip(COLUMNS, row, strict=True))


def mean_over_seeds(seeds: Sequence[Sampled]) -> Sampled:
    """The mean of a measure over the runs of a setting; its replicates draw seeds and images."""
    bias = None if seeds[0].bias is None else float(np.mean([one.bias for one in seeds]))
    estimate = float(np.mean([one.estimate for one in seeds]))
    return Sampled(estimate, statistics.over_seeds(np.stack([one.samples for one in seeds])), seeds[0].images, bias)


def means_sampled(values: pd.DataFrame) -> dict[str, Sampled]:
    """The means of columns, a row per image."""
    numbers = values.to_numpy(dtype=float)
    samples = statistics.weighted_mean(numbers, _weights(len(numbers)))
    return {
        name: Sampled(float(column.mean()), replicates, len(numbers))
        for name, column, replicates in zip(values, numbers.T, samples.T, strict=True)
    }


def ece_sampled(confidences: np.ndarray, right: np.ndarray) -> Sampled:
    """ECE from the top confidence of each image, and whether it is right, (images,)."""
    once = np.ones((1, len(right)))
    estimate, samples = (statistics.weighted_ece(confidences, right, weights) for weights in (once, _weights(len(right))))
    return Sampled(float(estimate[0]), samples, len(right), statistics.ece_bias(confidences, right))


@lru_cache(maxsize=2)  # of all test images, and of those evaluated with AutoAttack
def _weights(images: int) -> np.ndarray:
    return statistics.bootstrap_weights(images).astype(np.float32)

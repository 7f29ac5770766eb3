"""Claim 7: no tuning needed. LiST from an arbitrary L0, against trying fixed L until one is as good on the validation split."""

import numpy as np

from lipscale.tables.claims.evidence import Evidence, Setting
from lipscale.tables.claims.quantities import Largest, Quantity, Sampled, Undecided, ratio
from lipscale.tables.claims.rule import Claim
from lipscale.tables.reader import FIXED, LIST

ECE_MARGIN, ACCURACY_MARGIN = 0.005, 0.01  # a fixed L is as good where it is behind by no more
Column = tuple[str, str, float]  # of LiST and of fixed L; the most by which fixed L may exceed LiST
ECE_ONLY: tuple[Column, ...] = (("validation_ece", "validation_ece", ECE_MARGIN),)
SCALED: tuple[Column, ...] = (
    ("validation_ece", "validation_ece_scaled", ECE_MARGIN),
    ("validation_accuracy", "validation_accuracy", -ACCURACY_MARGIN),
)


def cost(evidence: Evidence) -> tuple[Quantity, str]:
    """Training time of LiST over that of the search for its validation ECE."""
    return _cost(evidence, ECE_ONLY)


def cost_against_scaling(evidence: Evidence) -> tuple[Quantity, str]:
    """The same, fixed L with temperature scaling, which must reach LiST's validation accuracy too."""
    return _cost(evidence, SCALED)


def _cost(evidence: Evidence, columns: tuple[Column, ...]) -> tuple[Quantity, str]:
    """LiST's training time over the expected one of fixed L in random order until one is as good.

    Where none is, the whole grid is trained in vain and counts once.
    """
    grid = evidence.standard(FIXED)
    if len(grid) < 3:
        raise Undecided("fewer than three fixed L")
    parts, reached = [], []
    for setting in evidence.standard(LIST):
        seeds = sorted(set(setting.runs.index).intersection(*(fixed.runs.index for fixed in grid)))
        if not seeds:
            raise Undecided("the compared settings have no seed in common")
        good = np.array([_as_good(fixed, setting, columns, seeds) for fixed in grid])
        seconds = np.array([fixed.column("train_seconds").over(seeds).values for fixed in grid])
        spent = setting.column("train_seconds").over(seeds).values
        trials = np.where(good.any(axis=0), (len(grid) + 1) / (good.sum(axis=0) + 1), len(grid))  # until the first good one
        parts.append(Sampled(tuple(seeds), np.log(spent / (trials * seconds.mean(axis=0)))))
        reached.append(good.sum(axis=0).mean())
    return ratio(Largest(parts)), f"as good: {np.mean(reached):.1f} of {len(grid)} fixed L"


def _as_good(fixed: Setting, setting: Setting, columns: tuple[Column, ...], seeds: list[int]) -> np.ndarray:
    """Of each seed: whether a fixed L is as good as LiST in all columns; in accuracy, more is better."""
    good = np.ones(len(seeds), dtype=bool)
    for own, theirs, margin in columns:
        excess = fixed.column(theirs).over(seeds).values - setting.column(own).over(seeds).values
        good &= excess >= margin if theirs == "validation_accuracy" else excess <= margin
    return good


CLAIMS = (
    Claim(
        "7a",
        "No tuning needed",
        "training time of LiST over that of trying fixed L in random order up to its validation ECE",
        cost,
        at_most=0.5,
    ),
    Claim(
        "7b",
        "No tuning needed, also against fixed L with temperature scaling",
        "the same, up to its validation ECE after scaling and its validation accuracy",
        cost_against_scaling,
        at_most=0.5,
    ),
)

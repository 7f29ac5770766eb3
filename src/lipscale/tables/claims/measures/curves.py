"""Claim 1: ECE against trained L, and ECE of one network whose logits are divided by T, against L / T, are the same curve."""

import numpy as np
import pandas as pd

from lipscale.tables.claims.evidence import Evidence, NoRuns, Setting
from lipscale.tables.claims.quantities import Largest, Sampled, Undecided
from lipscale.tables.claims.rule import Claim
from lipscale.tables.curves import posthoc_curves
from lipscale.tables.reader import FIXED

SAME_CURVE = "ECE against trained L and ECE against post-hoc L/T are the same curve"


def shift(evidence: Evidence) -> tuple[Largest, str]:
    """Distance of the two minima in decades; the grid of trained L is known to half a step only."""
    settings, trained, posthoc = _curves(evidence)
    logarithms = np.log10([setting.initial_lipschitz for setting in settings])
    mean = np.mean([part.values for part in trained], axis=1)
    lowest = int(mean.argmin())
    average = posthoc.groupby("lipschitz")["ece"].mean()
    for place, edge in (("trained L", lowest in (0, len(mean) - 1)), ("L/T", average.argmin() in (0, len(average) - 1))):
        if edge:
            raise Undecided(f"the minimum against {place} is at the edge of the grid")
    step = max(np.diff(logarithms)[lowest - 1 : lowest + 1])
    minima = np.array([part["lipschitz"].iloc[part["ece"].argmin()] for _, part in posthoc.groupby("seed")])
    values = logarithms[np.array([part.values for part in trained]).argmin(axis=0)] - np.log10(minima)
    replicates = logarithms[np.array([part.replicates for part in trained]).argmin(axis=0)]
    found = Sampled(trained[0].numbers, values, replicates, trained[0].images, slack=step / 2)
    note = f"trained: L = {settings[lowest].initial_lipschitz:g}; post-hoc: L/T = {average.idxmin():.3g}"
    return Largest([found, -found]), note


def gap(evidence: Evidence) -> Largest:
    """Largest difference of the two curves at the trained L.

    The sweep has no single images. The error of its ECE is taken as that of the trained network's: differences of two
    independent ones have sqrt(2) times that error, and curves on the same images have less.
    """
    settings, trained, posthoc = _curves(evidence)
    parts = []
    for setting, part in zip(settings, trained, strict=True):
        others = [
            np.interp(np.log(setting.initial_lipschitz), np.log(curve["lipschitz"]), curve["ece"])
            for _, curve in posthoc.groupby("seed")
        ]
        found = Sampled(part.numbers, part.values - others, np.sqrt(2) * part.replicates, part.images)
        parts += [found, -found]
    return Largest(parts)


def _curves(evidence: Evidence) -> tuple[list[Setting], list[Sampled], pd.DataFrame]:
    """The fixed L, their ECE over the seeds that all have, and the post-hoc curve of each of these seeds."""
    settings = evidence.standard(FIXED)
    posthoc = evidence.tables.posthoc_lipschitz
    if not any(setting.initial_lipschitz == posthoc for setting in settings):
        raise NoRuns
    if len(settings) < 3:
        raise Undecided("fewer than three fixed L")
    curves = posthoc_curves(evidence.tables)
    measured = [evidence.measure(setting, "ece") for setting in settings]
    seeds = sorted(set(curves["seed"]).intersection(*(part.numbers for part in measured)))
    if not seeds:
        raise Undecided("the compared settings have no seed in common")
    curves = curves[curves["seed"].isin(seeds)].sort_values(["seed", "lipschitz"])
    return settings, [part.over(seeds) for part in measured], curves


CLAIMS = (
    Claim("1a", f"{SAME_CURVE}: its minimum", "distance of the two minima in decades of L", shift, at_most=0.3),
    Claim("1b", f"{SAME_CURVE}: its slopes", "largest difference of ECE at the trained L", gap, at_most=0.05),
)

"""Curves and summaries that several figures and claims share."""

import numpy as np
import pandas as pd

from lipscale.errors import LipscaleError
from lipscale.tables.reader import FIXED, Tables, of, standard
from lipscale.units import distance

LARGEST_EPSILON = 1020  # in 1/255, of certified.csv: an l2 distance of 4 in pixels
POINTS = 121  # of an ECE curve


def certified_curve(images: pd.DataFrame) -> pd.DataFrame:
    """Share of images that are right with a radius of at least epsilon / 255: `epsilon` = 0, 1, ... up to where none is."""
    radii = np.sort(images["radius"][images["label"] == images["prediction"]])
    epsilons = np.arange(LARGEST_EPSILON + 1)
    certified = len(radii) - np.searchsorted(radii, distance(epsilons))  # radii that are not smaller
    kept = np.append(True, certified[:-1] > 0)
    return pd.DataFrame({"epsilon": epsilons, "certified_accuracy": certified / len(images)})[kept]


def posthoc_curves(tables: Tables) -> pd.DataFrame:
    """ECE curve of each fixed-L run at the post-hoc L, its logits divided by T: columns run, seed, lipschitz (L / T), ece.

    The curves reach over all values of L that were trained with.

    Raises:
        LipscaleError: there is no such run, or its sweep does not reach that far.
    """
    trained, sweep = of(standard(tables.runs), FIXED)["lipschitz"], of(standard(tables["sweep"]), FIXED)
    sweep = sweep[sweep["lipschitz"] == tables.posthoc_lipschitz]
    return divided(sweep, trained.min(), trained.max()).merge(sweep[["run", "seed"]].drop_duplicates())


def divided(sweep: pd.DataFrame, lowest: float, highest: float) -> pd.DataFrame:
    """ECE of each run at the same values of L' = L / T from `lowest` to `highest`, interpolated in log L'.

    Raises:
        LipscaleError: there is no run, or the temperatures of its sweep do not reach that far.
    """
    if sweep.empty:
        raise LipscaleError(
            "sweep.csv has no fixed-L run at figures.posthoc_lipschitz; allowed: a value of runs.fixed_lipschitz"
        )
    axis = np.geomspace(lowest, highest, POINTS)
    parts = []
    for run, part in sweep.groupby("run"):
        part = part.assign(ratio=part["lipschitz"] / part["temperature"]).sort_values("ratio")
        if not part["ratio"].iloc[0] <= lowest <= highest <= part["ratio"].iloc[-1]:
            raise LipscaleError(
                f"the sweep of {run} covers L/T = {part['ratio'].iloc[0]:.3g} to {part['ratio'].iloc[-1]:.3g}; "
                f"allowed: at least {lowest:.3g} to {highest:.3g}"
            )
        ece = np.interp(np.log(axis), np.log(part["ratio"]), part["ece"])
        parts.append(pd.DataFrame({"run": run, "lipschitz": axis, "ece": ece}))
    return pd.concat(parts)


def spread(table: pd.DataFrame, by: str | list[str], column: str, geometric: bool = False) -> pd.DataFrame:
    """Mean (geometric on request), smallest and largest value of a column over seeds, and their number, a row per group."""
    values = table[column].rename("value")  # not a copy of the whole table, which may have hundreds of columns
    groups = pd.concat([table[[by] if isinstance(by, str) else by], np.log(values) if geometric else values], axis=1)
    groups = groups.groupby(by)["value"]
    summary = groups.agg(mean="mean", low="min", high="max")
    summary = (np.exp(summary) if geometric else summary).assign(seeds=groups.count())
    return summary.reset_index()

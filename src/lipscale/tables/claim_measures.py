"""What the claims measure: functions of the tables that return columns `start`, `seed` and `value`.

`start` is the initial L of a run, or "all" where a value is about all runs of a seed.
"""

import numpy as np
import pandas as pd

from lipscale.tables.curves import posthoc_curves
from lipscale.tables.reader import FIXED, LIST, Tables, of, standard

LATE = 0.9  # of the epochs; after them training has settled


def minimum_shifts(tables: Tables) -> pd.DataFrame:
    """Per seed: distance of the minima of both ECE curves, in decades of L."""
    return _compare_curves(tables).rename(columns={"shift": "value"})


def slope_gaps(tables: Tables) -> pd.DataFrame:
    """Per seed: largest difference of both ECE curves at the L that were trained with."""
    return _compare_curves(tables).rename(columns={"gap": "value"})


def _compare_curves(tables: Tables) -> pd.DataFrame:
    """Per seed: ECE trained at each L, and ECE of the post-hoc network's logits at the same L' = L / T."""
    fixed, posthoc = of(standard(tables.runs), FIXED), posthoc_curves(tables)
    rows = []
    for seed, part in fixed.sort_values("lipschitz").groupby("seed"):
        curve = posthoc[posthoc["seed"] == seed]
        at_grid = np.interp(np.log(part["lipschitz"]), np.log(curve["lipschitz"]), curve["ece"])
        minima = part["lipschitz"].iloc[part["ece"].argmin()], curve["lipschitz"].iloc[curve["ece"].argmin()]
        shift, gap = abs(np.log10(minima[0] / minima[1])), np.abs(part["ece"] - at_grid).max()
        rows.append({"start": "all", "seed": seed, "shift": shift, "gap": gap})
    return pd.DataFrame(rows)


def last_temperatures(tables: Tables) -> pd.DataFrame:
    """Largest distance of T* from 1 over the last tenth of training."""
    history = of(standard(tables["history"]), LIST)
    late = history[history["epoch"] > LATE * history["epoch"].max()]
    distance = late.assign(value=(late["temperature"] - 1).abs())
    largest = distance.groupby(["initial_lipschitz", "seed"])["value"].max()
    return largest.reset_index().rename(columns={"initial_lipschitz": "start"})


def final_ratios(tables: Tables) -> pd.DataFrame:
    """Per seed: largest over smallest final L."""
    final = of(standard(tables.runs), LIST).groupby("seed")["lipschitz"]
    return (final.max() / final.min()).rename("value").reset_index().assign(start="all")


def peaks(tables: Tables) -> pd.DataFrame:
    """Final L over largest L on the way, of the runs that start below where they end (the others cannot rise first)."""
    history = of(standard(tables["history"]), LIST)
    runs = history.groupby(["initial_lipschitz", "seed"])["next_lipschitz"].agg(["last", "max"]).reset_index()
    rising = runs[runs["initial_lipschitz"] < runs["last"]]
    return _per_run(rising, rising["last"] / rising["max"])


def shortfalls(tables: Tables) -> pd.DataFrame:
    """How far, in points, the fixed L that dominates a LiST run most is ahead in both accuracies; below 0: none dominates.

    Robust accuracy is that at the smallest epsilon.
    """
    names = ["evaluated_clean_accuracy", f"robust_{min(tables.epsilons)}"]
    front = of(standard(tables.runs), FIXED).groupby("initial_lipschitz")[names].mean().to_numpy()
    runs = of(standard(tables.runs), LIST)
    ahead = (front[None] - runs[names].to_numpy()[:, None]).min(axis=2).max(axis=1)
    return _per_run(runs, 100 * ahead)


def ece_excess(tables: Tables) -> pd.DataFrame:
    """ECE of a LiST run minus that of the best fixed L, by its mean over seeds."""
    return _excess_over(tables, "ece")


def ece_excess_over_scaled(tables: Tables) -> pd.DataFrame:
    """ECE of a LiST run minus that of the best fixed L after temperature scaling, by its mean over seeds."""
    return _excess_over(tables, "ece_scaled")


def _excess_over(tables: Tables, rival: str) -> pd.DataFrame:
    runs = of(standard(tables.runs), LIST)
    return _per_run(runs, runs["ece"] - of(standard(tables.runs), FIXED).groupby("initial_lipschitz")[rival].mean().min())


def costs(tables: Tables) -> pd.DataFrame:
    """Training time of a LiST run over that of all fixed L at its seed."""
    runs = of(standard(tables.runs), LIST)
    sweep = of(standard(tables.runs), FIXED).groupby("seed")["train_seconds"].sum()
    return _per_run(runs, runs["train_seconds"] / runs["seed"].map(sweep))


def _per_run(table: pd.DataFrame, value: pd.Series | np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"start": table["initial_lipschitz"], "seed": table["seed"], "value": value})

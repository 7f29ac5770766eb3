"""A verdict on each claim of the poster, from the tables alone.

Each claim is turned into a measure that every run (or every seed) has a value of, and a threshold that stands here and not in
a config, so that it is fixed before an experiment is run. A claim holds where all values meet the threshold. It does not hold
where, from some starting point, no seed meets it; the poster's claims are about any starting point. Whatever is between, and
a single seed, decides nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lipscale.report.figures.figure1 import divided
from lipscale.report.figures.style import short
from lipscale.store import files
from lipscale.store.checksums import checked, seal

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "not decidable with these runs"
COLUMNS = ("claim", "statement", "measure", "threshold", "mean", "low", "high", "values", "verdict")


@dataclass(frozen=True)
class Tables:
    """The tables of an experiment, and the L whose logits Figure 1 divides by T."""

    runs: pd.DataFrame
    history: pd.DataFrame
    sweep: pd.DataFrame
    epsilon: int
    posthoc_lipschitz: float

    def method(self, name: str) -> pd.DataFrame:
        return self.runs[self.runs["method"] == name]


@dataclass(frozen=True)
class Claim:
    """A claim and its measure: a function of the tables that returns columns `start`, `seed`, `value`."""

    number: str
    statement: str
    measure: str
    largest: float
    values: Callable[[Tables], pd.DataFrame]


def judge(tables: Path, epsilon: int, posthoc_lipschitz: float) -> None:
    """Write claims.csv and claims.md beside runs.csv, history.csv and sweep.csv in `tables`.

    Args:
        epsilon: budget of the robust accuracy that claim 5 is about, in 1/255.
        posthoc_lipschitz: L of the fixed-L runs whose logits claim 1 divides by T.
    """
    parts = {name: pd.read_csv(checked(tables / f"{name}.csv")) for name in ("runs", "history", "sweep")}
    rows = [
        verdict(claim, claim.values(Tables(**parts, epsilon=epsilon, posthoc_lipschitz=posthoc_lipschitz))) for claim in CLAIMS
    ]
    files.write_rows(tables / "claims.csv", COLUMNS, rows)
    seal(tables / "claims.csv")
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        cells = (short(row[name]) if isinstance(row[name], float) else str(row[name]) for name in COLUMNS)
        lines.append("| " + " | ".join(cells) + " |")
    files.write_text(tables / "claims.md", "\n".join(lines) + "\n")


def verdict(claim: Claim, values: pd.DataFrame) -> dict:
    """The row of claims.csv for a claim; `values` has columns start, seed and value."""
    met = values["value"] <= claim.largest
    if values["seed"].nunique() < 2:
        decision = UNDECIDED
    elif met.all():
        decision = HOLDS
    else:
        decision = UNDECIDED if met.groupby(values["start"]).any().all() else FAILS
    summary = (float(values["value"].mean()), float(values["value"].min()), float(values["value"].max()), len(values))
    row = (claim.number, claim.statement, claim.measure, f"at most {short(claim.largest)}", *summary, decision)
    return dict(zip(COLUMNS, row, strict=True))


def _valleys(tables: Tables) -> pd.DataFrame:
    """Per seed: ECE trained at each L, and ECE of the post-hoc network's logits at the same L' = L / T."""
    fixed = tables.method("fixed")
    sweep = tables.sweep[(tables.sweep["method"] == "fixed") & (tables.sweep["lipschitz"] == tables.posthoc_lipschitz)]
    posthoc = divided(sweep, fixed["lipschitz"].min(), fixed["lipschitz"].max()).merge(sweep[["run", "seed"]].drop_duplicates())
    rows = []
    for seed, part in fixed.sort_values("lipschitz").groupby("seed"):
        curve = posthoc[posthoc["seed"] == seed]
        at_grid = np.interp(np.log(part["lipschitz"]), np.log(curve["lipschitz"]), curve["ece"])
        floors = part["lipschitz"].iloc[part["ece"].argmin()], curve["lipschitz"].iloc[curve["ece"].argmin()]
        shift, gap = abs(np.log10(floors[0] / floors[1])), np.abs(part["ece"] - at_grid).max()
        rows.append({"start": "all", "seed": seed, "shift": shift, "gap": gap})
    return pd.DataFrame(rows)


def _per_run(table: pd.DataFrame, value: pd.Series | np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"start": table["initial_lipschitz"], "seed": table["seed"], "value": value})


def _last_temperatures(tables: Tables) -> pd.DataFrame:
    history = tables.history[tables.history["method"] == "list"]
    late = history[history["epoch"] > 0.9 * history["epoch"].max()]
    distance = late.assign(value=(late["temperature"] - 1).abs())
    return (
        distance.groupby(["initial_lipschitz", "seed"])["value"]
        .max()
        .reset_index()
        .rename(columns={"initial_lipschitz": "start"})
    )


def _final_ratios(tables: Tables) -> pd.DataFrame:
    final = tables.method("list").groupby("seed")["lipschitz"]
    return (final.max() / final.min()).rename("value").reset_index().assign(start="all")


def _peaks(tables: Tables) -> pd.DataFrame:
    """Final L over largest L on the way, of the runs that start below where they end (the others cannot rise first)."""
    history = tables.history[tables.history["method"] == "list"]
    runs = history.groupby(["initial_lipschitz", "seed"])["next_lipschitz"].agg(["last", "max"]).reset_index()
    rising = runs[runs["initial_lipschitz"] < runs["last"]]
    return _per_run(rising, rising["last"] / rising["max"])


def _shortfalls(tables: Tables) -> pd.DataFrame:
    """How far, in points, the fixed L that dominates a LiST run most is ahead in both accuracies; below 0: none dominates."""
    names = ["evaluated_clean_accuracy", f"robust_{tables.epsilon}"]
    front = tables.method("fixed").groupby("initial_lipschitz")[names].mean().to_numpy()
    runs = tables.method("list")
    ahead = (front[None] - runs[names].to_numpy()[:, None]).min(axis=2).max(axis=1)
    return _per_run(runs, 100 * ahead)


def _ece_excess(tables: Tables, rival: str) -> pd.DataFrame:
    """ECE of a LiST run minus that of the best fixed L, by its mean over seeds."""
    runs = tables.method("list")
    return _per_run(runs, runs["ece"] - tables.method("fixed").groupby("initial_lipschitz")[rival].mean().min())


def _costs(tables: Tables) -> pd.DataFrame:
    """Training time of a LiST run over that of all fixed L at its seed."""
    runs = tables.method("list")
    sweep = tables.method("fixed").groupby("seed")["train_seconds"].sum()
    return _per_run(runs, runs["train_seconds"] / runs["seed"].map(sweep))


CLAIMS = (
    Claim(
        "1a",
        "ECE against trained L and against post-hoc L/T is the same valley: its floor",
        "distance of the two minima in decades of L",
        0.3,
        lambda tables: _valleys(tables).assign(value=lambda table: table["shift"]),
    ),
    Claim(
        "1b",
        "ECE against trained L and against post-hoc L/T is the same valley: its walls",
        "largest difference of ECE at the trained L",
        0.05,
        lambda tables: _valleys(tables).assign(value=lambda table: table["gap"]),
    ),
    Claim("2", "T goes to 1", "largest abs(T* - 1) over the last tenth of training", 0.05, _last_temperatures),
    Claim("3", "L ends at the same value from every L0", "largest over smallest final L at one seed", 1.25, _final_ratios),
    Claim("4", "Relaxation, then contraction: L rises, peaks, falls", "final L over largest L, runs that rise", 0.9, _peaks),
    Claim(
        "5",
        "LiST lies on the Pareto front of clean and AutoAttack accuracy",
        "points by which a fixed L is ahead in both",
        1.0,
        _shortfalls,
    ),
    Claim(
        "6a", "LiST has the lowest ECE", "ECE minus that of the best fixed L", 0.0, lambda tables: _ece_excess(tables, "ece")
    ),
    Claim(
        "6b",
        "LiST has the lowest ECE, also against fixed L with temperature scaling",
        "ECE minus that of the best fixed L after scaling",
        0.0,
        lambda tables: _ece_excess(tables, "ece_scaled"),
    ),
    Claim("7", "No tuning needed", "training time of one LiST run over that of the sweep of fixed L", 0.5, _costs),
)

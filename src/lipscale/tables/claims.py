"""A verdict on each claim of the poster, from the tables alone.

Each claim is turned into a measure that every run (or every seed) has a value of, and a threshold. Both are written here and
not in a config, so that they are fixed before an experiment runs. A claim holds where all values meet the threshold. It does
not hold where, from some starting point, no seed meets it; the poster's claims are about any starting point. Everything
between, and a single seed, decides nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from lipscale.store import checksums, files
from lipscale.tables import claim_measures as measures
from lipscale.tables.reader import Tables
from lipscale.text import markdown_table, short

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "not decidable with these runs"
COLUMNS = ("claim", "statement", "measure", "threshold", "mean", "low", "high", "values", "verdict")


@dataclass(frozen=True)
class Claim:
    """A claim and its measure.

    Attributes:
        number: of the claim on the poster; letters tell its parts apart.
        statement: in words.
        measure: in words, what `values` returns.
        largest: threshold; values up to it meet the claim.
        values: function of the tables that returns columns `start`, `seed`, `value`.
    """

    number: str
    statement: str
    measure: str
    largest: float
    values: Callable[[Tables], pd.DataFrame]


SAME_CURVE = "ECE against trained L and ECE against post-hoc L/T are the same curve"
CLAIMS = (
    Claim("1a", f"{SAME_CURVE}: its minimum", "distance of the two minima in decades of L", 0.3, measures.minimum_shifts),
    Claim("1b", f"{SAME_CURVE}: its slopes", "largest difference of ECE at the trained L", 0.05, measures.slope_gaps),
    Claim("2", "T goes to 1", "largest abs(T* - 1) over the last tenth of training", 0.05, measures.last_temperatures),
    Claim(
        "3", "L ends at the same value from every L0", "largest over smallest final L at one seed", 1.25, measures.final_ratios
    ),
    Claim(
        "4",
        "Relaxation, then contraction: L rises, peaks, falls",
        "final L over largest L, runs that rise",
        0.9,
        measures.peaks,
    ),
    Claim(
        "5",
        "LiST lies on the Pareto front of clean and AutoAttack accuracy",
        "points by which a fixed L is ahead in both",
        1.0,
        measures.shortfalls,
    ),
    Claim("6a", "LiST has the lowest ECE", "ECE minus that of the best fixed L", 0.0, measures.ece_excess),
    Claim(
        "6b",
        "LiST has the lowest ECE, also against fixed L with temperature scaling",
        "ECE minus that of the best fixed L after scaling",
        0.0,
        measures.ece_excess_over_scaled,
    ),
    Claim("7", "No tuning needed", "training time of one LiST run over that of the sweep of fixed L", 0.5, measures.costs),
)


def write_claims(folder: Path) -> None:
    """Write claims.csv and claims.md.

    Args:
        folder: results/<experiment>/tables, with runs.csv, history.csv, sweep.csv and config.yaml.
    """
    tables = Tables(folder)
    rows = [verdict(claim, claim.values(tables)) for claim in CLAIMS]
    files.write_rows(folder / "claims.csv", COLUMNS, rows)
    checksums.record(folder / "claims.csv")
    files.write_text(folder / "claims.md", markdown_table(COLUMNS, [[row[name] for name in COLUMNS] for row in rows]))


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

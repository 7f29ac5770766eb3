"""A verdict on each claim, from the tables alone.

rule.py        what a claim is, and how an interval decides it
quantities.py  numbers with an interval over seeds and test images
evidence.py    what a measure gets: settings, their accuracies and ECE on the same test images
selection.py   choosing a rival on the validation split
measures/      the claims, one file for each family
"""

import re
from pathlib import Path

import pandas as pd

from lipscale import discovery
from lipscale.errors import LipscaleError
from lipscale.store import checksums, files
from lipscale.tables.claims.evidence import Evidence
from lipscale.tables.claims.rule import COLUMNS, FAILS, HOLDS, UNDECIDED, Claim, decide
from lipscale.tables.reader import Tables
from lipscale.text import markdown_table

__all__ = ["COLUMNS", "FAILS", "HOLDS", "UNDECIDED", "Claim", "all_claims", "decide", "verdicts", "write_claims"]
MEASURES = f"{__name__}.measures"


def all_claims() -> list[Claim]:
    """The claims of all files in `measures`, in the order of their numbers."""
    found = [claim for name in discovery.names(MEASURES) for claim in discovery.load(MEASURES, name).CLAIMS]
    return sorted(found, key=lambda claim: (int(re.match(r"\d+", claim.number)[0]), claim.number.partition("-")[0]))


def verdicts(evidence: Evidence) -> list[dict]:
    """The rows of claims.csv: a row for each claim that the experiment has runs for."""
    rows = (decide(claim, evidence) for claim in all_claims())
    return [row for row in rows if row is not None]


def write_claims(folder: Path, output: Path | None = None, published: bool = False) -> list[dict]:
    """Write claims.csv and claims.md, and return their rows.

    Args:
        folder: results/<experiment>/tables, or a folder with published tables.
        output: where both are written; None: where the tables are.
        published: the tables have no checksums, and the verdicts get none.

    Raises:
        LipscaleError: a table is missing, altered or not of all runs.
    """
    tables = Tables(folder, check=not published)
    check_complete(tables)
    rows, output = verdicts(Evidence(tables)), output or folder
    files.write_rows(output / "claims.csv", COLUMNS, rows)
    if not published:
        checksums.record(output / "claims.csv")
    files.write_text(output / "claims.md", markdown_table(COLUMNS, [[row[name] for name in COLUMNS] for row in rows]))
    return rows


def check_complete(tables: Tables) -> None:
    """Raises LipscaleError where history.csv lacks epochs of a run of runs.csv, or images.csv.gz, if it exists, images."""
    runs = tables.runs.set_index("run")
    epochs, images = tables["history"].groupby("run")["epoch"].max(), tables.folder / "images.csv.gz"
    _check_rows(tables.folder / "history.csv", epochs, runs, tables.config["training"]["epochs"])
    if images.exists():
        _check_rows(images, tables.images.groupby("run").size(), runs, runs["images"])


def _check_rows(path: Path, found: pd.Series, runs: pd.DataFrame, wanted: int | pd.Series) -> None:
    lacking = runs.index[found.reindex(runs.index, fill_value=0) < wanted]
    if len(lacking):
        raise LipscaleError(f"{path} is incomplete: it lacks rows of {', '.join(lacking[:3])}")

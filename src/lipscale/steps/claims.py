"""Give a verdict on each claim, from the tables.

FOLDER is results/EXPERIMENT, or a folder with the tables themselves, such as results/published/EXPERIMENT: anybody can decide
the claims of published results again. Verdicts go where the tables are.

example:
  lipscale claims results/published/digits
"""

import argparse
from pathlib import Path

from lipscale.errors import LipscaleError
from lipscale.steps.common import folder
from lipscale.store import locks
from lipscale.store.checksums import FOLDER
from lipscale.store.run_folder import ExperimentFolder
from lipscale.tables.claims import write_claims


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=folder, metavar="FOLDER", help="results/EXPERIMENT or results/published/EXPERIMENT")
    parser.add_argument("--output", type=Path, help="folder for claims.csv and claims.md; default: that of the tables")


def run(options: argparse.Namespace) -> None:
    tables, published = options.experiment, False
    if (tables / "runs.csv").exists() and not (tables / FOLDER).exists():
        published = True  # in the repository, where git guards them
        if not (tables / "config.yaml").exists():
            raise LipscaleError(f"{tables} has no config.yaml; allowed: results that were published with all their tables")
    elif not (tables / "runs.csv").exists():
        tables = ExperimentFolder(tables).tables
    output = options.output or tables
    output.mkdir(parents=True, exist_ok=True)
    with locks.writing("claims", [output]):
        write_claims(tables, output, published)

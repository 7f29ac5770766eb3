"""Give a verdict on each claim, from the tables.

FOLDER is results/EXPERIMENT, or a folder with the tables themselves, such as results/published/EXPERIMENT: anybody can decide
the claims of published results again. Verdicts go where the tables are.

example:
  lipscale claims results/published/digits
"""

import argparse
from pathlib import Path

from lipscale.errors import LipscaleError
from lipscale.store import locks
from lipscale.store.checksums import FOLDER
from lipscale.store.run_folder import ExperimentFolder
from lipscale.tables.claims import write_claims


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, metavar="FOLDER", help="results/EXPERIMENT or results/published/EXPERIMENT")
    parser.add_argument("--output", type=Path, help="folder for claims.csv and claims.md; default: that of the tables")


def run(options: argparse.Namespace) -> None:
    folder, published = options.experiment, False
    if (folder / "runs.csv").exists() and not (folder / FOLDER).exists():
        published = True  # in the repository, where git guards them
        if not (folder / "config.yaml").exists():
            raise LipscaleError(f"{folder} has no config.yaml; allowed: results that were published with all their tables")
    elif not (folder / "runs.csv").exists():
        folder = ExperimentFolder(folder).tables
    output = options.output or folder
    output.mkdir(parents=True, exist_ok=True)
    with locks.writing("claims", [output]):
        write_claims(folder, output, published)

"""Put the LiST runs of several experiments side by side: comparison.csv and comparison.md."""

import argparse
from pathlib import Path

from lipscale.errors import LipscaleError
from lipscale.tables.comparison import compare


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiments", nargs="+", type=Path, metavar="EXPERIMENT", help="folders results/EXPERIMENT")
    parser.add_argument("--epsilons", required=True, type=int, nargs="+", help="l2 budgets of certified accuracies, in 1/255")
    parser.add_argument("--folder", required=True, type=Path, help="where comparison.csv and comparison.md are written")


def run(options: argparse.Namespace) -> None:
    for folder in options.experiments:
        if not (folder / "runs").is_dir():
            raise LipscaleError(f"compare: {folder} is not the folder of an experiment; allowed: results/EXPERIMENT")
    compare(options.experiments, options.epsilons, options.folder)

"""Draw figures from the tables: FIGURE.pdf, FIGURE.png, and FIGURE.csv with the numbers in it."""

import argparse

from lipscale import discovery
from lipscale.report.draw import draw
from lipscale.steps.common import add_experiment
from lipscale.store import locks
from lipscale.store.run_folder import ExperimentFolder

FIGURES = "lipscale.report.figures"


def arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)
    figures = discovery.names(FIGURES)
    parser.add_argument(
        "--figures", nargs="+", metavar="FIGURE", choices=figures, default=figures, help=f"default: all, {', '.join(figures)}"
    )


def run(options: argparse.Namespace) -> None:
    experiment = ExperimentFolder(options.experiment)
    for figure in options.figures:
        stem = experiment.figures / figure
        with locks.writing("draw", [stem]):  # one lock for each figure, as several are drawn at once
            draw(figure, experiment.tables, stem)

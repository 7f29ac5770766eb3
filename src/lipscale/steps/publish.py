"""Copy figures and tables of an experiment to where they are committed, with a page about them.

With --models, networks of these runs too: lipscale.load("EXPERIMENT/RUN") opens them. Without, none stay published.

With --add, published runs and networks stay, and the new ones are added, such as more seeds that were trained elsewhere or
later. Figures, verdicts and page are then of all runs.

examples:
  lipscale publish results/digits --folder results/published/digits --command "make figures"
  lipscale publish results/digits --folder results/published/digits --command "make figures" --models list-1-seed0
  lipscale publish results/digits --folder results/published/digits --command "make figures, three more seeds" --add
"""

import argparse
from pathlib import Path

from lipscale.report.publish import publish
from lipscale.steps.common import add_experiment


def arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)
    parser.add_argument("--folder", required=True, type=Path, help="results/published/EXPERIMENT")
    parser.add_argument("--command", required=True, dest="origin", help="the command that made the results, for the page")
    parser.add_argument("--models", nargs="+", default=[], metavar="RUN", help="runs whose trained networks are published")
    parser.add_argument("--add", action="store_true", help="add the runs to those that are published in the folder")


def run(options: argparse.Namespace) -> None:
    publish(options.experiment, options.folder, options.origin, options.models, options.add)

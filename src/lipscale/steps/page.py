"""Write a page of the report: an HTML file that needs nothing else."""

import argparse
from pathlib import Path

from lipscale.report import pages
from lipscale.steps.common import add_experiment
from lipscale.store import locks
from lipscale.store.run_folder import ExperimentFolder


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("page", choices=pages.NAMES)
    add_experiment(parser)
    parser.add_argument("--launched", default="", help="provenance only: version of Snakemake and its command")
    parser.add_argument("--output", required=True, type=Path, help="the HTML file")


def run(options: argparse.Namespace) -> None:
    with locks.writing("page", [options.output]):
        experiment = ExperimentFolder(options.experiment)
        pages.write(options.page, experiment.tables, experiment.data, options.launched, options.output)

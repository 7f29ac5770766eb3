"""Give a verdict on each claim, from the tables."""

import argparse

from lipscale.steps.common import add_experiment
from lipscale.store import locks
from lipscale.store.run_folder import ExperimentFolder
from lipscale.tables.claims import write_claims


def arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)


def run(options: argparse.Namespace) -> None:
    tables = ExperimentFolder(options.experiment).tables
    with locks.writing("claims", [tables]):
        write_claims(tables)

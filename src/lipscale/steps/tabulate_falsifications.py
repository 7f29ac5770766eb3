"""Join the falsifications of all certified runs of an experiment into a table."""

import argparse

from lipscale.steps.common import add_experiment
from lipscale.store import locks
from lipscale.store.run_folder import ExperimentFolder
from lipscale.tables.falsifications import tabulate_falsifications


def arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)


def run(options: argparse.Namespace) -> None:
    experiment = ExperimentFolder(options.experiment)
    with locks.writing("tabulate-falsifications", [experiment.tables]):
        tabulate_falsifications(experiment.path)

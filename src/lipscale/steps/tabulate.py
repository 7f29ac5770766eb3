"""Join the files of all runs of an experiment into tables.

Writes images.csv into each run's folder, and the tables of the experiment.
"""

import argparse

from lipscale.steps.common import add_experiment
from lipscale.store import locks
from lipscale.store.run_folder import PARTIAL, PARTIAL_CALIBRATION, ExperimentFolder
from lipscale.tables.join import tabulate


def arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)


def run(options: argparse.Namespace) -> None:
    experiment = ExperimentFolder(options.experiment)
    with locks.writing("tabulate", [*(run.path for run in experiment.runs), experiment.tables]):
        tabulate(experiment.path)
        # Snakemake removes the outputs of a job that failed, or that outlived a killed Snakemake, and reruns it. So an attack
        # leaves what restores its outputs until the next step has read them.
        for run in experiment.runs:
            for name in (PARTIAL, PARTIAL_CALIBRATION):
                (run / name).unlink(missing_ok=True)

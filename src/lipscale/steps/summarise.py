"""Draw a summary of each run of an experiment: training curves, L and T* by epoch, reliability diagram."""

import argparse

from lipscale.report.summaries import draw_summaries
from lipscale.steps.common import add_experiment
from lipscale.store import locks
from lipscale.store.run_folder import ExperimentFolder


def arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)


def run(options: argparse.Namespace) -> None:
    experiment = ExperimentFolder(options.experiment)
    folder = experiment.figures / "summaries"
    with locks.writing("summarise", [folder]):
        draw_summaries(experiment.tables, folder)

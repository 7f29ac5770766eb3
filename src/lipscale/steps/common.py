"""What several steps share: arguments, and the folders of runs."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lipscale.errors import LipscaleError
from lipscale.store.run_folder import ExperimentFolder, RunFolder


def add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs, results/EXPERIMENT/runs/RUN")


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="folder of the run, results/EXPERIMENT/runs/RUN")


def add_shard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shard", type=int, metavar="SHARD", help="number of the shard, from 1 to compute.shards")


def check_shard(folder: RunFolder, shard: int) -> None:
    """Raises LipscaleError where there is no such shard."""
    shards = folder.settings.compute.shards
    if not 1 <= shard <= shards:
        raise LipscaleError(f"SHARD is {shard}; allowed: from 1 to compute.shards, {shards}")


def add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="folder of the experiment, results/EXPERIMENT")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="default: %(default)s")


def run_folders(paths: Sequence[Path]) -> tuple[ExperimentFolder, list[RunFolder]]:
    """The folders of runs of one experiment. Raises LipscaleError where they belong to several."""
    runs = [RunFolder(path) for path in paths]
    experiments = {run.experiment.path.resolve() for run in runs}
    if len(experiments) > 1:
        raise LipscaleError(f"runs of {len(experiments)} experiments: {', '.join(map(str, paths))}; allowed: runs of one")
    return runs[0].experiment, runs

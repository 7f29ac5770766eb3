"""What several steps share: arguments, and the folders of runs."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from lipscale.errors import LipscaleError
from lipscale.store.checksums import check_unrecorded
from lipscale.store.run_folder import ExperimentFolder, RunFolder


def folder(text: str) -> Path:
    """Type of an argument that names a folder; it has to exist, so that a step does not create it by mistake."""
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}")
    return Path(text)


def add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", type=folder, metavar="RUN", help="folders of runs, results/EXPERIMENT/runs/RUN")


def add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_folder", type=folder, metavar="RUN", help="folder of the run, results/EXPERIMENT/runs/RUN")


def add_shard(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shard", type=int, metavar="SHARD", help="number of the shard, from 1 to compute.shards")


def check_shard(folder: RunFolder, shard: int) -> None:
    """Raises LipscaleError where there is no such shard."""
    shards = folder.settings.compute.shards
    if not 1 <= shard <= shards:
        raise LipscaleError(f"SHARD is {shard}; allowed: from 1 to compute.shards, {shards}")


def add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=folder, metavar="EXPERIMENT", help="folder of the experiment, results/EXPERIMENT")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="default: %(default)s")


def check_outputs(inputs: Mapping[str, Path], outputs: Mapping[str, Path]) -> None:
    """Check the files that a user wants to be written, before any work; both arguments have the name of each file in messages.

    Raises:
        LipscaleError: an output is no file, or is an input or another output too, or belongs to the results of an experiment.
    """
    taken = {path.resolve(): name for name, path in inputs.items()}
    for name, path in outputs.items():
        if not path.name or path.is_dir():
            raise LipscaleError(f"{name} is {str(path)!r}, which is no file; allowed: the path of a file")
        if other := taken.get(path.resolve()):
            raise LipscaleError(f"{name} is {path}, which is {other} too; allowed: another path")
        check_unrecorded(path)
        taken[path.resolve()] = name


def run_folders(paths: Sequence[Path]) -> tuple[ExperimentFolder, list[RunFolder]]:
    """The folders of runs of one experiment. Raises LipscaleError where they belong to several."""
    runs = [RunFolder(path) for path in paths]
    experiments = {run.experiment.path.resolve() for run in runs}
    if len(experiments) > 1:
        raise LipscaleError(f"runs of {len(experiments)} experiments: {', '.join(map(str, paths))}; allowed: runs of one")
    return runs[0].experiment, runs

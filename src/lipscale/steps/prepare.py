"""Prepare a data set: arrays, splits, manifest. A preparation that was stopped resumes with the same command.

A folder with a data set of other settings is refused.

example:
  lipscale prepare config/cifar10.yaml --folder data/cifar10
"""

import argparse
from pathlib import Path

from lipscale import config
from lipscale.data.prepare import prepare
from lipscale.errors import LipscaleError
from lipscale.store import files, locks
from lipscale.store.dataset import MANIFEST, write_dataset
from lipscale.tables.origin import compare


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG", help="config of an experiment; its section `dataset` is used")
    parser.add_argument("--folder", required=True, type=Path, help="folder to write the arrays and manifest.json to")
    parser.add_argument("--jobs", default=1, type=int, help="processes that decode images in files, default: %(default)s")


def run(options: argparse.Namespace) -> None:
    if options.jobs < 1:
        raise LipscaleError(f"prepare: --jobs is {options.jobs}; allowed: 1 or more")
    settings = config.check(files.read_yaml(options.config)).dataset
    manifest = options.folder / MANIFEST
    if manifest.exists():
        compare(manifest, files.read_json(manifest).get("settings", {}), settings.model_dump(mode="json"))
    with locks.writing("prepare", [options.folder]):
        write_dataset(options.folder, *prepare(settings), options.jobs)

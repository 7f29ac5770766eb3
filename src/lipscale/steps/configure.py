"""Write the checked config of an experiment, and of each of its runs.

The config is read from standard input, as JSON or YAML. The workflow does this by itself.
"""

import argparse
from pathlib import Path

from lipscale import config
from lipscale.store import files, locks
from lipscale.store.configs import write_configs


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("experiment", type=Path, metavar="EXPERIMENT", help="folder to write into, results/EXPERIMENT")


def run(options: argparse.Namespace) -> None:
    checked = config.check(files.read_yaml("-"))
    with locks.writing("configure", [options.experiment]):
        write_configs(checked, options.experiment)

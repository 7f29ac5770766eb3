"""Estimate time, memory and disk of an experiment before it is submitted.

The estimate scales the measured cost of a comparable experiment, and names it.

example:
  lipscale plan config/config.yaml --config "training={epochs: 80}"
"""

import argparse
from pathlib import Path

from lipscale import config
from lipscale.planning import record
from lipscale.planning.estimate import comparable_record, estimate
from lipscale.planning.text import text
from lipscale.store import files


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("configfile", type=Path, metavar="CONFIG", help="config of the experiment")
    parser.add_argument(
        "--config", nargs="+", default=[], metavar="KEY=VALUE", help="values that replace its own, as for Snakemake"
    )
    parser.add_argument(
        "--results",
        default="results",
        type=Path,
        help="folder with experiments and published records, default: results",
    )


def run(options: argparse.Namespace) -> None:
    checked = config.check(config.overridden(files.read_yaml(options.configfile), options.config))
    path, found = comparable_record(checked, record.find(options.results))
    print(text(checked, path, found, estimate(checked, found)))

"""Write the checked config of an experiment, and of each of its runs.

The config is read from standard input, as JSON or YAML.
"""

import argparse

import yaml

from lipscale import config
from lipscale.steps.common import add_experiment
from lipscale.store import files, locks
from lipscale.store.checksums import record
from lipscale.store.run_folder import ExperimentFolder


def arguments(parser: argparse.ArgumentParser) -> None:
    add_experiment(parser)


def run(options: argparse.Namespace) -> None:
    folder = ExperimentFolder(options.experiment)
    checked = config.check(files.read_yaml("-"))
    with locks.writing("configure", [folder.path]):
        for settings in config.runs(checked):
            _write(folder.run(settings.run) / "config.yaml", settings.model_dump(mode="json"))
        _write(folder.path / "config.yaml", checked.model_dump(mode="json"))


def _write(path, settings: dict) -> None:
    files.write_text(path, yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    record(path)

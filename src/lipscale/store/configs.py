"""Writing the checked config of an experiment, and that of each of its runs, which the steps of the workflow read."""

from pathlib import Path

import yaml

from lipscale import config
from lipscale.store import files
from lipscale.store.checksums import record


def write_configs(experiment: config.Experiment, folder: Path) -> None:
    """Write config.yaml into results/<experiment>, `folder`, and into the folder of each run."""
    for run in config.runs(experiment):
        write_config(run, folder / "runs" / run.run / "config.yaml")
    write_config(experiment, folder / "config.yaml")


def write_config(settings: config.Experiment | config.Run, path: Path) -> None:
    files.write_text(path, yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
    record(path)

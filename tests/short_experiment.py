"""An experiment of two runs, taken to a figure, for tests of what may go wrong; its fixtures are in conftest.py."""

from pathlib import Path

from conftest import TINY, lipscale
from lipscale import config as configs
from lipscale.cli import main
from lipscale.store.configs import write_config

DONE, OTHER, NEW = "list-0.1-seed0", "fixed-20-seed0", "list-0.1-seed1"


def steps(folder: Path) -> dict[str, list[str]]:
    """The arguments of each step that the workflow takes with an experiment's folder."""
    arguments = {
        "prepare": [folder / "config.yaml", "--folder", folder / "data"],
        "train": [folder / "runs" / NEW],
        "evaluate": [folder / "runs" / DONE],
        "attack": [folder / "runs" / DONE],
        "attack-calibration": [folder / "runs" / DONE],
        "tabulate": [folder],
        "draw": [folder, "--figures", "figure2"],
    }
    return {step: [step, *map(str, rest)] for step, rest in arguments.items()}


def write_settings(run: configs.Run, experiment: Path) -> None:
    """The config of a run in the experiment's folder, as the workflow writes it."""
    write_config(run, experiment / "runs" / run.run / "config.yaml")


def make(folder: Path) -> None:
    """Take two runs to a figure, and write the settings of a third run, which does not begin."""
    evaluation = {"epsilons": [1], "attack_images": 4, "spot_check_images": 0, "attack_batch_size": 4}  # all is certified
    config = {**TINY, "training": {**TINY["training"], "epochs": 2}, "evaluation": evaluation}
    config["runs"] = {"seeds": [0], "list_initial_lipschitz": [0.1], "fixed_lipschitz": [20]}
    assert lipscale("configure", folder, stdin=config).returncode == 0
    commands = steps(folder)
    for step in ("train", "evaluate", "attack", "attack-calibration"):
        commands[step][1:] = [str(folder / "runs" / name) for name in (DONE, OTHER)]
    for command in commands.values():
        assert main(command) == 0
    config["runs"]["seeds"] = [1]
    write_settings(next(run for run in configs.runs(configs.check(config)) if run.run == NEW), folder)

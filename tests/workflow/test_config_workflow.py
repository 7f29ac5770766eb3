"""How the workflow and the command line refuse and override configs."""

from pathlib import Path

import pytest
import yaml

from conftest import ROOT, lipscale, snakemake
from lipscale import config as configs
from lipscale.cli import COMMANDS, STEPS, main
from lipscale.store import files
from lipscale.store.checksums import record

SHIPPED = sorted((ROOT / "config").glob("*.yaml"))


def test_snakemake_refuses_a_bad_config_before_any_job(tmp_path, tiny):
    tiny["evaluation"]["epsilons"] = [-36]
    result = snakemake(tmp_path, tiny, "--cores", 1, check=False)
    assert result.returncode != 0
    assert "config: evaluation.epsilons[0] is -36; allowed: 1 or more" in result.stdout
    assert "Traceback" not in result.stdout
    assert not (tmp_path / "results").exists()


# All but the config of `make figures` are slow: they go through the same rules, and take a minute together.
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.name == "config.yaml" else pytest.mark.slow) for path in SHIPPED],
    ids=lambda path: path.name,
)
def test_dry_run_of_every_shipped_config(tmp_path, path: Path):
    said = snakemake(tmp_path, yaml.safe_load(path.read_text()), "--dry-run", "--cores", 2).stdout
    for rule in ("prepare_data", "train", "evaluate", "attack", "tabulate"):
        assert f"\n{rule} " in said
    for number in range(1, 6):
        assert f"\ndraw_figure{number} " in said


def test_settings_on_the_command_line_override(tmp_path, tiny):
    """An override overrides: it arrives in the settings of the runs, and other keys of its section stay."""
    snakemake(tmp_path, tiny, "--cores", 1, "--config", "training={epochs: 77}", "--", "prepare_data")
    for run in (tmp_path / "results" / "tiny" / "runs").iterdir():
        training = yaml.safe_load((run / "config.yaml").read_text())["training"]
        assert (training["epochs"], training["batch_size"]) == (77, 128)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": None}, "config: seed is None"),
        ({"extra": 1}, "config: unknown key 'extra'"),
        ({"training": {"epochs": 0}}, "config: training.epochs is 0; allowed: 1 or more"),
        ({"network": {"architecture": "convnet", "channels": [2, 2, 2], "depth": 1, "patch": 1}}, "config: network."),
    ],
)
def test_bad_config_of_a_run_is_refused(tiny, tmp_path, capsys, change, sentence):
    run = configs.runs(configs.check(tiny))[0]
    path = tmp_path / "tiny" / "runs" / run.run / "config.yaml"
    files.write_text(path, yaml.safe_dump(run.model_dump(mode="json") | change))
    record(path)
    assert main(["train", str(path.parent)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"lipscale: {sentence}")
    assert said.count("\n") == 1


def test_help_and_missing_command():
    said = lipscale("--help").stdout
    for command in (*COMMANDS, *STEPS):
        assert f"\n  {command} " in said
    assert lipscale(check=False).returncode == 2


@pytest.mark.parametrize("command", [*COMMANDS, *STEPS])
def test_help_of_each_command(command, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        main([command, "--help"])
    assert f"usage: lipscale {command} " in capsys.readouterr().out

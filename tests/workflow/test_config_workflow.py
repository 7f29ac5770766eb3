"""How the workflow and the command line refuse and override configs."""

from pathlib import Path

import pytest
import yaml

from conftest import ROOT, lipscale, snakemake
from lipscale import config as configs

SHIPPED = sorted((ROOT / "config").glob("*.yaml"))


def test_snakemake_refuses_a_bad_config_before_any_job(tmp_path, tiny):
    tiny["evaluation"]["epsilons"] = [-36]
    result = snakemake(tmp_path, tiny, "--cores", 1, check=False)
    assert result.returncode != 0
    assert "config: evaluation.epsilons[0] is -36; allowed: 1 or more" in result.stdout
    assert "Traceback" not in result.stdout
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_dry_run_of_every_shipped_config(tmp_path, path: Path):
    said = snakemake(tmp_path, yaml.safe_load(path.read_text()), "--dry-run", "--cores", 2).stdout
    for rule in ("prepare_data", "train_list", "train_fixed", "predict", "calibrate", "certify", "attack", "tabulate"):
        assert f"\n{rule} " in said
    for rule in ("draw_figure1", "draw_figure2", "draw_figure3"):
        assert f"\n{rule} " in said


def test_settings_on_the_command_line_override(tmp_path, tiny):
    """An override overrides: it arrives in the settings of the runs, and other keys of its section stay."""
    said = snakemake(tmp_path, tiny, "--dry-run", "--cores", 1, "--printshellcmds", "--config", "training={epochs: 77}").stdout
    assert '"epochs": 77' in said
    assert '"batch_size": 128' in said


def test_network_that_does_not_fit_the_images_is_refused(tiny, tmp_path, digits):
    run = configs.runs(configs.check(tiny))[0].model_dump(mode="json")
    run["network"] = {"architecture": "convnet", "channels": [2, 2, 2], "depth": 1, "patch": 1}
    result = lipscale("train", "--settings", "-", "--data", digits, "--runs", tmp_path, stdin=run, check=False)
    assert result.stderr.startswith("lipscale: config: network.channels has 3 stages")


@pytest.mark.parametrize("change", [{"seed": None}, {"extra": 1}, {"training": {"epochs": 0}}])
def test_bad_config_of_a_run_is_refused(tiny, tmp_path, change):
    run = configs.runs(configs.check(tiny))[0].model_dump(mode="json") | change
    result = lipscale("train", "--settings", "-", "--data", tmp_path, "--runs", tmp_path, stdin=run, check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_help_and_missing_verb():
    assert "calibrate" in lipscale("--help").stdout
    assert lipscale(check=False).returncode == 2

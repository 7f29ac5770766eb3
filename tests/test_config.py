"""Every bad config is refused in one sentence that names the key, the value and what is allowed."""

import math
import re
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, lipscale, snakemake
from lipscale import config as configs
from lipscale.errors import LipscaleError

SHIPPED = sorted(path for path in (ROOT / "config").glob("*.yaml") if path.name != "schema.yaml")

BAD = {
    "unknown key": ({"training": {"epoch": 3}}, ["'epoch' in training", "epochs"]),
    "unknown key at the top": ({"trainig": {}}, ["'trainig' at the top level", "training"]),
    "wrong type": ({"training": {"epochs": "many"}}, ["training.epochs", "'many'", "integer"]),
    "a truth value for a number": ({"training": {"epochs": True}}, ["training.epochs", "True", "integer"]),
    "L = 0": ({"runs": {"fixed_lipschitz": [1, 0]}}, ["runs.fixed_lipschitz[1]", "is 0", "greater than 0"]),
    "L < 0": ({"runs": {"list_initial_lipschitz": [-1]}}, ["runs.list_initial_lipschitz[0]", "-1", "greater than 0"]),
    "L = NaN": ({"runs": {"fixed_lipschitz": [1, math.nan]}}, ["runs.fixed_lipschitz[1]", "nan", "finite"]),
    "L = infinity": ({"runs": {"list_initial_lipschitz": [math.inf]}}, ["list_initial_lipschitz[0]", "inf", "finite"]),
    "epsilon < 0": ({"evaluation": {"epsilons": [-36]}}, ["evaluation.epsilons[0]", "-36", "1 or more"]),
    "no seeds": ({"runs": {"seeds": []}}, ["runs.seeds", "[]", "at least 1"]),
    "a seed twice": ({"runs": {"seeds": [1, 1]}}, ["runs.seeds", "[1, 1]", "once"]),
    "an L twice": ({"runs": {"fixed_lipschitz": [1, 1.0]}}, ["runs.fixed_lipschitz", "once"]),
    "two runs of one name": ({"runs": {"fixed_lipschitz": [1, 1.0000001]}}, ["fixed-1-seed0", "2 runs"]),
    "unknown data set": ({"dataset": {"name": "mnist"}}, ["dataset.name", "'mnist'", "digits"]),
    "unknown architecture": ({"network": {"architecture": "vit"}}, ["network.architecture", "'vit'", "mlp, convnet"]),
    "unknown allocation": ({"network": {"allocation": "equal"}}, ["network.allocation", "'equal'", "softmax"]),
    "an odd width": ({"network": {"widths": [15]}}, ["network.widths[0]", "15", "multiple of 2"]),
    "channels of an mlp": ({"network": {"channels": [8]}}, ["network.channels", "[8]", "mlp"]),
    "size of an mlp": ({"network": {"size": "small"}}, ["network.size", "'small'", "mlp"]),
    "a size too large for the images": (
        {"network": {"architecture": "convnet", "size": "large"}},
        ["network.channels", "[128, 256, 512]", "8"],
    ),
    "patches that do not fit": (
        {"network": {"architecture": "convnet", "channels": [2], "patch": 3}},
        ["network.patch", "3", "divisor", "8 pixels"],
    ),
    "too many stages": (
        {"network": {"architecture": "convnet", "channels": [2, 2, 2, 2]}},
        ["network.channels", "8", "halved"],
    ),
    "a stage smaller than its kernel": (
        {"network": {"architecture": "convnet", "channels": [2, 2, 2]}},
        ["network.channels", "8", "3 or more"],
    ),
    "a number beyond all bounds": ({"runs": {"fixed_lipschitz": [1, 10**400]}}, ["runs.fixed_lipschitz[1]", "ordinary size"]),
    "a path for embedded data": ({"dataset": {"path": "x"}}, ["dataset.path", "'x'", "embedded"]),
    "the name of the published results": ({"experiment": "published"}, ["experiment", "'published'"]),
    "no path": (
        {"dataset": {"name": "imagefolder", "test_images": ...}},
        ["dataset.path", "None", "folder or archive"],
    ),
    "a key of another data set": ({"dataset": {"image_size": 32}}, ["dataset.image_size", "32", "imagefolder"]),
    "a missing key": ({"training": {"epochs": ...}}, ["training.epochs is missing"]),
    "no test split": ({"dataset": {"test_images": ...}}, ["dataset.test_images is missing"]),
    "bounds the wrong way round": (
        {"feedback": {"lowest_lipschitz": 9, "highest_lipschitz": 2}},
        ["lowest_lipschitz", "9"],
    ),
    "L0 out of bounds": (
        {"feedback": {"highest_lipschitz": 50}},
        ["runs.list_initial_lipschitz", "100", "from 0.0001 to 50"],
    ),
    "a post-hoc L that is not trained": (
        {"figures": {"posthoc_lipschitz": 7}},
        ["figures.posthoc_lipschitz", "7", "[1, 20]"],
    ),
    "a step of one": ({"feedback": {"largest_step": 1}}, ["feedback.largest_step", "greater than 1"]),
    "a name that leaves results": ({"experiment": "../x"}, ["experiment", "'../x'", "letters"]),
    "a name with a line break": ({"experiment": "x\n"}, ["experiment", "'x\\n'", "letters"]),
    "an empty path": ({"dataset": {"name": "cifar10", "path": "", "test_images": ...}}, ["dataset.path", "''", "not empty"]),
    "more threads than any machine has": ({"compute": {"threads": 10**18}}, ["compute.threads", "1024 or less"]),
}


def changed(config: dict, changes: dict) -> dict:
    """`config` with values replaced; ... removes a key."""
    for key, value in changes.items():
        if isinstance(value, dict):
            config[key] = changed(config.get(key, {}), value)
        elif value is ...:
            del config[key]
        else:
            config[key] = value
    return config


@pytest.mark.parametrize("case", BAD)
def test_bad_config_is_refused(tiny, case):
    changes, parts = BAD[case]
    with pytest.raises(LipscaleError) as caught:
        configs.check(changed(tiny, changes))
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


@pytest.mark.parametrize("config", [None, [], "text", 3])
def test_what_is_no_mapping_is_refused(config):
    with pytest.raises(LipscaleError, match="the config"):
        configs.check(config)


def test_snakemake_refuses_a_bad_config_before_any_job(tmp_path, tiny):
    result = snakemake(tmp_path, changed(tiny, BAD["epsilon < 0"][0]), "--cores", 1, check=False)
    assert result.returncode != 0
    assert "config: evaluation.epsilons[0] is -36; allowed: 1 or more" in result.stdout
    assert "Traceback" not in result.stdout
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_config_is_valid_and_says_why(path: Path):
    config = yaml.safe_load(path.read_text())
    assert len(list(configs.runs(configs.check(config)))) >= 2 * (8 + 5)
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if value.strip() and key.strip() not in ("experiment", "name", "device", "architecture") and not line.startswith("#"):
            assert "#" in value, f"{line.strip()} does not say why"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_dry_run_of_every_shipped_config(tmp_path, path: Path):
    said = snakemake(tmp_path, yaml.safe_load(path.read_text()), "--dry-run", "--cores", 2).stdout
    for rule in ("prepare_data", "train_list", "train_fixed", "predict", "calibrate", "certify", "attack", "tabulate"):
        assert f"\n{rule} " in said
    for rule in ("draw_figure1", "draw_figure2", "draw_figure3"):
        assert f"\n{rule} " in said


def test_every_key_of_the_schema_is_described():
    def walk(schema: dict):
        for key, value in schema.get("properties", {}).items():
            yield key, value
            yield from walk(value)

    assert [key for key, value in walk(configs.SCHEMA) if "properties" not in value and "description" not in value] == []


def test_settings_on_the_command_line_override(tmp_path, tiny):
    """An override overrides: it arrives in the settings of the runs, and other keys of its section stay."""
    said = snakemake(tmp_path, tiny, "--dry-run", "--cores", 1, "--printshellcmds", "--config", "training={epochs: 77}").stdout
    assert '"epochs": 77' in said
    assert '"batch_size": 128' in said


def test_text_is_read_where_a_number_or_truth_value_is_meant(tiny):
    """As it comes from Snakemake's --config, and as YAML reads 1e-3."""
    text = {"training": {"epochs": "7", "learning_rate": "1e-3"}, "runs": {"seeds": ["4"]}, "compute": {"pack": "false"}}
    config = configs.check(changed(tiny, text))
    assert (config["training"]["epochs"], config["training"]["learning_rate"]) == (7, 0.001)
    assert (config["runs"]["seeds"], config["compute"]["pack"]) == ([4], False)


def test_integral_floats_are_integers(tiny):
    tiny["evaluation"]["epsilons"], tiny["runs"]["seeds"] = [36.0], [1.0]
    config = configs.check(tiny)
    assert repr(config["evaluation"]["epsilons"] + config["runs"]["seeds"]) == "[36, 1]"


RUN_BAD = {
    "a missing key": ({"seed": ...}, "seed is missing"),
    "an unknown key": ({"extra": 1}, "unknown key 'extra'"),
    "a wrong value": ({"training": {"epochs": 0}}, "training.epochs is 0; allowed: 1 or more"),
    "a missing key of a section": ({"network": {"widths": ...}}, "network.widths is missing"),
    "a name that leaves the folder": ({"run": "../x"}, "run is '../x'; allowed: letters"),
    "a name that is a path": ({"run": "a/b"}, "run is 'a/b'"),
    "no name": ({"run": ""}, "run is ''"),
    "a seed that is no number": ({"seed": "x"}, "seed is 'x'; allowed: integer"),
    "an unknown method": ({"method": "none"}, "method is 'none'; allowed: one of list, fixed, unconstrained"),
    "no L": ({"initial_lipschitz": None}, "initial_lipschitz is None; allowed: a number"),
    "an L without constraint": ({"method": "unconstrained"}, "initial_lipschitz is 0.1; allowed: null"),
    "an unknown device": ({"device": "tpu"}, "device is 'tpu'; allowed: one of cpu, cuda"),
    "text for threads": ({"threads": "many"}, "threads is 'many'; allowed: integer"),
    "an unknown precision": ({"precision": "int8"}, "precision is 'int8'"),
}


@pytest.mark.parametrize("case", RUN_BAD)
def test_bad_settings_of_a_run_are_refused(tiny, case):
    change, sentence = RUN_BAD[case]
    with pytest.raises(LipscaleError, match=re.escape(f"config: {sentence}")):
        configs.check_settings(changed(next(configs.runs(configs.check(tiny))), change))


def test_network_that_does_not_fit_the_images_is_refused(tiny, tmp_path, digits):
    network = {"architecture": "convnet", "channels": [2, 2, 2], "depth": 1, "patch": 1}
    run = changed(next(configs.runs(configs.check(tiny))), {"network": network})
    result = lipscale("train", "--settings", "-", "--data", digits, "--runs", tmp_path, stdin=run, check=False)
    assert result.stderr.startswith("lipscale: config: network.channels is [2, 2, 2]; allowed: as many stages")


def test_numbers_written_as_text_with_an_exponent_are_integers(tiny):
    """As it comes from Snakemake's --config."""
    assert repr(configs.check(changed(tiny, {"training": {"epochs": "1e1"}}))["training"]["epochs"]) == "10"


@pytest.mark.parametrize("change", [{"seed": ...}, {"extra": 1}, {"training": {"epochs": 0}}])
def test_settings_of_a_run_by_hand_are_checked(tiny, tmp_path, change):
    run = changed(next(configs.runs(configs.check(tiny))), change)
    result = lipscale("train", "--settings", "-", "--data", tmp_path, "--runs", tmp_path, stdin=run, check=False)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_help_and_missing_verb():
    assert "calibrate" in lipscale("--help").stdout
    assert lipscale(check=False).returncode == 2

"""The check of a config: shipped ones, defaults, sizes and the schema."""

import copy
import json
import re
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from conftest import ROOT
from lipscale import config as configs
from lipscale.config.schema import schema
from lipscale.errors import LipscaleError
from small_configs import CONFIG, OBJECTIVES, TINY32, changed

SHIPPED = sorted((ROOT / "config").glob("*.yaml"))


@pytest.fixture
def tiny() -> dict:
    """A small valid config, to be changed freely."""
    return copy.deepcopy(CONFIG)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_config_is_valid_and_says_why(path: Path):
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    experiment = configs.check(yaml.safe_load(text))
    assert experiment.experiment == ("digits" if path.stem == "config" else path.stem)
    assert len(configs.runs(experiment)) >= 2 * (8 + 5)
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if value.strip() and key.strip() not in ("experiment", "name", "device", "architecture") and not line.startswith("#"):
            assert "#" in value, f"{line.strip()} does not say why"


def test_schema_is_up_to_date():
    """Where not: `python -m lipscale.config.schema > config/schema.json`."""
    assert json.loads((ROOT / "config" / "schema.json").read_text()) == schema()


def test_every_key_of_the_schema_is_described():
    whole = schema()

    def keys(part: dict, name: str) -> Iterator[tuple[str, dict]]:
        for key, value in part.get("properties", {}).items():
            yield f"{name}.{key}", value

    parts = {"": whole, **whole["$defs"]}
    found = [pair for name, part in parts.items() for pair in keys(part, name) if "const" not in pair[1]]
    assert len(found) > 60
    referred = {name: "description" in part for name, part in whole["$defs"].items()}
    described = {name: "description" in key or referred[key["$ref"].rpartition("/")[2]] for name, key in found}
    assert [name for name in described if not described[name]] == []


def test_text_is_read_where_a_number_or_truth_value_is_meant(tiny):
    """As it comes from Snakemake's --config, and as YAML reads 1e-3."""
    text = {
        "training": {"epochs": "7", "batch_size": "1e2", "learning_rate": "1e-3"},
        "runs": {"seeds": ["4"], "fixed_lipschitz": ["1", "2e1"], "unconstrained_learning_rate": "null"},
        "compute": {"pack": "false", "compile": "true"},
    }
    experiment = configs.check(changed(tiny, text))
    assert repr(experiment.training.epochs) == "7"
    assert repr(experiment.training.batch_size) == "100"
    assert repr(experiment.training.learning_rate) == "0.001"
    assert (experiment.runs.seeds, experiment.runs.fixed_lipschitz) == ([4], [1, 20])
    assert experiment.runs.unconstrained_learning_rate is None
    assert (experiment.compute.pack, experiment.compute.compile) == (False, True)


def test_integral_floats_are_integers(tiny):
    tiny["evaluation"]["epsilons"], tiny["runs"]["seeds"] = [36.0], [1.0]
    experiment = configs.check(tiny)
    assert repr(experiment.evaluation.epsilons + experiment.runs.seeds) == "[36, 1]"


def test_values_are_not_changed_and_any_mapping_is_read(tiny):
    before = copy.deepcopy(tiny)
    experiment = configs.check(OrderedDict(tiny))
    assert tiny == before
    assert configs.check(experiment.model_dump(mode="json")) == experiment == configs.check(experiment.model_dump())


def test_defaults(tiny):
    experiment = configs.check(tiny)
    assert experiment.training.objective.name == "cross_entropy"
    assert (experiment.network.family, experiment.network.bias, experiment.network.allocation) == (
        "orthogonal",
        True,
        "softmax",
    )
    assert (experiment.feedback.warmups, experiment.feedback.updates_per_epoch) == (0, 1)
    assert experiment.evaluation.falsify_images == 1000
    assert experiment.figures.posthoc_lipschitz == 20
    assert experiment.dataset.path is None
    assert configs.image_shape(experiment.dataset) == (1, 8, 8)


def test_objective_by_name(tiny):
    by_name, whole = (
        configs.check(changed(copy.deepcopy(tiny), {"training": {"objective": value}}))
        for value in ("cross_entropy", {"name": "cross_entropy"})
    )
    assert by_name == whole


def test_schema_allows_objectives_by_name():
    """An editor marks neither form."""
    named, *whole = schema()["$defs"]["Training"]["properties"]["objective"]["anyOf"]
    assert named["enum"] == OBJECTIVES.split(", ")
    assert len(whole[0]["oneOf"]) == len(named["enum"])


@pytest.mark.parametrize(
    ("section", "tag", "passes"),
    [
        ("cross_entropy", "cross_entropy", 1),
        ("label_smoothing", "label_smoothing", 1),
        ({"name": "label_smoothing", "alpha": 0.1}, "label_smoothing_alpha0p1", 1),
        ("focal", "focal3", 1),
        ({"name": "focal", "gamma": 0.5}, "focal0p5", 1),
        ("flsd", "flsd", 1),
        ("brier", "brier", 1),
        ("pgd", "pgd36", 11),
        ({"name": "pgd", "epsilon": 128, "steps": 20}, "pgd128_steps20", 21),
        ("trades", "trades36", 12),
        ({"name": "trades", "beta": 1e-7}, "trades36_beta1em07", 12),
        ("caat", "caat36", 22),
    ],
)
def test_tags_and_passes_of_objectives(tiny, section, tag, passes):
    found = configs.check(changed(tiny, {"training": {"objective": section}})).training.objective
    assert (found.tag, found.passes) == (tag, passes)
    assert re.fullmatch("[A-Za-z0-9_]+", found.tag)


@pytest.mark.parametrize("size", [None, *configs.SIZES])
def test_sizes_fill_what_is_not_given(size):
    network = {"architecture": "convnet", "depth": 7} | ({"size": size} if size else {})
    found = configs.check(TINY32 | {"network": network}).network
    values = configs.SIZES[size or "medium"] | {"depth": 7}
    assert {key: getattr(found, key) for key in values} == values
    assert "size" not in found.model_dump()
    assert found == configs.check(TINY32 | {"network": {"architecture": "convnet"} | values}).network


def test_data_set_alone_is_checked_as_a_section():
    assert configs.check_dataset({"name": "cifar100", "validation_images": 5}).image_shape() == (3, 32, 32)
    with pytest.raises(LipscaleError, match=r"^config: dataset\.validation_images is missing"):
        configs.check_dataset({"name": "cifar100"})
    with pytest.raises(LipscaleError, match=r"^config: unknown key 'x' in dataset, whose name is cifar10"):
        configs.check_dataset({"name": "cifar10", "validation_images": 5, "x": 1})


def test_overrides(tiny):
    changed_config = configs.overridden(tiny, ["training={epochs: 10}", "experiment=other", "runs={fixed_lipschitz: [1]}"])
    experiment = configs.check(changed_config)
    assert (experiment.training.epochs, experiment.training.batch_size) == (10, 128)
    assert (experiment.experiment, experiment.figures.posthoc_lipschitz) == ("other", 1)


@pytest.mark.parametrize("text", ["training", "training={", "x=2000-13-01"])
def test_bad_override_is_refused(tiny, text):
    with pytest.raises(LipscaleError, match="allowed: KEY=VALUE, the value in YAML"):
        configs.overridden(tiny, [text])

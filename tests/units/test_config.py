"""The check of a config: shipped ones, defaults, sizes, the schema, and parts in files outside the package."""

import copy
import json
import os
import re
import subprocess
import sys
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
    changed_config = configs.overridden(tiny, ["training={epochs: 10}", "experiment=other", "figures={posthoc_lipschitz: 1}"])
    experiment = configs.check(changed_config)
    assert (experiment.training.epochs, experiment.training.batch_size) == (10, 128)
    assert (experiment.experiment, experiment.figures.posthoc_lipschitz) == ("other", 1)


@pytest.mark.parametrize("text", ["training", "training={", "x=2000-13-01"])
def test_bad_override_is_refused(tiny, text):
    with pytest.raises(LipscaleError, match="allowed: KEY=VALUE, the value in YAML"):
        configs.overridden(tiny, [text])


def in_new_process(code: str, **environment: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_needs_neither_torch_nor_numpy():
    code = f"""
import sys
from lipscale import config
config.runs(config.check({CONFIG}))
print(sorted({{"torch", "numpy", "pandas", "scipy", "matplotlib"}} & set(sys.modules)))
"""
    assert in_new_process(code).strip() == "[]"


def test_parts_are_found_by_their_files(tmp_path):
    """A data set, an objective, a method and a layer family, each one file outside the package."""
    parts = {
        "sources/noise.py": """
from typing import Literal
from lipscale.settings import Count, SourceSettings

class Settings(SourceSettings):
    name: Literal["noise"]
    side: Count = 9

    def image_shape(self):
        return (1, self.side, self.side)
""",
        "objectives/power.py": """
from typing import Literal
from lipscale.settings import Positive
from lipscale.training.objectives.base import ObjectiveSettings

class Settings(ObjectiveSettings):
    name: Literal["power"]
    gamma: Positive = 3
""",
        "methods/power.py": """
from lipscale.method.methods.base import Method
from lipscale.settings import PositiveList

METHOD = Method(
    name="power", title="power", label="power", key="power_lipschitz", annotation=PositiveList | None, default=None,
    description="L of the runs with that objective", constrained=True, feedback=False,
    expand=lambda values: [(value, {"objective": "power"}) for value in values or []],
)
""",
        "families/layers.py": "CONSTRAINED = True\n",
    }
    for name, text in parts.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    config = copy.deepcopy(CONFIG) | {"dataset": {"name": "noise", "validation_images": 5}}
    config["network"]["family"] = "layers"
    config["runs"]["power_lipschitz"] = [5]
    code = f"""
from lipscale import config
from lipscale.errors import LipscaleError
*_, first, last = config.runs(config.check({config}))
print(last.run, last.training.objective, last.dataset, last.network.family)
assert config.check_run(last.model_dump(mode="json")) == last
for section, value, said in (
    ("training", {{**{config["training"]}, "objective": "hinge"}}, "training.objective.name is 'hinge'; allowed: one of"),
    ("training", {{**{config["training"]}, "objective": {{"name": "power", "gamma": 0}}}}, "training.objective.gamma is 0; "),
    ("training", {{**{config["training"]}, "objective": {{"name": "power", "x": 0}}}}, "unknown key 'x' in training.obj"),
    ("dataset", {{"name": "noise", "validation_images": 5, "side": 0}}, "dataset.side is 0; "),
):
    try:
        config.check({{**{config}, section: value}})
    except LipscaleError as error:
        assert str(error).startswith(f"config: {{said}}"), error
    else:
        raise AssertionError(said)
"""
    extensions = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("LIPSCALE_EXTENSIONS")]))
    said = in_new_process(code, LIPSCALE_EXTENSIONS=extensions)
    assert said.startswith(
        "power-5-power-seed1 name='power' gamma=3.0 name='noise' path=None validation_images=5 split_seed=0 side=9 "
    )
    assert said.strip().endswith("layers")

"""Every bad config is refused in one sentence that names the key, the value and what is allowed."""

import copy
import json
import math
import os
import re
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, TINY
from lipscale import config as configs
from lipscale.config.schema import schema
from lipscale.errors import LipscaleError
from lipscale.method.methods import METHODS

SHIPPED = sorted((ROOT / "config").glob("*.yaml"))
CONFIG = TINY | {"evaluation": {"epsilons": [72], "attack_images": 60, "spot_check_images": 10, "attack_batch_size": 60}}
TINY32 = CONFIG | {"dataset": {"name": "cifar10", "validation_images": 9}}


@pytest.fixture
def tiny() -> dict:
    """A small valid config, to be changed freely."""
    return copy.deepcopy(CONFIG)


@pytest.fixture
def run(tiny) -> dict:
    """What the config.yaml of a run holds."""
    return configs.runs(configs.check(tiny))[0].model_dump(mode="json")


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


def convnet(**keys: object) -> dict:
    return {"network": {"architecture": "convnet", "widths": [8], **keys}}


def objective(name: str, **settings: object) -> dict:
    return {"training": {"objective": {"name": name, **settings}}}


OBJECTIVES = "brier, caat, cross_entropy, flsd, focal, label_smoothing, pgd, trades"

BAD = {
    "unknown key": ({"training": {"epoch": 3}}, "unknown key 'epoch' in training; allowed: augmentation, batch_size, "),
    "a misspelt key": ({"training": {"epoch": 3, "epochs": ...}}, "unknown key 'epoch' in training; allowed: augment"),
    "unknown key at the top": ({"trainig": {}}, "unknown key 'trainig' at the top level; allowed: compute, dataset, evalu"),
    "a key that is no text": ({3: 1}, "unknown key 3 at the top level; allowed: compute, "),
    "an old key of feedback": (
        {"feedback": {"rehearsals": 2}},
        "unknown key 'rehearsals' in feedback, which is now warmups; allowed: highest_lipschitz, ",
    ),
    "an old key of evaluation": (
        {"evaluation": {"audit_images": 2}},
        "unknown key 'audit_images' in evaluation, which is now spot_check_images; allowed: attack_batch_size, ",
    ),
    "another old key of evaluation": (
        {"evaluation": {"own_radius_images": 2}},
        "unknown key 'own_radius_images' in evaluation, which is now falsify_images; allowed: attack_batch_size, ",
    ),
    "an old key elsewhere": ({"training": {"rehearsals": 2}}, "unknown key 'rehearsals' in training; allowed: augment"),
    "wrong type": ({"training": {"epochs": "many"}}, "training.epochs is 'many'; allowed: an integer"),
    "no whole number": ({"training": {"epochs": 1.5}}, "training.epochs is 1.5; allowed: an integer"),
    "no number": ({"training": {"learning_rate": [1]}}, "training.learning_rate is [1]; allowed: a number"),
    "a truth value for a number": ({"training": {"epochs": True}}, "training.epochs is True; allowed: an integer"),
    "a truth value for a rate": ({"training": {"learning_rate": True}}, "training.learning_rate is True; allowed: a number"),
    "a number for a truth value": ({"compute": {"pack": 1}}, "compute.pack is 1; allowed: true or false"),
    "text for a truth value": ({"compute": {"pack": "yes"}}, "compute.pack is 'yes'; allowed: true or false"),
    "no list": ({"runs": {"seeds": 3}}, "runs.seeds is 3; allowed: a list"),
    "no section": ({"training": None}, "training is None; allowed: a mapping of the keys augmentation, batch_size, "),
    "no section of a union": ({"dataset": "digits"}, "dataset is 'digits'; allowed: a mapping"),
    "L = 0": ({"runs": {"fixed_lipschitz": [1, 0]}}, "runs.fixed_lipschitz[1] is 0; allowed: a number greater than 0"),
    "L < 0": ({"runs": {"list_initial_lipschitz": [-1]}}, "runs.list_initial_lipschitz[0] is -1; allowed: a number greater"),
    "L = NaN": ({"runs": {"fixed_lipschitz": [1, math.nan]}}, "runs.fixed_lipschitz[1] is nan; allowed: a finite number"),
    "L = infinity": (
        {"runs": {"list_initial_lipschitz": [math.inf]}},
        "runs.list_initial_lipschitz[0] is inf; allowed: a finite number",
    ),
    "L that no float can hold": (
        {"runs": {"fixed_lipschitz": [1, 10**400]}},
        "runs.fixed_lipschitz[1] is 1000",
    ),
    "a number that Python does not write": (
        {"training": {"epochs": 10**5000}},
        "training.epochs is a number of thousands of digits; allowed: a finite number",
    ),
    "a number as text that overflows": ({"training": {"epochs": "1e999"}}, "training.epochs is '1e999'; allowed: an integer"),
    "epsilon < 0": ({"evaluation": {"epsilons": [-36]}}, "evaluation.epsilons[0] is -36; allowed: 1 or more"),
    "no seeds": ({"runs": {"seeds": []}}, "runs.seeds is []; allowed: a list of at least 1"),
    "a seed twice": ({"runs": {"seeds": [1, 1]}}, "runs.seeds is [1, 1]; allowed: each value once"),
    "a large seed": ({"runs": {"seeds": [2**32]}}, "runs.seeds[0] is 4294967296; allowed: 4294967295 or less"),
    "an L twice": ({"runs": {"fixed_lipschitz": [1, 1.0]}}, "runs.fixed_lipschitz is [1, 1.0]; allowed: each value once"),
    "two runs of one name": (
        {"runs": {"fixed_lipschitz": [1, 1.0000001]}},
        "2 runs would share the name fixed-1-seed0; values under runs must differ in their first six digits",
    ),
    "unknown data set": (
        {"dataset": {"name": "mnist"}},
        "dataset.name is 'mnist'; allowed: one of cifar10, cifar100, digits, imagefolder, mnist5k",
    ),
    "no data set": ({"dataset": {"name": ...}}, "dataset.name is missing; it has no default"),
    "a list for a data set": ({"dataset": {"name": []}}, "dataset.name is []; allowed: one of cifar10, cifar100, "),
    "unknown architecture": (convnet(architecture="vit"), "network.architecture is 'vit'; allowed: one of mlp, convnet"),
    "unknown objective": (
        {"training": {"objective": "hinge"}},
        f"training.objective.name is 'hinge'; allowed: one of {OBJECTIVES}",
    ),
    "unknown objective in a mapping": (
        {"training": {"objective": {"name": "hinge", "gamma": 3}}},
        f"training.objective.name is 'hinge'; allowed: one of {OBJECTIVES}",
    ),
    "a setting that the objective lacks": (
        {"training": {"objective": {"name": "cross_entropy", "gamma": 3}}},
        "unknown key 'gamma' in training.objective, whose name is cross_entropy; allowed: name",
    ),
    "a setting of another objective": (
        {"training": {"objective": {"name": "pgd", "beta": 3}}},
        "unknown key 'beta' in training.objective, whose name is pgd; allowed: epsilon, name, relative_step, steps",
    ),
    "an objective without a name": ({"training": {"objective": {"gamma": 3}}}, "training.objective.name is missing"),
    "no objective": (
        {"training": {"objective": 3}},
        "training.objective is 3; allowed: a mapping of name and settings, or a name",
    ),
    "no objective at all": ({"training": {"objective": None}}, "training.objective is None; allowed: a mapping of name and"),
    "alpha = 1": (objective("label_smoothing", alpha=1), "training.objective.alpha is 1; allowed: a number less than 1"),
    "alpha < 0": (objective("label_smoothing", alpha=-1), "training.objective.alpha is -1; allowed: 0 or more"),
    "gamma < 0": (objective("focal", gamma=-1), "training.objective.gamma is -1; allowed: 0 or more"),
    "gamma = NaN": (objective("focal", gamma=math.nan), "training.objective.gamma is nan; allowed: a finite number"),
    "no radius": (objective("pgd", epsilon=0), "training.objective.epsilon is 0; allowed: 1 or more"),
    "a radius in pixels": (objective("trades", epsilon=0.5), "training.objective.epsilon is 0.5; allowed: an integer"),
    "no steps": (objective("caat", steps=0), "training.objective.steps is 0; allowed: 1 or more"),
    "steps without length": (
        objective("pgd", relative_step=0),
        "training.objective.relative_step is 0; allowed: a number greater than 0",
    ),
    "beta < 0": (objective("trades", beta=-6), "training.objective.beta is -6; allowed: 0 or more"),
    "an unknown family": ({"network": {"family": "cayley"}}, "network.family is 'cayley'; allowed: one of aol, orthogonal"),
    "a family without constraint": ({"network": {"family": "unconstrained"}}, "network.family is 'unconstrained'; allowed: "),
    "unknown allocation": (
        {"network": {"allocation": "equal"}},
        "network.allocation is 'equal'; allowed: one of softmax, ",
    ),
    "an odd width": ({"network": {"widths": [15]}}, "network.widths[0] is 15; allowed: a multiple of 2"),
    "channels of an mlp": (
        {"network": {"channels": [8]}},
        "unknown key 'channels' in network, whose architecture is mlp; allowed: allocation, architecture, bias, family, widths",
    ),
    "size of an mlp": ({"network": {"size": "small"}}, "unknown key 'size' in network, whose architecture is mlp; allowed: "),
    "an unknown size": (convnet(size="huge"), "network.size is 'huge'; allowed: one of small, medium, large"),
    "no stages": (convnet(channels=[]), "network.channels is []; allowed: a list of at least 1"),
    "a size too large for the images": (
        convnet(size="large"),
        "network.channels has 3 stages, but an 8 x 8 image can be halved only twice (8 -> 4 -> 2, less than a kernel of 3 x 3)"
        "; use at most 2 stages or larger images",
    ),
    "patches that do not fit": (
        convnet(channels=[2], patch=3),
        "network.patch is 3; allowed: a divisor of the side of an image, 8 pixels",
    ),
    "a path for embedded data": (
        {"dataset": {"path": "x"}},
        "dataset.path is 'x'; allowed: nothing, as the digits are embedded in scikit-learn",
    ),
    "the name of the published results": ({"experiment": "published"}, "experiment is 'published'; allowed: up to 100 letters"),
    "no path": ({"dataset": {"name": "imagefolder", "test_images": ...}}, "dataset.path is missing; it has no default"),
    "a null path": ({"dataset": {"name": "imagefolder", "path": None, "test_images": ...}}, "dataset.path is None; allowed: t"),
    "two channels": (
        {"dataset": {"name": "imagefolder", "path": "x", "channels": 2, "test_images": ...}},
        "dataset.channels is 2; allowed: one of 1, 3",
    ),
    "a key of another data set": (
        {"dataset": {"image_size": 32}},
        "unknown key 'image_size' in dataset, whose name is digits; allowed: name, path, split_seed, test_images, valid",
    ),
    "a missing key": ({"training": {"epochs": ...}}, "training.epochs is missing; it has no default"),
    "a missing section": ({"runs": ...}, "runs is missing; it has no default"),
    "no test split": ({"dataset": {"test_images": ...}}, "dataset.test_images is missing; it has no default"),
    "bounds the wrong way round": (
        {"feedback": {"lowest_lipschitz": 9, "highest_lipschitz": 2}},
        "feedback.lowest_lipschitz is 9; allowed: less than feedback.highest_lipschitz, 2",
    ),
    "L0 out of bounds": (
        {"feedback": {"highest_lipschitz": 50}},
        "runs.list_initial_lipschitz is 100; allowed: from 0.0001 to 50, the bounds under feedback",
    ),
    "a post-hoc L that is not trained": (
        {"figures": {"posthoc_lipschitz": 7}},
        "figures.posthoc_lipschitz is 7; allowed: one of runs.fixed_lipschitz, [1, 20]",
    ),
    "a step of one": ({"feedback": {"largest_step": 1}}, "feedback.largest_step is 1; allowed: a number greater than 1"),
    "a name that leaves results": ({"experiment": "../x"}, "experiment is '../x'; allowed: up to 100 letters"),
    "a name with a line break": ({"experiment": "x\n"}, "experiment is 'x\\n'; allowed: up to 100 letters"),
    "a name that is a number": ({"experiment": 3}, "experiment is 3; allowed: text"),
    "an empty path": (
        {"dataset": {"name": "cifar10", "path": "", "test_images": ...}},
        "dataset.path is ''; allowed: a path that is not empty",
    ),
    "a path with NUL": (
        {"dataset": {"name": "cifar10", "path": "\0", "test_images": ...}},
        "dataset.path is '\\x00'; allowed: a path",
    ),
    "more threads than any machine has": ({"compute": {"threads": 10**18}}, "compute.threads is 1000000000000000000; allowed"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_config_is_refused(tiny, case):
    changes, sentence = BAD[case]
    with pytest.raises(LipscaleError) as caught:
        configs.check(changed(tiny, changes))
    assert str(caught.value).startswith(f"config: {sentence}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [None, [], "text", 3])
def test_what_is_no_mapping_is_refused(config):
    with pytest.raises(LipscaleError, match=re.escape(f"config: the config is {config!r}; allowed: a mapping of the keys")):
        configs.check(config)


SIDES = [  # side of an image, side of a patch, stages
    (
        28,
        2,
        2,
        "has 2 stages, but a 28 x 28 image in patches of 2 can be halved only once (14 -> 7); use 1 stage or another patch",
    ),
    (28, 4, 1, "has 1 stage, but a 28 x 28 image in patches of 4 cannot be halved (7); use another patch"),
    (32, 1, 5, "has 5 stages, but a 32 x 32 image can be halved only 4 times (32 -> 16 -> 8 -> 4 -> 2, less than a kernel of "),
    (8, 4, 1, "has 1 stage, but an 8 x 8 image in patches of 4 cannot be halved (2, less than a kernel of 3 x 3); use "),
]


@pytest.mark.parametrize(("side", "patch", "stages", "sentence"), SIDES)
def test_network_that_does_not_fit_the_images(side, patch, stages, sentence):
    network = configs.check(TINY32 | convnet(channels=[2], patch=1)).network
    network = network.model_copy(update={"channels": [2] * stages, "patch": patch})
    with pytest.raises(LipscaleError, match=f"^{re.escape(f'config: network.channels {sentence}')}"):
        configs.check_image_side(network, side)


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


TINY32 = {key: value for key, value in CONFIG.items() if key != "dataset"} | {
    "dataset": {"name": "cifar10", "validation_images": 9}
}


@pytest.mark.parametrize("size", [None, *configs.SIZES])
def test_sizes_fill_what_is_not_given(size):
    network = {"architecture": "convnet", "depth": 7} | ({"size": size} if size else {})
    found = configs.check(TINY32 | {"network": network}).network
    values = configs.SIZES[size or "medium"] | {"depth": 7}
    assert {key: getattr(found, key) for key in values} == values
    assert "size" not in found.model_dump()
    assert found == configs.check(TINY32 | {"network": {"architecture": "convnet"} | values}).network


def test_runs(tiny):
    tiny["runs"] = {
        "seeds": [3, 0], "list_initial_lipschitz": [0.01, 1e5], "fixed_lipschitz": [12], "unconstrained_learning_rate": 0.5,
        "replay_initial_lipschitz": [0.01], "ramp_lipschitz": [7],
    }  # fmt: skip
    experiment = configs.check(tiny)
    runs = configs.runs(experiment)
    assert [run.run for run in runs] == [
        "list-0.01-seed3", "list-0.01-seed0", "list-100000-seed3", "list-100000-seed0", "fixed-12-seed3", "fixed-12-seed0",
        "unconstrained-seed3", "unconstrained-seed0", "replay-0.01-seed3", "replay-0.01-seed0", "ramp-7-seed3", "ramp-7-seed0",
    ]  # fmt: skip
    assert [run.initial_lipschitz for run in runs[::2]] == [0.01, 1e5, 12, math.inf, 0.01, 7]
    assert [run.training.learning_rate for run in runs[::2]] == [0.02, 0.02, 0.02, 0.5, 0.02, 0.02]
    assert [run.replays for run in runs] == [None] * 8 + ["list-0.01-seed0", "list-0.01-seed3", None, None]
    assert {run.method for run in runs} == set(METHODS)
    for run in runs:
        for text in (yaml.safe_dump(run.model_dump(mode="json")), json.dumps(run.model_dump(mode="json") | infinity(run))):
            assert configs.check_run(yaml.safe_load(text)) == run


def infinity(run: configs.Run) -> dict:
    """JSON has no infinity; the text stands for it."""
    return {"initial_lipschitz": "inf"} if math.isinf(run.initial_lipschitz) else {}


def test_replays_take_the_next_seed_of_the_same_setting(tiny):
    variant = {"offsets": [36], "list_initial_lipschitz": [1], "replay_initial_lipschitz": [1], "calibration_data": "continue"}
    tiny["runs"] |= {"seeds": [5, 2, 9], "variants": [variant]}
    runs = {run.run: run for run in configs.runs(configs.check(tiny))}
    replayed = {run.seed: run.replays for run in runs.values() if run.method == "replay"}
    assert replayed == {5: "list-1-xi36-continue-seed2", 2: "list-1-xi36-continue-seed9", 9: "list-1-xi36-continue-seed5"}
    for run in runs.values():  # what a replay depends on: its own settings, and the name of what it replays
        assert run.identity().get("replays") == run.replays


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"seeds": [4], "replay_initial_lipschitz": [0.1]},
            r"replay-0\.1 replays the L of another seed .* runs\.seeds is \[4\]",
        ),
        ({"replay_initial_lipschitz": [7]}, "replay-7 replays the L of list-7, which the config does not train; add it"),
        (
            {"variants": [{"offsets": [36], "replay_initial_lipschitz": [0.1]}]},
            r"the L of list-0\.1-xi36, which the config does",
        ),
    ],
)
def test_replays_need_what_they_replay(tiny, changes, sentence):
    tiny["runs"] |= changes
    with pytest.raises(LipscaleError, match=sentence):
        configs.check(tiny)


def test_identity_is_what_weights_depend_on(tiny):
    images = {"name": "imagefolder", "path": "a", "image_size": 8, "validation_images": 9}
    first, other = (
        configs.runs(configs.check(tiny | {"dataset": dataset, "compute": compute, "experiment": name}))[-1]
        for name, dataset, compute in (
            ("a", images, {"pack": True}),
            ("b", images | {"path": "b", "largest_unpacked_gib": 9}, {"mem_mb": 9}),
        )
    )
    assert first != other
    assert configs.digest(first.identity()) == configs.digest(other.identity())
    assert json.loads(json.dumps(first.identity(), allow_nan=False)) == first.identity()
    assert first.identity()["initial_lipschitz"] == "inf"
    for change in ({"seed": 9}, {"compute": {"threads": 2}}, {"feedback": {"warmups": 1}}, {"dataset": {"split_seed": 1}}):
        changed_run = configs.check_run(changed(first.model_dump(mode="json"), change))
        assert configs.digest(changed_run.identity()) != configs.digest(first.identity())


RUN_BAD = {
    "a missing key": ({"seed": ...}, "seed is missing"),
    "an unknown key": ({"extra": 1}, "unknown key 'extra' at the top level; allowed: compute, "),
    "a wrong value": ({"training": {"epochs": 0}}, "training.epochs is 0; allowed: 1 or more"),
    "a missing key of a section": ({"network": {"widths": ...}}, "network.widths is missing"),
    "a missing section with defaults": ({"compute": ...}, "compute is missing"),
    "a missing key of an objective": ({"training": {"objective": {"name": ...}}}, "training.objective.name is missing"),
    "an objective by name": ({"training": {"objective": "cross_entropy"}}, "training.objective.name is missing"),
    "a size in place of layers": (
        {"network": {"architecture": "convnet", "size": "small", "channels": [2], "depth": 1, "patch": 1}},
        "unknown key 'size' in network; allowed: allocation, ",
    ),
    "a network that does not fit": (
        {"network": {"architecture": "convnet", "channels": [2, 2, 2], "depth": 1, "patch": 1}},
        "network.channels has 3 stages, but an 8 x 8 image can be halved only twice",
    ),
    "a name that leaves the folder": ({"run": "../x"}, "run is '../x'; allowed: up to 100 letters"),
    "a name that is a path": ({"run": "a/b"}, "run is 'a/b'"),
    "no name": ({"run": ""}, "run is ''"),
    "a seed that is no number": ({"seed": "x"}, "seed is 'x'; allowed: an integer"),
    "an unknown method": ({"method": "none"}, "method is 'none'; allowed: one of list, fixed, unconstrained"),
    "no L": ({"initial_lipschitz": None}, "initial_lipschitz is None; allowed: a number"),
    "L = NaN": ({"initial_lipschitz": math.nan}, "initial_lipschitz is nan; allowed: a finite number"),
    "infinite L": ({"initial_lipschitz": math.inf}, "initial_lipschitz is inf; allowed: a finite number, as method is list"),
    "an L without constraint": ({"method": "unconstrained"}, "initial_lipschitz is 0.1; allowed: inf, as method is unconst"),
    "L0 out of bounds": ({"initial_lipschitz": 1e6}, "initial_lipschitz is 1e+06; allowed: from 0.0001 to 100000, the bou"),
    "an unknown device": ({"compute": {"device": "tpu"}}, "compute.device is 'tpu'; allowed: one of cpu, cuda"),
    "text for threads": ({"compute": {"threads": "many"}}, "compute.threads is 'many'; allowed: an integer"),
    "an unknown precision": ({"compute": {"precision": "int8"}}, "compute.precision is 'int8'"),
}


@pytest.mark.parametrize("case", RUN_BAD)
def test_bad_config_of_a_run_is_refused(run, case):
    change, sentence = RUN_BAD[case]
    with pytest.raises(LipscaleError) as caught:
        configs.check_run(changed(run, change))
    assert str(caught.value).startswith(f"config: {sentence}")


def test_data_set_alone_is_checked_as_a_section():
    assert configs.check_dataset({"name": "cifar100", "validation_images": 5}).image_shape() == (3, 32, 32)
    with pytest.raises(LipscaleError, match=r"^config: dataset\.validation_images is missing"):
        configs.check_dataset({"name": "cifar100"})
    with pytest.raises(LipscaleError, match=r"^config: unknown key 'x' in dataset, whose name is cifar10"):
        configs.check_dataset({"name": "cifar10", "validation_images": 5, "x": 1})


def test_variants_are_settings_of_their_own(tiny):
    tiny["runs"]["variants"] = [
        {"offsets": [18, 36.5], "list_initial_lipschitz": [0.1], "fixed_lipschitz": [1]},
        {"calibration_data": "continue", "offsets": [36], "list_initial_lipschitz": [0.1]},
    ]
    names = [run.setting for run in configs.runs(configs.check(tiny)) if run.seed == 0]
    assert names == [
        *("list-0.1", "list-100", "list-0.1-xi18", "list-0.1-xi36.5", "list-0.1-xi36-continue"),
        *("fixed-1", "fixed-20", "fixed-1-xi18", "fixed-1-xi36.5", "unconstrained"),
    ]
    runs = {run.run: run for run in configs.runs(configs.check(tiny))}
    run = runs["list-0.1-xi36-continue-seed1"]
    assert (run.training.offset, run.training.calibration_data, run.variant) == (36, "continue", "continue")
    assert (runs["list-0.1-seed0"].training.offset, runs["list-0.1-seed0"].variant) == (0, "standard")
    assert configs.check_run(run.model_dump(mode="json")) == run


@pytest.mark.parametrize(
    ("variant", "sentence"),
    [
        (
            {"offsets": [36], "unconstrained_learning_rate": 0.1},
            "training.offset is 36; allowed: 0 for the method unconstrained",
        ),
        ({"offsets": [-1]}, "runs.variants[0].offsets[0] is -1; allowed: 0 or more"),
        ({"offset": [1]}, "unknown key 'offset' in runs.variants[0]; allowed: calibration_data, fixed_lipschitz"),
        ({"list_initial_lipschitz": [0.1]}, "2 runs would share the name list-0.1-seed0"),
        ({"calibration_data": "some"}, "runs.variants[0].calibration_data is 'some'; allowed: one of none, continue, restart"),
    ],
)
def test_bad_variant_is_refused(tiny, variant, sentence):
    tiny["runs"]["variants"] = [variant]
    with pytest.raises(LipscaleError) as caught:
        configs.check(tiny)
    assert str(caught.value).startswith(f"config: {sentence}")


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

"""The runs of a config: names, seeds, variants, and the config that travels with each."""

import copy
import json
import math

import pytest
import yaml

from lipscale import config as configs
from lipscale.errors import LipscaleError
from lipscale.method.methods import METHODS
from small_configs import CONFIG, changed


@pytest.fixture
def tiny() -> dict:
    """A small valid config, to be changed freely."""
    return copy.deepcopy(CONFIG)


@pytest.fixture
def run(tiny) -> dict:
    """What the config.yaml of a run holds."""
    return configs.runs(configs.check(tiny))[0].model_dump(mode="json")


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


def test_variants_are_settings_of_their_own(tiny):
    tiny["runs"]["variants"] = [
        {"offsets": [18, 36.5], "list_initial_lipschitz": [0.1], "fixed_lipschitz": [20]},
        {"calibration_data": "continue", "offsets": [36], "list_initial_lipschitz": [0.1]},
    ]
    names = [run.setting for run in configs.runs(configs.check(tiny)) if run.seed == 0]
    assert names == [
        *("list-0.1", "list-100", "list-0.1-xi18", "list-0.1-xi36.5", "list-0.1-xi36-continue"),
        *("fixed-20", "fixed-20-xi18", "fixed-20-xi36.5", "unconstrained"),
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

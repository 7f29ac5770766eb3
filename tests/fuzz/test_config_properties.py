"""Whatever is given as a config, or as the config of a run: it is valid, or refused in one line."""

import copy
import json
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT, TINY
from fuzzing import TEXTS, broken, examples, refused
from lipscale import config as configs
from lipscale.config.schema import schema
from lipscale.store import files
from strategies import ANYTHING, get, mutated, positions

SHIPPED = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "config").glob("*.yaml"))]
CONFIG = TINY | {"evaluation": {"epsilons": [72], "attack_images": 60, "spot_check_images": 10, "attack_batch_size": 60}}
CONVNET = CONFIG | {"network": {"architecture": "convnet", "channels": [4], "depth": 1, "patch": 1, "widths": [8]}}
WHOLE = configs.check(CONVNET).model_dump(mode="json")  # every key, defaults too
OBJECTIVES = [
    CONFIG | {"training": TINY["training"] | {"objective": value}} for value in ("caat", {"name": "trades", "beta": 1})
]
VALID = [*SHIPPED, CONFIG, CONVNET, WHOLE, *OBJECTIVES]
RUNS = [run for config in VALID for run in configs.runs(configs.check(config))[::7]]
RUN_FILES = [run.model_dump(mode="json") for run in RUNS]
DATASETS = [config["dataset"] for config in VALID]


def check_config(config: object) -> list[configs.Run]:
    """The runs of a config, if it is valid."""
    with refused("configs") as said:
        checked = configs.check(config)
    if said:
        assert said[0].startswith("config: ")
        return []
    written = checked.model_dump(mode="json")
    json.dumps(written, allow_nan=False)
    assert configs.check(yaml.safe_load(yaml.safe_dump(written))) == checked
    runs = configs.runs(checked)
    assert len({run.run for run in runs}) == len(runs) > 0
    for run in (runs[0], runs[-1]):
        assert configs.check_run(yaml.safe_load(yaml.safe_dump(run.model_dump(mode="json")))) == run
        assert configs.digest(json.loads(json.dumps(run.identity(), allow_nan=False))) == configs.digest(run.identity())
    return runs


def check_run(config: object) -> list[configs.Run]:
    """The run, if its config is valid."""
    with refused("configs of runs") as said:
        run = configs.check_run(config)
    if said:
        assert said[0].startswith("config: ")
        return []
    assert configs.check_run(run.model_dump(mode="json")) == run
    assert Path("runs", run.run).resolve().parent == Path("runs").resolve()
    return [run]


def check_network(run: configs.Run) -> None:
    """A network that is let through can be built and fits its images; sizes are checked without allocating them."""
    import torch

    from lipscale.method.feedback import LipschitzFeedback
    from lipscale.networks.network import build_network

    torch.manual_seed(run.seed)
    bounds = {key: getattr(run.feedback, key) for key in ("largest_step", "lowest_lipschitz", "highest_lipschitz")}
    LipschitzFeedback(**bounds)
    if run.network.architecture == "mlp" or 4 * len(run.network.channels) * run.network.depth < 100:
        shape = configs.image_shape(run.dataset)
        with torch.device("meta"):
            network = build_network(run.network, shape, 10, [0.5] * shape[0], run.initial_lipschitz)
            network = network.to("meta")  # orthogonium makes some parameters on the CPU nevertheless
            assert network(torch.empty(2, *shape)).shape == (2, 10)


@examples(150)
@given(ANYTHING)
def test_any_value_is_no_config(value):
    check_config(value)


@examples(250)
@given(mutated(VALID))
def test_mutated_config(config):
    check_config(config)


@examples(150)
@given(mutated(RUN_FILES) | ANYTHING)
def test_mutated_config_of_a_run(config):
    check_run(config)


@examples(100)
@given(mutated(DATASETS) | ANYTHING)
def test_mutated_section_of_data(section):
    with refused("sections of data") as said:
        checked = configs.check_dataset(section)
    if not said:
        assert min(configs.image_shape(checked)) > 0
        assert configs.check_dataset(checked.model_dump(mode="json")) == checked


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@examples(300)
@given(mutated(VALID))
def test_networks_of_a_mutated_config(config):
    for run in check_config(config)[::20]:
        check_network(run)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@examples(300)
@given(mutated(RUN_FILES))
def test_network_of_a_mutated_run(config):
    for run in check_run(config):
        check_network(run)


ODD = [10**400, -(10**400), math.nan, -math.inf, 1e308, "9" * 5000, "\ud800", b"7", [[]], {}, {3: 3}, None]


@pytest.mark.parametrize("value", range(len(ODD)))
@pytest.mark.parametrize("check", [check_config, check_run])
def test_odd_value_of_any_key(check, value):
    whole = WHOLE if check is check_config else RUN_FILES[-1]
    for *way, key in positions(whole):
        config = copy.deepcopy(whole)
        get(config, way)[key] = ODD[value]
        check(config)


SYNTAX = [
    "&a [*a]", "&a {b: *a}", "2000-13-01", "!!int x", "!!float x", "!!bool x", "!!timestamp x", "!!binary x", "!!set {a}",
    "!!omap [a: 1]", "!!python/object/apply:os.system [true]", "!!python/name:os.system", "0x" + "f" * 6000, "1" * 6000,
    "1:99:99", "? [a]\n: b", "? {a: b}\n: c", "<<: 3", "<<: [1]", '"\\ud800"', '"\\U00110000"', "---\n---\n", "%YAML 9.9\n---",
    "*x", "\t", "\ufeff", "!", "=", "~: ~",
]  # fmt: skip
TEXT_OF_CONFIG = (ROOT / "config" / "config.yaml").read_bytes()


@examples(150)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.sampled_from(SYNTAX) | TEXTS, max_size=4).map(
            lambda parts: "\n".join(parts).encode(errors="surrogatepass")
        ),
        st.sampled_from(SYNTAX).map(lambda text: f"experiment: {text}".encode()),
        st.just(TEXT_OF_CONFIG).flatmap(broken),
    )
)
def test_any_bytes_as_yaml(tmp_path, data):
    path = tmp_path / "config.yaml"
    path.write_bytes(data)
    with refused("YAML files"):
        configs.check(files.read_yaml(str(path)))


def test_what_the_check_allows_the_schema_allows():
    """An editor that uses the schema marks no valid config."""
    jsonschema = pytest.importorskip("jsonschema")
    for config in VALID:
        jsonschema.validate(config, schema())

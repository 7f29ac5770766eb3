"""Whatever is fed in, configs, settings, YAML, archives, models, data: it is valid, or refused in one line."""

import contextlib
import copy
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from conftest import ROOT, TINY, tried
from image_folders import tree, write_folder
from lipscale import cli as command_line
from lipscale import config as configs
from lipscale.certification import export
from lipscale.certification.certificate import certificate
from lipscale.data.dataset import SPLITS, Dataset
from lipscale.errors import LipscaleError
from lipscale.method.feedback import LipschitzFeedback
from lipscale.networks.network import build_network
from lipscale.store import files
from lipscale.store.checksums import seal

CACHE = tempfile.TemporaryDirectory()  # instead of a folder .hypothesis that would be left behind
set_hypothesis_home_dir(CACHE.name)

SHIPPED = [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "config").glob("*.yaml")) if path.name != "schema.yaml"]
CONVNET = {**TINY, "network": {"architecture": "convnet", "channels": [4], "depth": 1, "patch": 1, "widths": [8]}}
VALID = [*SHIPPED, TINY, CONVNET]


TIMES = int(os.environ.get("LIPSCALE_EXAMPLES", 1))  # 10: ten times as many examples, and other ones each time

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Duplicate name"),
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors"),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]


def examples(count: int) -> settings:
    """So many examples, the same ones each time, none kept on the disk."""
    return settings(
        max_examples=TIMES * count,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )


@contextlib.contextmanager
def refused(kind: str) -> Iterator[list[str]]:
    """Counts an example; yields a list that gets the one line with which it is refused, if it is. No other error is let by."""
    said = []
    tried[kind] += 1
    try:
        yield said
    except LipscaleError as error:
        said.append(str(error))
        tried[f"{kind} refused"] += 1
    for line in said:
        assert line.isprintable()
        assert 10 < len(line) < 1000


# --- what is fed in ---

TEXTS = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(codec=None), max_size=5),  # lone surrogates too
    st.sampled_from(
        ["", ".", "..", "../x", "/x", "a/b", "x\n", "\0", "nan", "inf", "-1", "1e3", "1e999", "9" * 5000, "true", "null"]
    ),
    st.sampled_from(["x" * 300, "$(touch pwned)", "`x`", "'", '"', "{x}", "{{", "%s", "digits", "list", "cuda", "é\u2028"]),
)
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-2, 130),
    st.floats(),
    st.sampled_from([0, -0.0, 1, 1.0, 36.0, 1e18, 1e19, 10**18, 10**400, 2**63, 5e-324, 1e308, math.nan]),
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | st.dates() | st.binary(max_size=3)
KEYS = st.one_of(TEXTS, st.none(), st.booleans(), st.integers(), st.floats())
ANYTHING = st.recursive(
    SCALARS, lambda item: st.lists(item, max_size=4) | st.dictionaries(KEYS, item, max_size=4), max_leaves=12
)


def places(value: object, place: tuple = ()) -> Iterator[tuple]:
    """The path of keys and indices to everything inside `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*place, key)
        yield from places(item, (*place, key))


@st.composite
def mutated(draw, of: list) -> object:
    """One of some configs with a few values replaced, removed, added, renamed or moved."""
    config = copy.deepcopy(draw(st.sampled_from(of)))
    for _ in range(draw(st.integers(1, 3))):
        known = list(places(config))
        assume(known)
        *way, key = draw(st.sampled_from(known))
        parent = config
        for step in way:
            parent = parent[step]
        others = st.sampled_from(known).map(lambda place: get(config, place))
        value = draw(near(parent[key]) | NUMBERS | TEXTS | ANYTHING | others.map(copy.deepcopy))
        change = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "rename"]))
        if change == "replace":
            parent[key] = value
        elif change == "remove":
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(key, value)
        else:
            name = draw(KEYS | st.sampled_from([place[-1] for place in known]))
            parent[name] = value if change == "add" else parent.pop(key)
    return config


def get(value: object, place: tuple) -> object:
    for step in place:
        value = value[step]
    return value


def near(value: object) -> st.SearchStrategy:
    """Values that have a chance of being allowed in the place of `value`."""
    if isinstance(value, int | float) and abs(value) < 1e300:
        return st.sampled_from(
            [value, value + 1, 2 * value, 4 * value, value / 2, value / 3, str(value), f"{value:e}", float(value)]
        )
    return st.sampled_from(
        [value, True, False, "small", "mlp", "convnet", "cpu", "imagefolder", "cifar10", [2, 4], [64], 2, None]
    )


@st.composite
def broken(draw, data: bytes) -> bytes:
    """`data` with a few bytes flipped, cut off, repeated or put in."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "flip", "set", "cut", "remove", "insert", "repeat"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, ord("0"), ord("9"), ord("-")]))
            case "cut":
                del data[at:]
            case "remove":
                del data[at : at + draw(st.integers(1, 600))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=16))
            case "repeat":
                data[at:at] = data[at : at + 512]
    return bytes(data)


# --- configs ---


def check_config(config: object, kind: str) -> None:
    with refused(kind) as said:
        checked = configs.check(config)
    if said:
        assert said[0].startswith("config: ")
        return
    json.dumps(checked, allow_nan=False)
    assert repr(configs.check(checked)) == repr(checked)
    runs = list(configs.runs(checked))
    assert len({run["run"] for run in runs}) == len(runs) > 0
    for run in (runs[0], runs[-1]):
        assert repr(configs.check_settings(run)) == repr(run)
        assert json.loads(json.dumps(run)) == yaml.safe_load(yaml.safe_dump(run)) == run
    check_network(runs[0], checked["dataset"].get("image_size") or configs.IMAGE_SIDE[checked["dataset"]["name"]])


def check_network(run: dict, side: int) -> None:
    """A network that was let through can be built and fits its images; sizes are checked without allocating them."""
    LipschitzFeedback(**{key: run["feedback"][key] for key in ("largest_step", "lowest_lipschitz", "highest_lipschitz")})
    if run["network"]["architecture"] == "mlp" or 4 * len(run["network"]["channels"]) * run["network"]["depth"] < 100:
        with torch.device("meta"):
            network = build_network(run["network"], (3, side, side), 10, [0.5] * 3, None)
            assert network(torch.empty(2, 3, side, side)).shape == (2, 10)


@examples(1500)
@given(ANYTHING)
def test_any_value_is_no_config(value):
    check_config(value, "configs")


@examples(3000)
@given(mutated(VALID))
def test_mutated_config(config):
    check_config(config, "configs")


def deep(levels: int) -> list:
    value = []
    for _ in range(levels):
        value = [value]
    return value


def endless() -> dict:
    value = {}
    value["runs"] = value
    return value


def doubled(times: int) -> list:
    """Small in memory, and huge when it is walked through: what YAML's aliases can make."""
    value = [1]
    for _ in range(times):
        value = [value, value]
    return value


HOSTILE = {  # of which no example can be printed, so that Hypothesis cannot be given them
    "a long number": 10**5000,
    "a long negative number": -(10**5000),
    "a long number as a key": {10**5000: 1},
    "deep": deep(100_000),
    "deep as it just may be": deep(15),
    "endless": endless(),
    "doubled": doubled(60),
    "many": list(range(20_000)),
}


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("check", [configs.check, configs.check_settings, configs.check_dataset])
def test_hostile_value_anywhere(check, value):
    whole = configs.check(CONVNET)
    whole = {configs.check_settings: next(configs.runs(whole)), configs.check_dataset: whole["dataset"]}.get(check, whole)
    for *way, key in places(whole):
        config = copy.deepcopy(whole)
        get(config, way)[key] = HOSTILE[value]
        with refused("configs") as said:
            check(config)
        assert said


RUNS = [run for config in VALID for run in list(configs.runs(configs.check(config)))[::7]]


@examples(1500)
@given(mutated(RUNS) | ANYTHING)
def test_mutated_settings_of_a_run(run):
    with refused("settings of runs") as said:
        checked = configs.check_settings(run)
        configs.check_image_side(checked["network"], 32)
    if said:
        return
    assert repr(configs.check_settings(checked)) == repr(checked)
    assert Path("runs", checked["run"]).resolve().parent == Path("runs").resolve()
    assert len(checked["run"]) < 200
    assert configs.digest(checked)
    torch.manual_seed(checked["seed"])
    torch.set_num_threads(1)
    check_network(checked, 32)


@examples(500)
@given(mutated([configs.check(config)["dataset"] for config in VALID]) | ANYTHING)
def test_mutated_settings_of_data(section):
    with refused("settings of data") as said:
        checked = configs.check_dataset(section)
    if not said:
        assert checked["split_seed"] >= 0
        assert (checked["name"] == "imagefolder") == ("image_size" in checked)


@examples(150)
@given(run=mutated(RUNS))
def test_train_by_hand(digits, run, monkeypatch, tmp_path, capsys):
    """`python -m lipscale train`, but for the training itself."""
    ready = []
    monkeypatch.setattr("lipscale.training.loop.train", lambda run, dataset, folder: ready.append(folder))
    path = tmp_path / "settings.yaml"
    try:
        text = yaml.safe_dump(run)
        path.write_text(text)
    except (ValueError, RecursionError):  # what cannot be written as YAML
        assume(False)
    tried["settings of runs"] += 1
    code = command_line.main(["train", "--settings", str(path), "--data", str(digits), "--runs", str(tmp_path / "runs")])
    said = capsys.readouterr().err
    tried["settings of runs refused"] += code
    assert (code, said.count("\n")) in ((0, 0), (1, 1))
    assert said.startswith("lipscale: ") or not said
    assert all(folder.parent == tmp_path / "runs" for folder in ready)


SYNTAX = [
    "&a [*a]", "&a {b: *a}", "2000-13-01", "!!int x", "!!float x", "!!bool x", "!!timestamp x", "!!binary x", "!!set {a}",
    "!!omap [a: 1]", "!!python/object/apply:os.system [true]", "!!python/name:os.system", "0x" + "f" * 6000, "1" * 6000,
    "1:99:99", "? [a]\n: b", "? {a: b}\n: c", "<<: 3", "<<: [1]", "[" * 3000, "{a: " * 3000, "- " * 3000, '"\\ud800"',
    '"\\U00110000"', "---\n---\n", "%YAML 9.9\n---", "*x", "\t", "\ufeff", "!", "=", "~: ~",
]  # fmt: skip
TEXT_OF_CONFIGS = [path.read_bytes() for path in sorted((ROOT / "config").glob("*.yaml"))]


@examples(800)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.lists(st.sampled_from(SYNTAX) | TEXTS, max_size=4).map(
            lambda parts: "\n".join(parts).encode(errors="surrogatepass")
        ),
        st.sampled_from(SYNTAX).map(lambda text: f"experiment: {text}".encode()),
        st.sampled_from(TEXT_OF_CONFIGS[:2]).flatmap(broken),
    )
)
def test_any_bytes_as_yaml(tmp_path, data):
    path = tmp_path / "settings.yaml"
    path.write_bytes(data)
    with refused("YAML files"):
        value = files.read_yaml(str(path))
        configs.check_settings(value)
    with refused("YAML files"):
        configs.check(files.read_yaml(str(path)))


# --- models and prepared data ---


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    network = build_network(configs.check(CONVNET)["network"], (1, 8, 8), 10, [0.5], 3.0)
    export.save(export.export(network, (1, 8, 8)), path)
    return path


def check_model(path: Path) -> None:
    with refused("models") as said:
        network = export.load(path)
    if not said:
        with refused("certificates"):
            assert certificate(network).lipschitz_certified >= 0
        logits = network(torch.zeros(2, *network.image_shape))
        assert len(logits) == 2
        assert network.lipschitz >= 0


@examples(400)
@given(st.data())
def test_damaged_model(model, tmp_path, data):
    whole, path = model.read_bytes(), tmp_path / "model.safetensors"
    header = 8 + int.from_bytes(whole[:8], "little")
    text = data.draw(st.booleans())  # damage to the description, or anywhere
    path.write_bytes(data.draw(broken(whole[:header])) + whole[header:] if text else data.draw(broken(whole)))
    check_model(path)


@examples(400)
@given(st.data())
def test_mutated_description_of_a_model(model, tmp_path, data):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(model, "pt") as file:
        description = json.loads(file.metadata()["network"])
    changed = data.draw(mutated([description]))
    try:
        text = json.dumps(changed)
    except (ValueError, TypeError, RecursionError):  # what is no JSON
        assume(False)
    assume(len(text) < 10**6)
    save_file(load_file(model), tmp_path / "model.safetensors", {"network": text})
    check_model(tmp_path / "model.safetensors")


def check_data(folder: Path) -> None:
    for name in ("arrays.npz", "manifest.json"):  # or the seals would refuse all of them, and nothing would be parsed
        seal(folder / name)
    with refused("prepared data") as said:
        dataset = Dataset(folder)
        for split in SPLITS:
            assert dataset.images(split).shape == (len(dataset.labels(split)), *dataset.image_shape)
    if not said:
        assert len(dataset.mean) == dataset.image_shape[0]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Prepared data that are small enough to be written again and again."""
    from lipscale.data.prepare import prepare

    folder = tmp_path_factory.mktemp("prepared")
    section = {
        "name": "imagefolder",
        "path": str(write_folder(folder / "images", tree())),
        "validation_images": 2,
        "image_size": 2,
    }
    prepare(configs.check_dataset(section), folder)
    return folder


@examples(300)
@given(st.data())
def test_damaged_data(prepared, tmp_path, data):
    shutil.copy(prepared / "manifest.json", tmp_path)
    (tmp_path / "arrays.npz").write_bytes(data.draw(broken((prepared / "arrays.npz").read_bytes())))
    check_data(tmp_path)


@examples(300)
@given(st.data())
def test_damaged_manifest(prepared, tmp_path, data):
    shutil.copy(prepared / "arrays.npz", tmp_path)
    whole = (prepared / "manifest.json").read_bytes()
    if data.draw(st.booleans()):
        content = data.draw(broken(whole))
    else:
        try:
            content = json.dumps(data.draw(mutated([json.loads(whole)]))).encode()
        except (ValueError, TypeError, RecursionError):
            assume(False)
    (tmp_path / "manifest.json").write_bytes(content)
    check_data(tmp_path)

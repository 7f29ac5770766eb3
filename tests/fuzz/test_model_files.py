"""Whatever is given as a model: it is read, evaluated and certified, or refused in one line."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from conftest import TINY
from fuzzing import broken, examples, refused
from lipscale import config as configs
from lipscale.certification.certificate import certificate
from lipscale.certification.export import export
from lipscale.certification.model_file import load, save
from lipscale.networks.network import build_network
from strategies import ANYTHING, mutated

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")

CONVNET = {"architecture": "convnet", "channels": [4], "depth": 1, "patch": 1, "widths": [8]}


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model that is whole."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    network = build_network(configs.check(TINY | {"network": CONVNET}).network, (1, 8, 8), 10, [0.5], 3.0)
    save(export(network, (1, 8, 8)), path)
    return path


def check_model(path: Path) -> bool:
    """Whether it is read."""
    with refused("models") as said:
        network = load(path)
    if said:
        return False
    with refused("certificates"):
        assert certificate(network).lipschitz_certified >= 0
    assert len(network(torch.zeros(2, *network.image_shape))) == 2
    assert network.lipschitz >= 0
    return True


def test_whole_model(model):
    assert check_model(model)


@examples(80)
@given(st.data())
def test_damaged_model(model, tmp_path, data):
    whole, path = model.read_bytes(), tmp_path / "model.safetensors"
    header = 8 + int.from_bytes(whole[:8], "little")
    text = data.draw(st.booleans())  # damage to the description, or anywhere
    path.write_bytes(data.draw(broken(whole[:header])) + whole[header:] if text else data.draw(broken(whole)))
    check_model(path)


@examples(80)
@given(st.data())
def test_mutated_description_of_a_model(model, tmp_path, data):
    with safe_open(model, "pt") as file:
        description = json.loads(file.metadata()["network"])
    changed = data.draw(mutated([description]) | ANYTHING)
    try:
        text = json.dumps(changed)
    except (ValueError, TypeError, RecursionError):  # what is no JSON
        assume(False)
    assume(len(text) < 10**6)
    save_file(load_file(model), tmp_path / "model.safetensors", {"network": text})
    check_model(tmp_path / "model.safetensors")


@examples(60)
@given(st.data())
def test_mutated_weights_of_a_model(model, tmp_path, data):
    """Weights that are missing, renamed, not finite, or of another shape or type."""
    with safe_open(model, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(model)
    name = data.draw(st.sampled_from(sorted(tensors)))
    changes = {
        "missing": lambda tensor: {},
        "renamed": lambda tensor: {f"{name}.x": tensor},
        "not finite": lambda tensor: {name: torch.full_like(tensor, data.draw(st.sampled_from([torch.nan, torch.inf])))},
        "huge": lambda tensor: {name: torch.full_like(tensor, 3e38)},
        "zero": lambda tensor: {name: torch.zeros_like(tensor)},
        "flat": lambda tensor: {name: tensor.flatten()},
        "empty": lambda tensor: {name: tensor[:0].clone()},
        "another type": lambda tensor: {name: tensor.to(data.draw(st.sampled_from([torch.float16, torch.int8, torch.bool])))},
    }
    change = data.draw(st.sampled_from(sorted(changes)))
    tensors |= changes[change](tensors.pop(name))
    save_file(tensors, tmp_path / "model.safetensors", metadata)
    read = check_model(tmp_path / "model.safetensors")
    assert not read or change in ("huge", "zero", "flat", "empty")

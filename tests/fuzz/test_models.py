"""Damaged model files and odd networks: read or exported as they are, or refused in one line."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from orthogonium.layers import MaxMin, OrthoLinear
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from fuzzing import broken, examples, refused
from lipscale.certification.certificate import certificate
from lipscale.certification.export import export
from lipscale.certification.model_file import load, save
from lipscale.certification.plain_layers import Centre, GroupSort2, Residual, Scale
from lipscale.networks.network import build_network
from strategies import mutated

SHAPE = (2, 8, 8)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors"),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    settings = SimpleNamespace(
        architecture="convnet", channels=[4], depth=1, patch=1, widths=[8], bias=True, allocation="softmax", family="orthogonal"
    )
    save(export(build_network(settings, SHAPE, 10, [0.5, 0.5], 3.0), SHAPE), path)
    return path


def check_model(path: Path) -> None:
    with refused("models") as said:
        network = load(path)
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


SINGLE = [  # makers of layers, accepted and refused ones
    nn.ReLU, nn.Identity, nn.Dropout, nn.Flatten, nn.Tanh, nn.Softmax, MaxMin, GroupSort2,
    lambda: nn.ReLU(inplace=True), lambda: Centre(2), lambda: Scale(-2.5), lambda: nn.BatchNorm2d(2),
    lambda: nn.AvgPool2d(2), lambda: nn.MaxPool2d(2), lambda: nn.Conv2d(2, 4, 3), lambda: nn.Linear(128, 16),
    lambda: nn.Conv2d(2, 2, 3, padding="same"), lambda: nn.Conv2d(2, 2, 2, padding="same"),
    lambda: nn.Conv2d(2, 2, 3, padding=1, padding_mode="circular"), lambda: nn.utils.weight_norm(nn.Conv2d(2, 2, 1)),
    lambda: OrthoLinear(16, 8), lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8)),
]  # fmt: skip
LAYERS = st.recursive(
    st.sampled_from(SINGLE).map(lambda make: make()),
    lambda layer: st.lists(layer, max_size=3).flatmap(
        lambda layers: st.sampled_from([nn.Sequential(*layers), Residual(nn.Sequential(*layers))])
    ),
    max_leaves=6,
)


@examples(400)
@given(st.lists(LAYERS, max_size=6), st.booleans())
def test_any_network_is_exported_as_the_same_function_or_refused(layers, with_head):
    torch.manual_seed(0)
    network = nn.Sequential(*layers, *([nn.Flatten(), nn.Linear(128, 5)] if with_head else []))
    with refused("networks") as said:
        plain = export(network, SHAPE)
    if not said:
        images = torch.rand(8, *SHAPE)
        expected = network.eval()(images.clone())
        assert (plain(images) - expected).abs().max() <= 1e-3 * expected.abs().max()
        assert plain.lipschitz == certificate(plain).lipschitz_certified

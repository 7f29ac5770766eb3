"""Generated networks: exported as the functions they are, or refused in one line."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from orthogonium.layers import MaxMin, OrthoLinear
from torch import nn

from fuzzing import examples, refused
from lipscale.certification.certificate import certificate
from lipscale.certification.export import export
from lipscale.certification.plain_layers import Centre, GroupSort2, Residual, Scale

SHAPE = (2, 8, 8)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Initializing zero-element tensors"),
    pytest.mark.filterwarnings("ignore:Generating overly large repr"),
]


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


@examples(120)
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

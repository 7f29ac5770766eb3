"""Laws of the family aol: norms at most 1, exported networks that compute the same, and training."""

from types import SimpleNamespace

import pytest
import torch
from orthogonium.layers.conv.AOL.aol import MultiStepAOLReparametrizer
from torch import nn

from lipscale.certification.certificate import certificate
from lipscale.certification.freezing import freeze
from lipscale.certification.norms import conv_norm_bound
from lipscale.networks.families import aol
from lipscale.networks.network import build_network

SHAPE = (1, 8, 8)
CONVOLUTIONS = {  # inputs, outputs, kernel, stride, padding
    "more outputs": (3, 8, 3, 1, 1),
    "more inputs": (8, 3, 3, 1, 1),
    "strided patches": (4, 6, 2, 2, 0),
    "strided, overlapping": (4, 6, 3, 2, 1),
    "strided patches, padded": (4, 6, 3, 3, 1),
    "one channel": (1, 1, 3, 1, 1),
}


def conv(name: str, scale: float = 1.0) -> nn.Conv2d:
    inputs, outputs, kernel, stride, padding = CONVOLUTIONS[name]
    layer = aol.conv(inputs, outputs, kernel, stride=stride, padding=padding, padding_mode="circular").double()
    if scale:
        torch.nn.init.normal_(layer.parametrizations.weight.original, std=scale)
    return layer


def norm(layer: nn.Module, shape: tuple[int, ...]) -> float:
    """The norm of the matrix of a layer, by SVD."""
    images = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).view(-1, *shape)
    columns = (layer(images) - layer(torch.zeros_like(images))).flatten(1)
    return torch.linalg.matrix_norm(columns, 2).item()


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 100.0])
@pytest.mark.parametrize("shape", [(12, 5), (5, 12), (7, 7), (1, 4), (4, 1)])
def test_norm_of_a_dense_layer_is_at_most_1(shape, scale):
    torch.manual_seed(0)
    layer = aol.dense(*shape).double()
    if scale:
        torch.nn.init.normal_(layer.parametrizations.weight.original, std=scale)
    singular = torch.linalg.svdvals(layer.weight)
    assert singular.max() <= 1 + 1e-12
    assert scale or singular.min() > 1 - 1e-6  # orthogonal at the start


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 100.0])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_norm_of_a_convolution_is_at_most_1(name, scale):
    torch.manual_seed(0)
    layer = conv(name, scale)
    found = norm(layer, (layer.in_channels, 6, 6))
    bound = conv_norm_bound(layer.weight.detach(), (6, 6), layer.stride, layer.padding, "circular")
    assert found <= 1 + 1e-12
    assert found <= bound <= 1 + 1e-4
    assert found > (0.2 if scale else 0.99)


def test_a_layer_without_weights_stays_without():
    layer = aol.dense(3, 4)
    torch.nn.init.zeros_(layer.parametrizations.weight.original)
    assert (layer.weight == 0).all()
    layer.weight.sum().backward()
    assert layer.parametrizations.weight.original.grad.isfinite().all()


@pytest.mark.parametrize("name", ["more outputs", "more inputs", "one channel"])
def test_weights_are_those_of_orthogonium(name):
    layer = conv(name)
    theirs = MultiStepAOLReparametrizer(min(layer.in_channels, layer.out_channels), groups=1, niter=1).double()
    torch.testing.assert_close(layer.weight, theirs(layer.parametrizations.weight.original))


def test_what_the_bound_does_not_hold_for_is_refused():
    for arguments in ({"groups": 2}, {"dilation": 2}, {"padding": 2}):
        with pytest.raises(ValueError, match="allowed: groups and dilation 1, padding less than half of the kernel"):
            aol.conv(4, 4, 3, **arguments)


@pytest.mark.parametrize("architecture", ["mlp", "convnet"])
def test_a_trained_network_is_exported_as_it_is(architecture):
    shape = {"mlp": {"widths": [32, 32]}, "convnet": {"channels": [4, 8], "depth": 1, "patch": 1, "widths": [16]}}[architecture]
    settings = SimpleNamespace(architecture=architecture, **shape, bias=True, allocation="softmax", family="aol")
    torch.manual_seed(0)
    network = build_network(settings, SHAPE, 10, [0.3], 5.0)
    images, labels = torch.rand(64, *SHAPE), torch.randint(10, (64,))
    optimizer, losses = torch.optim.Adam(network.parameters(), lr=0.02), []
    for _ in range(20):
        optimizer.zero_grad()
        losses.append(nn.functional.cross_entropy(network(images), labels))
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < 0.9 * losses[0]
    frozen = freeze(network, SHAPE)
    torch.testing.assert_close(frozen(images), network(images), rtol=1e-4, atol=1e-4)
    assert certificate(frozen.double()).lipschitz_certified < 4.99  # layers of norm below 1, which are not scaled up

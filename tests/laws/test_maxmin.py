"""Laws of the fused MaxMin: orthogonium's values and gradients, bit for bit, and where the two differ."""

import copy
from types import SimpleNamespace

import orthogonium.layers
import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap

from lipscale.certification.export import export
from lipscale.networks.maxmin import MaxMin
from lipscale.networks.network import build_network

SHAPES = [(4, 6), (3, 8, 5, 5), (2, 2, 1, 7), (0, 4)]


def passed(layer: nn.Module, values: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and the gradient of the inputs."""
    values = values.detach().clone().requires_grad_()
    outputs = layer(values)
    outputs.backward(gradient)
    return outputs.detach(), values.grad


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_values_and_gradients_are_those_of_orthogonium(shape, dtype):
    torch.manual_seed(0)
    values, gradient = torch.randn(shape, dtype=torch.float64).to(dtype), torch.randn(shape, dtype=torch.float64).to(dtype)
    first, second = values.chunk(2, 1)
    second += (first == second) * 0.5  # no ties
    for ours, theirs in zip(
        passed(MaxMin(), values, gradient), passed(orthogonium.layers.MaxMin(), values, gradient), strict=True
    ):
        assert torch.equal(ours, theirs)
        assert ours.dtype == dtype


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_any_memory_layout(memory):
    values = torch.randn(3, 8, 5, 4).to(memory_format=memory)
    gradient = torch.randn(8, 5, 4).expand(3, -1, -1, -1).transpose(2, 3).transpose(2, 3)
    outputs, found = passed(MaxMin(), values, gradient)
    assert torch.equal(outputs, orthogonium.layers.MaxMin()(values))
    assert outputs.is_contiguous(memory_format=memory)
    assert torch.equal(found, passed(orthogonium.layers.MaxMin(), values, gradient)[1])


def test_ties_numbers_that_are_not_finite_and_signs():
    """Equal pairs get the gradients of one order of the two, orthogonium's the mean of both; values are equal in all cases."""
    values = torch.tensor([[1.0, torch.nan, 2.0, torch.inf, 0.0, 1.0, 1.0, torch.nan, -torch.inf, -0.0]])
    torch.testing.assert_close(MaxMin()(values), orthogonium.layers.MaxMin()(values), rtol=0, atol=0, equal_nan=True)
    tie, gradient = torch.tensor([[1.0, 1.0]]), torch.tensor([[2.0, 6.0]])
    assert passed(MaxMin(), tie, gradient)[1].tolist() == [[6, 2]]
    assert passed(orthogonium.layers.MaxMin(), tie, gradient)[1].tolist() == [[4, 4]]


def test_gradients_in_float64():
    values = torch.randn(3, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MaxMin(), values)
    assert torch.autograd.gradgradcheck(MaxMin(), values)


def test_jacobians_by_vmap():
    values = torch.randn(5, 4, 3, dtype=torch.float64)
    ours, theirs = (
        vmap(jacrev(lambda one, layer=layer: layer(one[None])[0]))(values) for layer in (MaxMin(), orthogonium.layers.MaxMin())
    )
    assert torch.equal(ours, theirs)
    moved = values.movedim(0, 2)[None].detach()  # (1, 4, 5, 3)
    assert torch.equal(vmap(MaxMin(), in_dims=2, out_dims=2)(moved), MaxMin()(moved))


def test_an_odd_number_of_channels_is_an_error():
    for channels in (1, 3):
        with pytest.raises(ValueError, match=f"MaxMin of {channels} channels; allowed: an even number"):
            MaxMin()(torch.zeros(2, channels))


def test_compiled():
    values, gradient = torch.randn(2, 4, 3), torch.randn(2, 4, 3)
    compiled = torch.compile(MaxMin(), backend="aot_eager", fullgraph=True)
    for ours, plain in zip(passed(compiled, values, gradient), passed(MaxMin(), values, gradient), strict=True):
        assert torch.equal(ours, plain)


def test_under_autocast():
    network = nn.Sequential(nn.Linear(4, 6), MaxMin())
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(torch.randn(3, 4))
    outputs.float().sum().backward()
    assert outputs.dtype == torch.bfloat16
    assert network[0].weight.grad.isfinite().all()


def test_training_is_that_with_orthogoniums_layer():
    section = SimpleNamespace(
        architecture="convnet",
        channels=[4, 8],
        depth=1,
        patch=1,
        widths=[16],
        bias=True,
        allocation="softmax",
        family="orthogonal",
    )
    torch.manual_seed(0)
    ours = build_network(section, (1, 8, 8), 10, [0.3], 5.0)
    theirs = copy.deepcopy(ours)
    theirs.activation = orthogonium.layers.MaxMin()
    images, labels = torch.rand(32, 1, 8, 8), torch.randint(10, (32,))
    for network in (ours, theirs):
        assert isinstance(network.activation, MaxMin | orthogonium.layers.MaxMin)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


@pytest.mark.parametrize("layer", [MaxMin(), orthogonium.layers.MaxMin()])
def test_exported_networks_have_the_fast_layer(layer):
    """Whichever of the two a network of your own has."""
    exported = export(nn.Sequential(nn.Flatten(), nn.Linear(16, 8), layer, nn.Linear(8, 3)), (1, 4, 4))
    assert [type(module) for module in exported if "MaxMin" in type(module).__name__] == [MaxMin]

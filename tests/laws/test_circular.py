"""Laws of the circular convolutions: torch's values and gradients, bit for bit."""

import copy

import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap
from torch.nn import functional

from lipscale.networks.circular import convolved, padded
from lipscale.networks.families import orthogonal


@pytest.mark.parametrize("padding", [(1, 1), (0, 2), (3, 0), (2, 3), (4, 5), (0, 0)])
@pytest.mark.parametrize("shape", [(3, 2, 4, 5), (1, 1, 4, 5), (0, 2, 4, 5)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_padding_is_that_of_torch(padding, shape, dtype):
    torch.manual_seed(0)
    rows, columns = padding
    found = []
    gradient = None
    for pad in (
        lambda images: functional.pad(images, (columns, columns, rows, rows), mode="circular"),
        lambda images: padded(images, rows, columns),
    ):
        images = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
        output = pad(images)
        gradient = torch.randn(output.shape).to(dtype) if gradient is None else gradient
        kept = gradient.clone()
        output.backward(gradient)
        assert torch.equal(gradient, kept)
        found.append((output.detach(), images.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("memory", [torch.channels_last, torch.contiguous_format])
def test_any_memory_layout(memory):
    images = torch.randn(3, 8, 5, 4).to(memory_format=memory)
    assert torch.equal(padded(images, 2, 1), functional.pad(images, (1, 1, 2, 2), mode="circular"))


def test_gradients_in_float64():
    images = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda images: padded(images, 2, 1), images)
    assert torch.autograd.gradgradcheck(lambda images: padded(images, 2, 1), images)


def test_jacobians_by_vmap():
    images = torch.randn(3, 2, 4, 3, dtype=torch.float64)
    ours, theirs = (
        vmap(jacrev(pad))(images)
        for pad in (lambda one: padded(one[None], 1, 2), lambda one: functional.pad(one[None], (2, 2, 1, 1), mode="circular"))
    )
    assert torch.equal(ours, theirs)


def test_compiled():
    layer = nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular")
    compiled = torch.compile(lambda images: convolved(layer, images), backend="aot_eager")
    images = torch.randn(2, 2, 5, 5, requires_grad=True)
    (ours,), (theirs,) = (torch.autograd.grad(function(images).sum(), images) for function in (compiled, layer))
    torch.testing.assert_close(ours, theirs)


LAYERS = {
    "circular": nn.Conv2d(2, 6, 3, padding=1, padding_mode="circular"),
    "strided, without bias": nn.Conv2d(2, 6, (3, 2), stride=2, padding=(1, 0), bias=False, padding_mode="circular"),
    "dilated, grouped": nn.Conv2d(2, 6, 3, padding=2, dilation=2, groups=2, padding_mode="circular"),
    "same": nn.Conv2d(2, 6, 3, padding="same", padding_mode="circular"),
    "zeros": nn.Conv2d(2, 6, 3, padding=1),
    "parametrized": orthogonal.conv(2, 6, 3, padding=1),
    "with a hook": nn.Conv2d(2, 6, 3, padding=1, padding_mode="circular"),
}
LAYERS["with a hook"].register_forward_hook(lambda layer, inputs, output: 3 * output)


@pytest.mark.parametrize("name", LAYERS)
def test_convolutions_are_those_of_torch(name):
    layer = LAYERS[name]
    images = torch.randn(3, 2, 6, 5)
    with torch.no_grad():
        assert torch.equal(convolved(layer, images), layer(images))


@pytest.mark.parametrize("name", LAYERS)
def test_scaled_weights_are_scaled_outputs(name):
    """Equal up to rounding, the gradients of scale, weights and images too."""
    torch.manual_seed(0)
    layer = copy.deepcopy(LAYERS[name]).double()
    images, scale = torch.randn(3, 2, 6, 5, dtype=torch.float64), torch.tensor(1.7, dtype=torch.float64)
    images.requires_grad_(), scale.requires_grad_()
    inputs = [scale, images, *layer.parameters()]
    ours, theirs = (
        torch.autograd.grad(output.square().sum(), inputs)
        for output in (convolved(layer, images, scale), scale * layer(images))
    )
    torch.testing.assert_close(ours, theirs)


def test_more_padding_than_pixels_is_the_error_of_torch():
    layer = nn.Conv2d(1, 1, 3, padding=4, padding_mode="circular")
    with pytest.raises(RuntimeError, match="wrapping around more than once"):
        convolved(layer, torch.zeros(1, 1, 3, 3))

"""SLL blocks of circular convolutions, against the matrices that they stand for."""

import pytest
import torch
from orthogonium.layers.conv.SLL.sll_layer import SDPBasedLipschitzResBlock
from torch import nn

from lipscale.certification.bounds import bounds
from lipscale.certification.export import export
from lipscale.certification.freezing import freeze
from lipscale.certification.norms import conv_norm_bound
from lipscale.errors import LipscaleError
from lipscale.method.budget import LipschitzBudget
from lipscale.networks.circular import padded
from lipscale.networks.families import aol
from lipscale.networks.families import sll as family
from lipscale.networks.network import LipschitzNetwork
from lipscale.networks.sll import SLL, SLLConv, sll_conv

CHANNELS = 3
SHAPES = [(1, (3, 4)), (3, (4, 6)), (3, (3, 3)), (5, (9, 5)), (5, (9, 10))]  # kernel and image; some kernels meet themselves
EPSILON = 2.0**-52


def matrix(weight: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """K of K h for flattened h, by the definition: torch's own circular convolution of each unit vector."""
    inputs = torch.eye(weight.shape[1] * size[0] * size[1], dtype=weight.dtype).reshape(-1, weight.shape[1], *size)
    layer = nn.Conv2d(*weight.shape[1::-1], weight.shape[2], padding=weight.shape[2] // 2, padding_mode="circular", bias=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer(inputs).flatten(1).T


def kernel(side: int, scale: float = 1.0) -> torch.Tensor:
    """That of a layer of the family whose free numbers are random."""
    torch.manual_seed(side)
    layer = family.conv(CHANNELS, CHANNELS, side, padding=side // 2, padding_mode="circular").double()
    nn.init.normal_(layer.parametrizations.weight.original, std=scale)
    return layer.weight.detach()


@pytest.mark.parametrize(("side", "size"), SHAPES)
def test_a_block_is_made_of_a_matrix_and_its_transpose(side, size):
    weight = torch.randn(CHANNELS, CHANNELS, side, side, dtype=torch.float64)
    images, bias = torch.randn(4, CHANNELS, *size).double(), torch.randn(CHANNELS).double()
    whole, flat = matrix(weight, size), images.flatten(1)
    inner = (flat @ whole.T + bias.repeat_interleave(size[0] * size[1])).relu()
    torch.testing.assert_close(sll_conv(images, weight, bias).flatten(1), flat - 2 * inner @ whole)


@pytest.mark.parametrize(("side", "size"), SHAPES)
def test_no_pattern_of_activations_has_a_jacobian_above_the_bound(side, size):
    """Also for kernels whose norm is above 1, where the bound is 2 ||K||^2 - 1, and reached where all units are active."""
    torch.manual_seed(0)
    count = CHANNELS * size[0] * size[1]
    for factor in (1.0, 0.5, 2.0):
        layer = SLLConv(CHANNELS, side).double()
        layer.weight.data = factor * kernel(side)
        whole, slope = matrix(layer.weight.detach(), size), bounds(nn.Sequential(layer), (CHANNELS, *size)).slope
        patterns = torch.cat([torch.ones(1, count), torch.zeros(1, count), (torch.rand(40, count) < torch.rand(40, 1)).float()])
        jacobians = torch.eye(count) - 2 * whole.T @ (patterns.double()[:, :, None] * whole)
        norms = torch.linalg.matrix_norm(jacobians, 2)
        assert norms.max() <= slope + 8 * count**2 * EPSILON  # rounding of products and of LAPACK, backward stable
        most = torch.linalg.matrix_norm(whole, 2).item()
        assert 1 <= slope <= max(1, 2 * most**2 - 1) * (1 + 1e-3)
        assert most <= 1 or norms[0] == pytest.approx(2 * most**2 - 1)


@pytest.mark.parametrize(("side", "size"), SHAPES)
def test_row_sums_of_the_autocorrelation_bound_the_norm(side, size):
    """The sums that rescale a kernel are those of |K^T K|, or above where a kernel meets itself around a small image."""
    weight = torch.randn(CHANNELS, CHANNELS, side, side, dtype=torch.float64)
    sums = aol._products(weight.transpose(0, 1)).abs().flatten(1).sum(1)
    whole = matrix(weight, size)
    exact = (whole.T @ whole).abs().sum(1).reshape(CHANNELS, -1)
    assert (exact <= sums[:, None] * (1 + 1e-12)).all()  # of sums of some hundred products
    if min(size) >= 2 * side - 1:
        torch.testing.assert_close(exact, sums[:, None].expand_as(exact))
    assert torch.linalg.matrix_norm(whole, 2) ** 2 <= sums.max() * (1 + 1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize(("side", "size"), SHAPES)
def test_norm_of_a_kernel_of_the_family_is_at_most_1(side, size, scale):
    weight = kernel(side, scale)
    found = torch.linalg.matrix_norm(matrix(weight, size), 2)
    bound = conv_norm_bound(weight, size, (1, 1), (side // 2,) * 2, "circular")
    assert found <= 1 + 1e-12
    assert found * (1 - 1e-12) <= bound <= 1 + 1e-4


def test_a_block_is_that_of_orthogonium_away_from_the_border():
    """Theirs pads with zeros, also what goes back; pixels at least two paddings from the border do not see that."""
    torch.manual_seed(0)
    theirs, ours = SDPBasedLipschitzResBlock(4, 1.0, 3), SLLConv(4, 3)
    ours.weight.data, ours.bias.data = theirs.kernel.detach(), theirs.bias.detach().flatten()
    images = torch.randn(2, 4, 9, 9)
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(ours(images)[inside], theirs(images)[inside])


def test_a_kernel_that_is_too_large_for_its_bound_is_scaled_down_on_export():
    """Whatever a family says of its layers, exporting measures them."""
    torch.manual_seed(0)
    blocks = [family.ConvBlock(2, 2, 3, padding=1, padding_mode="circular"), family.Block(32, 32), nn.Linear(32, 2)]
    for block in blocks:
        block.weight.data *= 5
    network = LipschitzNetwork(blocks, [0.5, 0.5], LipschitzBudget(3, 2.0, "softmax"), "sll")
    plain = freeze(network, (2, 4, 4))
    assert bounds(plain, (2, 4, 4)).slope <= 2
    assert [type(layer).__name__ for layer in plain if hasattr(layer, "weight")] == ["SLLConv", "SLL", "Linear"]


@pytest.mark.parametrize("side", [2, 4, 7])
def test_kernels_that_nothing_is_proven_for_are_refused(side):
    with pytest.raises(LipscaleError, match=f"a circular kernel of {side}; allowed: an odd number, at most the sides"):
        bounds(nn.Sequential(SLLConv(2, side)), (2, 6, 8))


@pytest.mark.parametrize("layer", [SLLConv(2, 3), nn.Sequential(nn.Flatten(), SLL(96))])
def test_weights_of_another_shape_are_refused(layer):
    block = layer if isinstance(layer, SLLConv) else layer[1]
    block.weight = nn.Parameter(block.weight[:1].detach())
    with pytest.raises(LipscaleError, match="size mismatch for"):
        export(nn.Sequential(layer, nn.Flatten(), nn.Linear(96, 2)), (2, 6, 8))


def test_gradients_are_those_of_plain_operations():
    torch.manual_seed(0)
    weight = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(2, dtype=torch.float64, requires_grad=True)
    images = torch.randn(1, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(sll_conv, (images, weight, bias))
    assert padded(images, 1, 1).shape == (1, 2, 6, 7)

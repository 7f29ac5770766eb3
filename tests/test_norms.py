"""Bounds against exact norms: never below, and close for orthogonal layers."""

import itertools

import pytest
import torch
from orthogonium.layers import AdaptiveOrthoConv2d
from torch import nn

from lipscale.norms import conv_norm_bound, matrix_norm_bound


def exact_conv_norm(kernel: torch.Tensor, side: int, stride: int, padding: int) -> float:
    """Largest singular value of the convolution written as a dense matrix."""
    conv = nn.Conv2d(
        kernel.shape[1], kernel.shape[0], kernel.shape[2:], stride, padding, padding_mode="circular", bias=False
    ).double()
    conv.weight.data = kernel
    inputs = torch.eye(kernel.shape[1] * side * side, dtype=torch.float64).reshape(-1, kernel.shape[1], side, side)
    return torch.linalg.matrix_norm(conv(inputs).flatten(1), 2).item()


# LAPACK's singular values are right to p(n) u ||A||, p modest; n <= 1000 here, so that the reference itself may be off by
REFERENCE_ERROR = 1000 * 2.0**-53


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (8, 8), (10, 64), (64, 10), (3, 7, 9)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_matrix_bound_is_never_below(shape, scale):
    torch.manual_seed(0)
    matrices = scale * torch.randn(shape, dtype=torch.float64)
    exact = torch.linalg.matrix_norm(matrices, 2).max().item()
    assert matrix_norm_bound(matrices) >= exact * (1 - REFERENCE_ERROR)


@pytest.mark.parametrize("shape", [(10, 64), (64, 10), (64, 64)])
def test_matrix_bound_is_tight_for_orthogonal_layers(shape):
    torch.manual_seed(0)
    matrix = nn.init.orthogonal_(torch.empty(shape, dtype=torch.float64))
    assert 1 - REFERENCE_ERROR <= matrix_norm_bound(matrix) <= 1 + 1e-12


@pytest.mark.parametrize(
    ("channels", "kernel", "stride", "padding"),
    [
        (channels, kernel, stride, padding)
        for channels, (kernel, stride, padding) in itertools.product(
            [(1, 4), (4, 4), (6, 2)], [(3, 1, 1), (2, 2, 0), (1, 1, 0), (3, 2, 1), (5, 1, 2), (4, 2, 1), (3, 1, 0)]
        )
    ],
)
def test_conv_bound_is_never_below(channels, kernel, stride, padding):
    torch.manual_seed(0)
    for side in (6, 8):
        weight = torch.randn(channels[1], channels[0], kernel, kernel, dtype=torch.float64)
        exact = exact_conv_norm(weight, side, stride, padding)
        assert conv_norm_bound(weight, side, stride, padding) >= exact * (1 - REFERENCE_ERROR)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (2, 2, 0)])
def test_conv_bound_is_tight_for_orthogonal_layers(kernel, stride, padding):
    torch.manual_seed(0)
    layer = AdaptiveOrthoConv2d(4, 8, kernel, stride=stride, padding=padding, padding_mode="circular")
    weight = layer.weight.detach().double()
    exact = exact_conv_norm(weight, 8, stride, padding)
    assert exact * (1 - REFERENCE_ERROR) <= conv_norm_bound(weight, 8, stride, padding) <= exact * (1 + 1e-5)


@pytest.mark.parametrize(("side", "stride", "padding"), [(7, 2, 0), (2, 1, 1), (8, 1, 2)])
def test_shapes_without_a_bound_are_refused(side, stride, padding):
    with pytest.raises(ValueError, match="allowed: a side"):
        conv_norm_bound(torch.ones(1, 1, 3, 3, dtype=torch.float64), side, stride, padding)


def test_float32_is_refused():
    with pytest.raises(ValueError, match="float64"):
        matrix_norm_bound(torch.eye(3))

"""Bounds against exact norms: never below, and how far above.

The exact norm is the largest singular value of the layer as a dense matrix. LAPACK's is right to p(n) u ||A||, p modest, for
matrices of side n <= 1000 here, so the reference itself may be off by REFERENCE_ERROR.
"""

import functools
import itertools
from fractions import Fraction

import pytest
import torch
from orthogonium.layers import AdaptiveOrthoConv2d
from torch import nn

from lipscale.certification import norms
from lipscale.certification.norms import conv_norm_bound, matrix_norm_bound

REFERENCE_ERROR = 1000 * 2.0**-53
SHAPES = [
    (kernel, stride, padding)
    for kernel in ((1, 1), (2, 2), (3, 3), (5, 5), (4, 2), (1, 5))
    for stride in ((1, 1), (2, 2), (3, 3), (2, 1))
    for padding in ((0, 0), (1, 1), (2, 2), (0, 2))
]


def exact_conv_norm(kernel: torch.Tensor, size, stride, padding, mode: str) -> float:
    conv = nn.Conv2d(
        kernel.shape[1], kernel.shape[0], kernel.shape[2:], stride, padding, padding_mode=mode, bias=False, dtype=torch.float64
    )
    conv.weight.data = kernel
    inputs = torch.eye(kernel.shape[1] * size[0] * size[1], dtype=torch.float64).reshape(-1, kernel.shape[1], *size)
    return torch.linalg.matrix_norm(conv(inputs).flatten(1), 2).item()


def trained_kernel(out_channels: int, in_channels: int, size: tuple[int, int]) -> torch.Tensor:
    """A kernel after some steps of a regression, so that it is neither random nor orthogonal."""
    conv = nn.Conv2d(in_channels, out_channels, size)
    optimizer = torch.optim.Adam(conv.parameters(), lr=0.05)
    images = torch.rand(16, in_channels, 8, 8)
    for _ in range(10):
        optimizer.zero_grad()
        (conv(images).mean((2, 3)) - images.mean((1, 2, 3))[:, None]).square().sum().backward()
        optimizer.step()
    return conv.weight.detach().double()


@functools.cache
def cases(channels: tuple[int, int]) -> list[tuple]:
    """Every kernel size, stride and padding on two image sizes, each with a random and a trained kernel."""
    torch.manual_seed(0)
    return [
        (weight, size, stride, padding)
        for (kernel, stride, padding), size in itertools.product(SHAPES, [(6, 6), (9, 6)])
        for weight in (
            torch.randn(channels[1], channels[0], *kernel, dtype=torch.float64),
            trained_kernel(channels[1], channels[0], kernel),
        )
    ]


@functools.cache
def exact_norm_of_case(channels: tuple[int, int], number: int, mode: str) -> float:
    return exact_conv_norm(*cases(channels)[number], mode)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (8, 8), (10, 64), (64, 10), (3, 7, 9)])
@pytest.mark.parametrize("scale", [1e-200, 1e-6, 1.0, 1e6, 1e200])
def test_matrix_bound_is_exact_but_for_rounding(shape, scale):
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64)
    exact = scale * torch.linalg.matrix_norm(matrices, 2).max().item()
    # sixteen Gram iterations are at most rank^(2^-17) too large
    assert exact * (1 - REFERENCE_ERROR) <= matrix_norm_bound(scale * matrices) <= exact * 1.0001


def test_matrix_bound_is_never_below_in_exact_arithmetic():
    """Rank 1, entries without rounding: ||a b^T||^2 = |a|^2 |b|^2, as fractions, with no allowance for a reference."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        sides = torch.randint(1, 40, (2,), generator=generator).tolist()
        a, b = (torch.randint(1, 2**24, (side,), generator=generator).double() for side in sides)
        exact = sum(Fraction(x) ** 2 for x in a.tolist()) * sum(Fraction(x) ** 2 for x in b.tolist())
        assert Fraction(matrix_norm_bound(torch.outer(a, b))) ** 2 >= exact


@pytest.mark.parametrize("rank", [1, 3])
def test_matrix_bound_does_not_suffer_from_missing_rank(rank):
    torch.manual_seed(0)
    matrix = torch.randn(20, rank, dtype=torch.float64) @ torch.randn(rank, 30, dtype=torch.float64)
    exact = torch.linalg.matrix_norm(matrix, 2).item()
    assert exact * (1 - REFERENCE_ERROR) <= matrix_norm_bound(matrix) <= exact * 1.0001
    assert matrix_norm_bound(0 * matrix) == 0


@pytest.mark.parametrize("shape", [(10, 64), (64, 10), (64, 64)])
def test_matrix_bound_of_orthogonal_layers(shape):
    torch.manual_seed(0)
    matrix = nn.init.orthogonal_(torch.empty(shape, dtype=torch.float64))
    assert 1 - REFERENCE_ERROR <= matrix_norm_bound(matrix) <= 1 + 1e-12


@pytest.mark.parametrize("largest_matrix", [0, norms.LARGEST_MATRIX], ids=["by the torus", "small"])
@pytest.mark.parametrize("padding_mode", ["zeros", "circular"])
@pytest.mark.parametrize("channels", [(1, 4), (4, 4), (5, 2)])
def test_conv_bound_is_never_below(padding_mode, channels, largest_matrix, monkeypatch):
    """Every supported kernel size, stride and padding, square and rectangular, on two image sizes, random and trained."""
    monkeypatch.setattr(norms, "LARGEST_MATRIX", largest_matrix)
    ratios = {}
    for number, (weight, size, stride, padding) in enumerate(cases(channels)):
        try:
            bound = conv_norm_bound(weight, size, stride, padding, padding_mode)
        except ValueError:
            assert padding_mode == "circular"
            continue
        exact, kernel = exact_norm_of_case(channels, number, padding_mode), weight.shape[2:]
        assert bound >= exact * (1 - REFERENCE_ERROR), (kernel, stride, padding, size)
        same = kernel[0] % 2 and kernel[1] % 2 and stride == (1, 1) and padding == (kernel[0] // 2, kernel[1] // 2)
        ratios.setdefault(bool(same), []).append(bound / exact)
    assert sum(map(len, ratios.values())) > 100
    for same, values in ratios.items():
        part = "same size" if same else "others"
        print(f"{padding_mode}, {part}: {len(values)} kernels, bound / exact - 1 at most {max(values) - 1:.1e}")
        if largest_matrix or (padding_mode == "circular" and same):
            assert max(values) < 1.0001  # sixteen Gram iterations are at most rank^(2^-17) too large


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (2, 2, 0)])
def test_conv_bound_is_tight_for_orthogonal_layers(kernel, stride, padding):
    torch.manual_seed(0)
    layer = AdaptiveOrthoConv2d(4, 8, kernel, stride=stride, padding=padding, padding_mode="circular")
    weight = layer.weight.detach().double()
    arguments = (weight, (8, 8), (stride,) * 2, (padding,) * 2, "circular")
    exact = exact_conv_norm(*arguments)
    assert exact * (1 - REFERENCE_ERROR) <= conv_norm_bound(*arguments) <= exact * (1 + 1e-6)


def test_zero_padding_bound_nears_the_exact_norm_as_images_grow(monkeypatch):
    """Of layers that are too large for their matrix; here they are not, so that the exact norm is known."""
    monkeypatch.setattr(norms, "LARGEST_MATRIX", 0)
    torch.manual_seed(0)
    weight = torch.randn(3, 3, 3, 3, dtype=torch.float64)
    ratios = []
    for side in (4, 8, 16):
        arguments = (weight, (side, side), (1, 1), (1, 1), "zeros")
        ratios.append(conv_norm_bound(*arguments) / exact_conv_norm(*arguments))
        print(f"zeros, 3x3 on {side}x{side}, by the torus: bound / exact - 1 is {ratios[-1] - 1:.1e}")
    assert 1 <= ratios[2] < ratios[1] < ratios[0]
    assert ratios[2] < 1.05


@pytest.mark.parametrize(
    ("side", "stride", "padding", "mode"),
    [(7, 2, 0, "circular"), (2, 1, 1, "circular"), (8, 1, 2, "circular"), (2, 1, 0, "zeros"), (8, 1, 1, "reflect")],
)
def test_shapes_without_a_bound_are_refused(side, stride, padding, mode):
    with pytest.raises(ValueError, match="allowed: "):
        conv_norm_bound(torch.ones(1, 1, 3, 3, dtype=torch.float64), (side, side), (stride,) * 2, (padding,) * 2, mode)


def test_float32_is_refused():
    with pytest.raises(ValueError, match="float64"):
        matrix_norm_bound(torch.eye(3))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value):
    with pytest.raises(ValueError, match="NaN or infinity"):
        matrix_norm_bound(torch.full((3, 3), value, dtype=torch.float64))

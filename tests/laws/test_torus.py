"""Convolutions as parts of circular ones: taps that meet no pixel count for nothing, and no bound is below the norm."""

import itertools

import pytest
import torch
from torch.nn.functional import conv2d

from lipscale.certification import norms
from lipscale.certification.norms import conv_norm_bound
from test_norms import REFERENCE_ERROR, exact_conv_norm


@pytest.fixture(autouse=True)
def by_the_torus(monkeypatch):
    """As for layers that are too large for their matrix; here they are not, so that the exact norm is known."""
    monkeypatch.setattr(norms, "LARGEST_MATRIX", 0)


def random_shapes(count: int):
    """Kernels, image sizes, strides and paddings; most have taps that meet no pixel."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        numbers = torch.randint(0, 6, (4, 2), generator=generator)
        kernel, size, stride, padding = (tuple(row.tolist()) for row in numbers + torch.tensor([[1], [1], [1], [0]]))
        if all(n + 2 * p >= k for n, p, k in zip(size, padding, kernel, strict=True)):
            yield kernel, size, stride, padding


def dead_taps(kernel, size, stride, padding) -> torch.Tensor:
    """(height, width), true where a tap alone has no output on an image of ones."""
    taps = torch.eye(kernel[0] * kernel[1]).reshape(-1, 1, *kernel)
    return conv2d(torch.ones(1, 1, *size), taps, stride=stride, padding=padding).amax((0, 2, 3)).reshape(kernel) == 0


def test_taps_that_meet_no_pixel_count_for_nothing():
    """Whatever they hold. Without the crop, the bound grew with them."""
    torch.manual_seed(0)
    found = 0
    for shape in random_shapes(200):
        dead, weight = dead_taps(*shape), torch.randn(3, 2, *shape[0], dtype=torch.float64)
        found += bool(dead.any())
        without = conv_norm_bound(weight.masked_fill(dead, 0), *shape[1:], "zeros")
        assert conv_norm_bound(weight.masked_fill(dead, 1e6), *shape[1:], "zeros") == without, shape
        assert (without == 0) == dead.all()
    assert found > 40


def circular_shapes():
    """All that have a bound, with few outputs and with many, on an image that is not square."""
    size = (4, 6)
    for kernel, stride, padding in itertools.product(
        itertools.product((1, 3, 4), (1, 4, 6)), ((1, 1), (2, 3), (4, 2)), (0, 1, 2)
    ):
        outputs = [(n + 2 * padding - k) // s + 1 for n, k, s in zip(size, kernel, stride, strict=True)]
        if all(0 < o <= n // s for o, n, s in zip(outputs, size, stride, strict=True)):
            yield kernel, size, stride, (padding, padding)


@pytest.mark.parametrize(("mode", "shapes"), [("zeros", list(random_shapes(250))), ("circular", list(circular_shapes()))])
def test_bounds_are_never_below_and_not_far_above(mode, shapes):
    torch.manual_seed(0)
    ratios = []
    for (kernel, size, stride, padding), draw in itertools.product(shapes, (torch.randn, torch.ones)):
        weight = draw(2, 3, *kernel, dtype=torch.float64)
        bound = conv_norm_bound(weight, size, stride, padding, mode)
        exact = exact_conv_norm(weight, size, stride, padding, mode)
        assert bound >= exact * (1 - REFERENCE_ERROR), (kernel, size, stride, padding)
        ratios.append(bound / exact if exact else 1.0)
    print(f"{mode}: {len(ratios)} kernels, bound / exact is at most {max(ratios):.2f}")
    assert len(ratios) > 50
    assert max(ratios) < 5
    assert torch.tensor(ratios).median() < 1.1


@pytest.mark.parametrize(
    ("kernel", "size", "stride", "padding", "mode"),
    [
        (24, 24, 1, 0, "circular"),  # 24 times too large before
        (24, 24, 8, 0, "circular"),
        (6, 6, 1, 0, "zeros"),
        (3, 1, 1, 1, "zeros"),
        (7, 1, 1, 3, "zeros"),
        (5, 6, 6, 1, "zeros"),
        (2, 6, 2, 2, "zeros"),
    ],
)
def test_bounds_that_leave_nothing_out_are_exact(kernel, size, stride, padding, mode):
    """One output in each direction, or kernels that do not overlap."""
    arguments = (torch.ones(2, 2, kernel, kernel, dtype=torch.float64), (size,) * 2, (stride,) * 2, (padding,) * 2, mode)
    exact = exact_conv_norm(*arguments)
    assert exact * (1 - REFERENCE_ERROR) <= conv_norm_bound(*arguments) <= exact * (1 + 1e-6)

"""Guaranteed upper bounds on the l2 operator norm of dense and convolutional layers.

Gram iteration (Delattre, Barthelemy, Araujo and Allauzen, ICML 2023; with zero padding: Delattre, Araujo, Barthelemy and
Allauzen, arXiv 2402.00240). With G_1 = A A^H and G_{k+1} = G_k G_k^H,

    ||A||^2 = ||G_1||,   ||G_k||^2 = ||G_{k+1}||,   ||G_t|| <= ||G_t||_F,

so ||G_t||_F^(2^-t) is a bound for every t; it is at most rank^(2^-t / 2) times too large, 5e-5 for rank 512 at t = 16. It
falls towards ||A|| from above, where power iteration, which is never used here, rises towards it from below.

For (nearly) orthogonal layers there is a shorter way, exact up to their deviation: for any c >= 0

    ||G_1|| <= c + ||G_1 - c I|| <= c + ||G_1 - c I||_F,

with c the mean eigenvalue of G_1. As ||G_1|| >= c, it is also seen how good that bound is, and the iteration is saved.

Rounding. The computed product of two float64 matrices with inner products of length n differs from the exact one by at most
gamma_n ||A||_F ||B||_F in the Frobenius norm, in whatever order and with whatever fused operations the sums are taken
(Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.5); gamma_n = n u / (1 - n u), u = 2^-53. Complex
products count as sqrt(2) gamma_{n+2} (section 3.6). The computed G_{k+1} stands for itself from then on, hence

    ||G_k||^2 <= ||G_{k+1}|| + sqrt(2) gamma_{n+4} ||G_k||_F^2,

applied from the last step back to the first. Each G_k is brought to a norm near 1 by a power of two, which is exact but for
underflow; that adds at most 2^-1021 n^2 to a norm near 1, which the two operations that n + 4 has to spare cover.
"""

import math

import torch
from torch.nn.functional import conv2d, pad

from lipscale.certification.arithmetic import FLOAT64, UNIT
from lipscale.certification.torus import embedded

ITERATIONS = 16
GOOD_ENOUGH = 1e-6  # relative, of the square of the norm: what the iteration could still gain is less
LARGEST_MATRIX = 2**20  # entries, also of what it is made from
gamma = FLOAT64.gamma


def rounded_up(value: float, operations: int = 8) -> float:
    """A number that the exact value of a sum, product or root of non-negative numbers, in so many operations, cannot exceed."""
    return value * (1 + gamma(operations + 1))


def matrix_norm_bound(matrices: torch.Tensor) -> float:
    """An upper bound on the largest operator norm among `matrices`, (..., rows, columns), float64 or complex128.

    Raises:
        ValueError: another dtype, whose rounding the allowance does not cover, or entries that are not finite.
    """
    if matrices.dtype not in (torch.float64, torch.complex128):
        raise ValueError(f"matrices have dtype {matrices.dtype}; allowed: float64, complex128")
    matrices = matrices.reshape(-1, *matrices.shape[-2:])
    if matrices.shape[-2] > matrices.shape[-1]:
        matrices = matrices.mH
    if not matrices.isfinite().all():
        raise ValueError("matrices hold NaN or infinity; allowed: finite numbers")
    largest = matrices.abs().max().item()
    if not largest:
        return 0.0
    scale = math.ldexp(1.0, max(math.frexp(largest)[1] - 1, -1021))
    matrices = matrices / scale  # so that squares neither overflow nor vanish
    rows, columns = matrices.shape[-2:]
    gram = matrices @ matrices.mH
    squares = matrices.abs().square().sum((-2, -1))  # ||A||_F^2
    rounding = math.sqrt(2) * gamma(columns + 4) * squares
    center = squares / rows
    shifted = gram.clone()
    shifted.diagonal(dim1=-2, dim2=-1).sub_(center[:, None])
    bounds = center + torch.linalg.matrix_norm(shifted) + rounding + 4 * UNIT * center
    loose = bounds > center.max() * (1 + GOOD_ENOUGH)  # the others are below or near what is reached anyway
    if loose.any():
        bounds[loose] = torch.minimum(bounds[loose], _gram_iteration(gram[loose]) + rounding[loose])
    return scale * math.sqrt(bounds.max().item() * (1 + gamma(rows * rows + 16))) + 2.0**-1022


def _gram_iteration(gram: torch.Tensor) -> torch.Tensor:
    """Upper bounds on the norms of square matrices (batch, n, n), up to a factor 1 + gamma(n^2 + 16)."""
    allowances, scales = [], []
    for _ in range(ITERATIONS - 1):
        norm = torch.linalg.matrix_norm(gram)
        scale = torch.exp2(torch.frexp(norm).exponent.double())  # 1 where the norm is 0
        gram = gram / scale[:, None, None]
        allowances.append(math.sqrt(2) * gamma(gram.shape[-1] + 4) * (norm / scale).square())
        scales.append(scale)
        gram = gram @ gram.mH
    bounds = torch.linalg.matrix_norm(gram) * (1 + gamma(gram.shape[-1] ** 2 + 4))
    for allowance, scale in zip(reversed(allowances), reversed(scales), strict=True):
        bounds = scale * (bounds + allowance).sqrt() * (1 + 4 * UNIT)
    return bounds


def conv_norm_bound(
    kernel: torch.Tensor, size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], padding_mode: str
) -> float:
    """An upper bound on the norm of a convolution with zero or circular padding, for its own input size.

    Circular padding. In the Fourier basis the operator falls into one block for each output frequency u: it maps the input
    frequencies that alias to u (as many as the product of the strides s) to u, with entries K(u + a size / stride) / sqrt(s),
    K the Fourier transform of the kernel (Sedghi, Gupta and Long, ICLR 2019, for stride 1). Where the kernel is placed
    relative to the pixel, which padding decides, changes phases only. The norm is the largest one of a block.

    Otherwise the convolution is a part of a circular one, see `torus.py`, and a part of a matrix has no larger norm.

    Where something was left out and the layer is small, its matrix is bounded as well, and the smaller bound is taken.

    Rounding. A value of the transform is a sum over taps with an error of at most 4 gamma_{taps + 16} sum |w|: products with
    cosines and sines of angles below 2 pi that are off by some units in the last place. The Frobenius norm of that over a
    block is added.

    Args:
        kernel: (out, in, height, width), float64.
        size: (height, width) of the layer's input, pixels.
        stride, padding: (vertical, horizontal).
        padding_mode: zeros or circular.

    Raises:
        ValueError: as `torus.embedded`, or entries that are not finite.
    """
    part, torus, strides, whole = embedded(kernel, size, stride, padding, padding_mode)
    if not part.numel():
        return 0.0
    rounding = 4 * gamma(math.prod(part.shape[2:]) + 16) * part.abs().sum((2, 3)).norm().item()
    bound = rounded_up(matrix_norm_bound(_fourier_blocks(part, torus, strides)) / math.sqrt(math.prod(strides)) + rounding)
    if whole:
        return bound
    out_channels, in_channels, *taps = kernel.shape
    outputs = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, taps, stride, padding, strict=True)]
    inputs = in_channels * math.prod(size)
    padded = in_channels * math.prod(n + 2 * p for n, p in zip(size, padding, strict=True))
    if inputs * max(padded, out_channels * math.prod(outputs)) > LARGEST_MATRIX:
        return bound
    return min(bound, matrix_norm_bound(_conv_matrix(kernel, size, stride, padding, padding_mode)))


def _fourier_blocks(kernel: torch.Tensor, torus: list[int], stride: list[int]) -> torch.Tensor:
    """The blocks of a circular convolution, times the root of the product of the strides: (frequencies, out, aliases * in)."""

    def wave(n: int, taps: int) -> torch.Tensor:
        turns = torch.outer(torch.arange(n), torch.arange(taps)) % n  # exact, so angles are below 2 pi
        angle = turns.to(kernel) * (-2 * math.pi / n)
        return torch.complex(angle.cos(), angle.sin())

    (rows, columns), (down, across) = torus, stride
    waves = wave(rows, kernel.shape[2]), wave(columns, kernel.shape[3])
    transform = torch.einsum("oihw,uh,vw->uvoi", kernel.to(torch.complex128), *waves)
    blocks = transform.reshape(down, rows // down, across, columns // across, *kernel.shape[:2])
    blocks = blocks.permute(1, 3, 4, 0, 2, 5)[: rows // down // 2 + 1]  # the others are conjugates, as the kernel is real
    return blocks.reshape(-1, kernel.shape[0], down * across * kernel.shape[1])


def _conv_matrix(
    kernel: torch.Tensor, size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], padding_mode: str
) -> torch.Tensor:
    """The convolution as a matrix, (inputs, outputs). Each entry is a weight or 0: kernels are no larger than the torus."""
    inputs = torch.eye(kernel.shape[1] * math.prod(size), dtype=kernel.dtype).reshape(-1, kernel.shape[1], *size)
    mode = "constant" if padding_mode == "zeros" else padding_mode
    padded = pad(inputs, (padding[1], padding[1], padding[0], padding[0]), mode)
    return conv2d(padded, kernel, stride=stride).flatten(1)

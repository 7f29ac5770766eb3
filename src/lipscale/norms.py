"""Guaranteed upper bounds on the l2 operator norm of the layers that networks are exported to.

For any matrix A with Gram matrix G = A A^H of side m and any c >= 0,

    ||A||^2 = ||G|| <= c + ||G - c I|| <= c + ||G - c I||_F,

which is an equality up to rounding for the (nearly) orthogonal layers of this project. No iteration is involved that would
have to converge; power iteration, which approaches the norm from below, is never used.

Rounding. G is computed in float64 with inner products of length n; each has an error of at most gamma_n |A| |A|^T
(Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.5), gamma_n = n u / (1 - n u), u = 2^-53, thus at
most gamma_n ||A||_F^2 in the Frobenius norm; complex products count as gamma_{n+2} times sqrt(2) (section 3.6).
The allowance below rounds that up, and also covers the few operations behind it.
"""

import math

import torch

_U = 2.0**-53


def _gamma(n: int) -> float:
    return n * _U / (1 - n * _U)


def matrix_norm_bound(matrices: torch.Tensor) -> float:
    """An upper bound on the largest operator norm among `matrices`, (..., rows, columns), float64 or complex128.

    Raises:
        ValueError: another dtype, whose rounding the allowance does not cover.
    """
    if matrices.dtype not in (torch.float64, torch.complex128):
        raise ValueError(f"matrices have dtype {matrices.dtype}; allowed: float64, complex128")
    if matrices.shape[-2] > matrices.shape[-1]:
        matrices = matrices.mH
    rows, columns = matrices.shape[-2:]
    gram = matrices @ matrices.mH
    squares = matrices.abs().square().sum((-2, -1))  # ||A||_F^2, (...)
    center = squares / rows  # any c >= 0 will do; the mean eigenvalue makes the bound tight
    gram.diagonal(dim1=-2, dim2=-1).sub_(center[..., None])
    distance = torch.linalg.matrix_norm(gram)
    rounding = math.sqrt(2) * _gamma(columns + 4) * squares + 2 * _U * center
    bound = (center + distance + rounding).max().item()
    return math.sqrt(bound * (1 + _gamma(rows * rows + 8)))


def conv_norm_bound(kernel: torch.Tensor, side: int, stride: int, padding: int) -> float:
    """An upper bound on the norm of a circularly padded convolution of square images.

    In the Fourier basis the operator falls into one block for each of the (side / stride)^2 output frequencies u: it maps the
    stride^2 input frequencies that alias to u, (u + a side / stride), to u, with entries K(u + a side / stride) / stride,
    K the Fourier transform of the kernel (Sedghi, Gupta and Long, ICLR 2019, for stride 1). Where the kernel is placed
    relative to the pixel, which padding decides, changes phases only. The transform is a sum over taps with an error of at
    most gamma_{taps + 8} sum |w| an entry (trigonometric arguments are exact multiples, reduced before the call); its
    Frobenius norm over a block is added.

    Args:
        kernel: (out, in, height, width), float64.
        side: height and width of the layer's input, pixels; a multiple of `stride`, at least the kernel's size.
        stride, padding: the same in both directions; outputs beyond side / stride would repeat others and are refused.

    Raises:
        ValueError: the shapes are not as above.
    """
    out_channels, in_channels, height, width = kernel.shape
    outputs = (side + 2 * padding - min(height, width)) // stride + 1
    if side % stride or max(height, width) > side or outputs > side // stride:
        raise ValueError(
            f"a {height}x{width} kernel with stride {stride} and padding {padding} on images of side {side}; allowed: "
            "a side that is a multiple of the stride and at least the kernel's size, at most side / stride outputs"
        )

    def wave(taps: int) -> torch.Tensor:
        turns = torch.outer(torch.arange(side), torch.arange(taps)) % side  # exact, so angles are below 2 pi
        angle = turns.to(kernel) * (-2 * math.pi / side)
        return torch.complex(angle.cos(), angle.sin())

    transform = torch.einsum("oihw,uh,vw->uvoi", kernel.to(torch.complex128), wave(height), wave(width))
    coarse = side // stride
    blocks = transform.reshape(stride, coarse, stride, coarse, out_channels, in_channels)
    blocks = blocks.permute(1, 3, 4, 0, 2, 5).reshape(coarse * coarse, out_channels, stride * stride * in_channels)
    rounding = 4 * _gamma(height * width + 16) * kernel.abs().sum((2, 3)).norm().item()
    return matrix_norm_bound(blocks / stride) + rounding

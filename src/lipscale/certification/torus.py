"""Convolutions as parts of circular ones, whose norms Fourier transforms give.

A part of a matrix has no larger norm than the matrix. What meets nothing is cropped first, as it would make the bound larger.

Zero padding. A tap that meets no pixel at any output position is multiplied by zeros only. Without it the operator is the same,
so such taps are cropped, or set to 0 where they lie between others. Embed the image in a torus that is so large, in each
direction of its own, that a kernel placed at any output position meets each pixel where it does without the torus and zeros
elsewhere; the zeros on both sides may be the same ones. The zero-padded convolution is then the circular one on the torus,
restricted to inputs that vanish outside the image and to some of the outputs.

Circular padding. The torus is the image; where the kernel never goes round it, the pixels beyond the last one that it meets are
cropped. Kernels are no larger than the image, so that each tap meets pixels of its own.

One output in a direction. The kernel is placed once, so every stride is the same operator, and all taps left meet a pixel. With
the kernel's side as stride and as torus, nothing is left out in that direction.
"""

import torch


def embedded(
    kernel: torch.Tensor, size: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], padding_mode: str
) -> tuple[torch.Tensor, list[int], list[int], bool]:
    """A circular convolution that a convolution is a part of.

    Args:
        kernel: (out, in, height, width).
        size, stride, padding: (vertical, horizontal), size of the input in pixels.
        padding_mode: zeros or circular.

    Returns:
        Its kernel, the sides of its torus and its strides, both (vertical, horizontal), and whether it is the whole one. The
        kernel has no taps where no tap meets a pixel; the operator is then 0.

    Raises:
        ValueError: circular padding where the stride does not divide the size, the kernel is larger than it, or outputs
            would repeat others; another padding mode; or no output.
    """
    taps = list(kernel.shape[2:])
    outputs = [(n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, taps, stride, padding, strict=True)]
    _check(size, taps, stride, padding, outputs, padding_mode)
    circular = padding_mode == "circular"
    torus, strides, whole = [], [], True
    for axis, (n, k, s, p, o) in enumerate(zip(size, taps, stride, padding, outputs, strict=True), start=2):
        met = range(k) if circular else [tap for tap in range(k) if _meets_a_pixel(tap, n, s, p, o)]
        if not met:
            return kernel[:, :, :0, :0], [], [], True
        kernel = _cropped(kernel, met, axis)
        side = kernel.shape[axis]
        if o == 1:
            torus.append(side)
            strides.append(side)
            continue
        reach = (o - 1) * s + side  # from the first tap at the first output to the last tap at the last one
        if circular:
            needed = min(reach, n)
        else:
            before = p - met[0]  # zeros that the first output meets; never negative, as tap p meets pixel 0 there
            needed = max(n + before, reach - before)
        torus.append(-(-max(needed, side, s * o) // s) * s)
        strides.append(s)
        whole &= circular and s * o == n
    return kernel, torus, strides, whole


def _check(size, taps, stride, padding, outputs, padding_mode: str) -> None:
    """Raises ValueError as `embedded`."""
    if min(outputs) < 1:
        raise ValueError(f"a kernel of {taps} on images of {list(size)} with padding {list(padding)}; allowed: some output")
    if padding_mode not in ("zeros", "circular"):
        raise ValueError(f"padding mode {padding_mode!r}; allowed: zeros, circular")
    sides = zip(size, taps, stride, outputs, strict=True)
    if padding_mode == "circular" and not all(n % s == 0 and k <= n and o <= n // s for n, k, s, o in sides):
        raise ValueError(
            f"a circular {taps} kernel with stride {list(stride)} and padding {list(padding)} on images of {list(size)}; "
            "allowed: sizes that are multiples of the stride and at least the kernel's, at most size / stride outputs"
        )


def _meets_a_pixel(tap: int, side: int, stride: int, padding: int, outputs: int) -> bool:
    """Whether pixel j stride + tap - padding exists for an output j: the first such j that is not before pixel 0 tells."""
    first = max(0, -((tap - padding) // stride))
    return first < outputs and first * stride + tap - padding < side


def _cropped(kernel: torch.Tensor, met: list[int] | range, axis: int) -> torch.Tensor:
    """The kernel from the first to the last of the taps `met` along an axis, 0 at others between them."""
    kept = torch.tensor(met)
    zeros = torch.zeros_like(kernel)
    return zeros.index_copy(axis, kept, kernel.index_select(axis, kept)).narrow(axis, met[0], met[-1] + 1 - met[0])

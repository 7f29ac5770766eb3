"""What is proven of each plain layer, and of layers behind one another.

For each layer phi and any inputs h, h', in the l2 norm:

    ||phi(h) - phi(h')||  <= slope ||h - h'||                  (the layer's Lipschitz constant, guaranteed)
    ||phi(h)||            <= slope ||h|| + offset
    ||fl(phi(h)) - phi(h)|| <= relative ||h|| + absolute        (what rounding does to it, see `arithmetic.py`)

Rounding of an inner product of length n, a bias included, is at most gamma_{n+1} times the inner product of absolute values
(Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), whatever the order of summation; over a layer
that is gamma_{n+1} (|| |W| || ||h|| + ||b||), and what is lost below the smallest normal number. Selections (MaxMin,
GroupSort2, ReLU, maxima, reshaping) round nothing else.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from lipscale.certification.arithmetic import FLOAT64, Arithmetic
from lipscale.certification.norms import conv_norm_bound, gamma, matrix_norm_bound, rounded_up
from lipscale.certification.plain_layers import Centre, Residual, Scale, Shape, check_kinds, kind_of, output_shape, shapes
from lipscale.errors import LipscaleError
from lipscale.networks.sll import SLL, SLLConv

_UNDERFLOW = 2.0**-900  # more than the products and sums below, in float64, can lose below the smallest number


@dataclass(frozen=True)
class Bounds:
    """The four numbers of the inequalities above, for a layer or for several behind one another."""

    slope: float
    offset: float = 0.0
    relative: float = 0.0
    absolute: float = 0.0

    def then(self, after: "Bounds") -> "Bounds":
        """Of `after` behind this one.

        The computed input of `after` is off by at most e = relative ||h|| + absolute and no larger than
        slope ||h|| + offset + e, so its output is off by at most after.slope e + after.relative (slope ||h|| + offset + e)
        + after.absolute.
        """
        return Bounds(
            slope=rounded_up(after.slope * self.slope + (_UNDERFLOW if after.slope and self.slope else 0.0)),
            offset=rounded_up(after.slope * self.offset + after.offset + _UNDERFLOW),
            relative=rounded_up(after.slope * self.relative + after.relative * (self.slope + self.relative)),
            absolute=rounded_up(
                after.slope * self.absolute + after.relative * (self.offset + self.absolute) + after.absolute + _UNDERFLOW
            ),
        )


def _centre(layer: Centre, shape: Shape, arithmetic: Arithmetic) -> Bounds:
    offset = rounded_up(_norm(layer.mean) * math.sqrt(shape[1] * shape[2]))
    return Bounds(1.0, offset, *_rounding(arithmetic.unit, offset, *arithmetic.lost(1, math.prod(shape), 1.0)))


def _rounding(factor: float, bias: float, relative: float, absolute: float, norm: float = 1.0) -> tuple[float, float]:
    """`relative` and `absolute` of a layer that rounds by `factor` times its absolute values, and loses the last two."""
    return rounded_up(factor * norm + relative), rounded_up(factor * bias + absolute)


def _dense(layer: nn.Linear, shape: Shape, arithmetic: Arithmetic) -> Bounds:
    weight, bias = layer.weight.double().cpu(), _norm(layer.bias)
    norm, factor = _norm(weight), arithmetic.gamma(layer.in_features + 1)
    lost = arithmetic.lost(layer.in_features, layer.out_features, norm)
    return Bounds(matrix_norm_bound(weight), bias, *_rounding(factor, bias, *lost, norm))


def _conv(layer: nn.Conv2d, shape: Shape, arithmetic: Arithmetic) -> Bounds:
    """|| |W| || is at most the norm of the matrix of sums over taps of |W| (Young's inequality for each pair of channels)."""
    kernel = layer.weight.double().cpu()
    slope = conv_norm_bound(kernel, shape[1:], layer.stride, layer.padding, layer.padding_mode)
    pixels, length = math.prod(output_shape(layer, shape)[1:]), kernel[0].numel()
    bias, factor = rounded_up(_norm(layer.bias) * math.sqrt(pixels)), arithmetic.gamma(length + 1)
    lost = arithmetic.lost(length, layer.out_channels * pixels, _norm(kernel))
    return Bounds(slope, bias, *_rounding(factor, bias, *lost, rounded_up(_norm(kernel.abs().sum((2, 3))), length)))


def _scale(layer: Scale, shape: Shape, arithmetic: Arithmetic) -> Bounds:
    """sigma itself, a float64 number, is rounded as well."""
    slope = abs(layer.scale)
    return Bounds(slope, 0.0, *_rounding(arithmetic.gamma(2), 0.0, *arithmetic.lost(1, math.prod(shape), slope), slope))


def _average(layer: nn.AvgPool2d, shape: Shape, arithmetic: Arithmetic) -> Bounds:
    """Means of k^2 values each, no value twice: by Cauchy and Schwarz the norm is 1 / k."""
    pixels, outputs = layer.kernel_size**2, math.prod(output_shape(layer, shape))
    slope = rounded_up(1 / math.sqrt(pixels))
    return Bounds(slope, 0.0, *_rounding(arithmetic.gamma(pixels + 1), 0.0, *arithmetic.lost(pixels, outputs, 1.0), slope))


def _residual(layer: Residual, shape: Shape, arithmetic: Arithmetic) -> Bounds:
    branch = bounds(layer.branch, shape, arithmetic)
    return _sum(branch, rounded_up(1 + branch.slope), shape, arithmetic)


def _sll(layer: SLL, shape: Shape, arithmetic: Arithmetic) -> Bounds:
    weight, bias = layer.weight.double().cpu(), _norm(layer.bias)
    norm, factor = _norm(weight), arithmetic.gamma(layer.features + 1)
    lost = arithmetic.lost(layer.features, layer.features, norm)
    there, back = (_rounding(factor, size, *lost, norm) for size in (bias, 0.0))
    return _block(layer, matrix_norm_bound(weight), bias, there, back, shape, arithmetic)


def _sll_conv(layer: SLLConv, shape: Shape, arithmetic: Arithmetic) -> Bounds:
    """The kernel of K^T has the same taps, so what is said of `_conv` holds for it too."""
    kernel, pixels = layer.weight.double().cpu(), math.prod(shape[1:])
    slope = conv_norm_bound(kernel, shape[1:], (1, 1), (layer.kernel_size // 2,) * 2, "circular")
    bias, length = rounded_up(_norm(layer.bias) * math.sqrt(pixels)), kernel[0].numel()
    norm, factor = rounded_up(_norm(kernel.abs().sum((2, 3))), length), arithmetic.gamma(length + 1)
    lost = arithmetic.lost(length, math.prod(shape), _norm(kernel))
    there, back = (_rounding(factor, size, *lost, norm) for size in (bias, 0.0))
    return _block(layer, slope, bias, there, back, shape, arithmetic)


def _block(layer: SLL | SLLConv, slope: float, bias: float, there, back, shape: Shape, arithmetic: Arithmetic) -> Bounds:
    """Of h - 2 W^T ReLU(W h + b) with c >= ||W||^2, the slope is at most max(1, 2 c - 1). W may be a convolution.

    Let D be the difference of two inputs, d = W D, and z the difference of the two outputs of ReLU. Each z_i lies between 0 and
    d_i, so z.z <= z.d and z.z <= d.d <= c D.D. The difference of the outputs has the square

        |D - 2 W^T z|^2 = D.D - 4 z.d + 4 |W^T z|^2 <= D.D - 4 z.z + 4 c z.z,

    at most D.D if c <= 1, else at most D.D (1 + 4 (c - 1) c) = D.D (2 c - 1)^2. (SLL with its diagonal matrix taken into W and
    b: Araujo, Havens, Delattre, Allauzen and Hu, ICLR 2023.) By its parts the slope would be 1 + 2 c.

    Args:
        slope: at least ||W||, which is ||W^T|| too.
        bias: at least the norm of all biases.
        there, back: `relative` and `absolute` of h -> W h + b and of W^T.
    """
    twice = Bounds(2 * slope, 0.0, 2 * back[0], 2 * back[1])  # to double a number rounds nothing
    branch = Bounds(slope, bias, *there).then(_selection(layer, shape, arithmetic)).then(twice)
    return _sum(branch, max(1.0, rounded_up(2 * slope * slope - 1)), shape, arithmetic)


def _sum(branch: Bounds, slope: float, shape: Shape, arithmetic: Arithmetic) -> Bounds:
    """h and a branch's output, added: rounds by u (||h|| + ||fl(branch(h))||)."""
    unit, (_, lost) = arithmetic.unit, arithmetic.lost(1, math.prod(shape), 0.0)
    return Bounds(
        slope=slope,
        offset=branch.offset,
        relative=rounded_up(branch.relative + unit * (1 + branch.slope + branch.relative)),
        absolute=rounded_up(branch.absolute + unit * (branch.offset + branch.absolute) + lost),
    )


def _selection(layer: nn.Module, shape: Shape, arithmetic: Arithmetic) -> Bounds:
    """Each output is one of the inputs, or 0, and changes by no more than they do.

    MaxMin and GroupSort2 sort pairs: a permutation of the coordinates, so the norm stays; and for sorted pairs s, s' of p, p'
    |s - s'| <= |p - p'|, since <s, s'> >= <p, p'> (rearrangement inequality). ReLU and the maximum of disjoint windows change
    no more than their inputs do, coordinate by coordinate or window by window.
    """
    return Bounds(1.0, 0.0, 0.0, arithmetic.lost(1, math.prod(shape), 0.0)[1])


def _norm(tensor: torch.Tensor | None) -> float:
    """An upper bound on the Frobenius norm, whose squares neither overflow nor vanish."""
    largest = 0.0 if tensor is None else tensor.abs().max().double().item()
    if not largest:
        return 0.0
    return (tensor.double() / largest).norm().item() * largest * (1 + gamma(tensor.numel() + 6)) + 2.0**-1022


PROOFS: dict[str, Callable[[nn.Module, Shape, Arithmetic], Bounds]] = {  # of a kind: the inequalities for its input's shape
    "centre": _centre,
    "dense": _dense,
    "conv": _conv,
    "scale": _scale,
    "maxmin": _selection,
    "groupsort2": _selection,
    "relu": _selection,
    "flatten": _selection,
    "average_pool": _average,
    "max_pool": _selection,
    "residual": _residual,
    "sll": _sll,
    "sll_conv": _sll_conv,
}


def bounds(network: nn.Sequential, image_shape: Shape, arithmetic: Arithmetic = FLOAT64) -> Bounds:
    """The bounds of layers behind one another.

    Raises:
        LipscaleError: a layer is not in KINDS, its weights are not finite, nothing is proven for its shape, or numbers may
            overflow.
    """
    check_kinds(network)
    total = Bounds(1.0)
    for position, (layer, shape) in enumerate(zip(network, shapes(network, image_shape), strict=False)):
        total = total.then(layer_bounds(layer, shape, str(position), arithmetic))
        if not max(total.slope, total.offset, total.relative, total.absolute) <= arithmetic.largest:  # also where one is NaN
            raise LipscaleError(f"layer {position}: numbers that are not finite, or too large to be bounded in float64")
    return total


def layer_bounds(layer: nn.Module, shape: Shape, where: str, arithmetic: Arithmetic = FLOAT64) -> Bounds:
    """The bounds of a layer for inputs of a shape. Raises as `bounds`."""
    name = kind_of(layer, where)
    try:
        return PROOFS[name](layer, shape, arithmetic)
    except (ValueError, RuntimeError) as error:
        raise LipscaleError(f"layer {where} ({name}): {' '.join(str(error).split())}") from None

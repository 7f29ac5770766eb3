"""What is proven of each plain layer, and of layers behind one another.

For each layer phi and any inputs h, h', in the l2 norm:

    ||phi(h) - phi(h')||  <= slope ||h - h'||                  (the layer's Lipschitz constant, guaranteed)
    ||phi(h)||            <= slope ||h|| + offset
    ||fl(phi(h)) - phi(h)|| <= relative ||h|| + absolute        (what float64 arithmetic does to it)

Rounding of an inner product of length n, a bias included, is at most gamma_{n+1} times the inner product of absolute values
(Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), whatever the order of summation; over a layer
that is gamma_{n+1} (|| |W| || ||h|| + ||b||). Selections (MaxMin, GroupSort2, ReLU, maxima, reshaping) round nothing.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from lipscale.certification.norms import UNIT, conv_norm_bound, gamma, matrix_norm_bound, rounded_up
from lipscale.certification.plain_layers import Centre, Residual, Scale, Shape, check_kinds, kind_of, output_shape, shapes
from lipscale.errors import LipscaleError

_UNDERFLOW = 2.0**-900  # more than all products of a layer, 2^-1074 each, can lose below the smallest float64
_LARGEST = 2.0**128  # of the four numbers after any layer: then no product of a forward pass, branches included, overflows


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


def _centre(layer: Centre, shape: Shape) -> Bounds:
    offset = rounded_up(_norm(layer.mean) * math.sqrt(shape[1] * shape[2]))
    return Bounds(1.0, offset, UNIT, UNIT * offset)


def _dense(layer: nn.Linear, shape: Shape) -> Bounds:
    weight, bias = layer.weight.double().cpu(), _norm(layer.bias)
    rounding = gamma(layer.in_features + 1)
    return Bounds(matrix_norm_bound(weight), bias, rounded_up(rounding * _norm(weight)), rounded_up(rounding * bias))


def _conv(layer: nn.Conv2d, shape: Shape) -> Bounds:
    """|| |W| || is at most the norm of the matrix of sums over taps of |W| (Young's inequality for each pair of channels)."""
    kernel = layer.weight.double().cpu()
    slope = conv_norm_bound(kernel, shape[1:], layer.stride, layer.padding, layer.padding_mode)
    outputs = math.prod(output_shape(layer, shape)[1:])
    bias, rounding = rounded_up(_norm(layer.bias) * math.sqrt(outputs)), gamma(kernel[0].numel() + 1)
    return Bounds(slope, bias, rounded_up(rounding * _norm(kernel.abs().sum((2, 3)))), rounded_up(rounding * bias))


def _scale(layer: Scale, shape: Shape) -> Bounds:
    return Bounds(abs(layer.scale), 0.0, UNIT * abs(layer.scale))


def _average(layer: nn.AvgPool2d, shape: Shape) -> Bounds:
    """Means of k^2 values each, no value twice: by Cauchy and Schwarz the norm is 1 / k."""
    pixels = layer.kernel_size**2
    slope = rounded_up(1 / math.sqrt(pixels))
    return Bounds(slope, 0.0, gamma(pixels + 1) * slope)


def _residual(layer: Residual, shape: Shape) -> Bounds:
    """The sum rounds by u (||h|| + ||fl(branch(h))||)."""
    branch = bounds(layer.branch, shape)
    return Bounds(
        slope=rounded_up(1 + branch.slope),
        offset=branch.offset,
        relative=rounded_up(branch.relative + UNIT * (1 + branch.slope + branch.relative)),
        absolute=rounded_up(branch.absolute + UNIT * (branch.offset + branch.absolute)),
    )


def _selection(layer: nn.Module, shape: Shape) -> Bounds:
    """Each output is one of the inputs, or 0, and changes by no more than they do.

    MaxMin and GroupSort2 sort pairs: a permutation of the coordinates, so the norm stays; and for sorted pairs s, s' of p, p'
    |s - s'| <= |p - p'|, since <s, s'> >= <p, p'> (rearrangement inequality). ReLU and the maximum of disjoint windows change
    no more than their inputs do, coordinate by coordinate or window by window.
    """
    return Bounds(1.0)


def _norm(tensor: torch.Tensor | None) -> float:
    """An upper bound on the Frobenius norm, whose squares neither overflow nor vanish."""
    largest = 0.0 if tensor is None else tensor.abs().max().double().item()
    if not largest:
        return 0.0
    return (tensor.double() / largest).norm().item() * largest * (1 + gamma(tensor.numel() + 6)) + 2.0**-1022


PROOFS: dict[str, Callable[[nn.Module, Shape], Bounds]] = {  # of a kind: the inequalities for a layer and its input's shape
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
}


def bounds(network: nn.Sequential, image_shape: Shape) -> Bounds:
    """The bounds of layers behind one another.

    Raises:
        LipscaleError: a layer is not in KINDS, its weights are not finite, or nothing is proven for its shape.
    """
    check_kinds(network)
    total = Bounds(1.0)
    for position, (layer, shape) in enumerate(zip(network, shapes(network, image_shape), strict=False)):
        total = total.then(layer_bounds(layer, shape, str(position)))
        if not max(total.slope, total.offset, total.relative, total.absolute) <= _LARGEST:  # also where one is NaN
            raise LipscaleError(f"layer {position}: numbers that are not finite, or too large to be bounded in float64")
    return total


def layer_bounds(layer: nn.Module, shape: Shape, where: str) -> Bounds:
    """The bounds of a layer for inputs of a shape. Raises as `bounds`."""
    name = kind_of(layer, where)
    try:
        return PROOFS[name](layer, shape)
    except (ValueError, RuntimeError) as error:
        raise LipscaleError(f"layer {where} ({name}): {' '.join(str(error).split())}") from None

"""The layers that a certificate can speak of: one table with what is known of each. Anything else is an error that names it.

For each layer phi and any inputs h, h', in the l2 norm:

    ||phi(h) - phi(h')||  <= slope ||h - h'||                  (the layer's Lipschitz constant, guaranteed)
    ||phi(h)||            <= slope ||h|| + offset
    ||fl(phi(h)) - phi(h)|| <= relative ||h|| + absolute        (what float64 arithmetic does to it)

Rounding of an inner product of length n, a bias included, is at most gamma_{n+1} times the inner product of absolute values
(Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1), whatever the order of summation; over a layer
that is gamma_{n+1} (|| |W| || ||h|| + ||b||). Selections (MaxMin, ReLU, maxima, reshaping) round nothing.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from orthogonium.layers import MaxMin
from torch import nn

from lipscale.certification.norms import UNIT, conv_norm_bound, gamma, matrix_norm_bound, rounded_up
from lipscale.errors import LipscaleError

Shape = tuple[int, ...]
_UNDERFLOW = 2.0**-900  # more than all products of a layer, 2^-1074 each, can lose below the smallest float64
_LARGEST = 2.0**128  # of the four numbers after any layer: then no product of a forward pass, branches included, overflows
_DEEPEST = 4  # branches within branches


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


class Centre(nn.Module):
    """x - mean, one value per channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.zeros(channels, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images - self.mean


class Scale(nn.Module):
    """sigma x; sigma is kept in float64, as the product of all sigma must not exceed L."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = float(scale)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.scale * hidden


class Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, branch: nn.Sequential):
        super().__init__()
        self.branch = branch

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.branch(hidden)


def _centre(layer: Centre, shape: Shape) -> Bounds:
    if len(shape) != 3 or shape[0] != layer.channels:  # broadcasting would repeat the input, which costs norm
        raise ValueError(f"{layer.channels} channels for an input of shape {list(shape)}; allowed: as many as the input has")
    offset = rounded_up(_norm(layer.mean) * math.sqrt(shape[1] * shape[2]))
    return Bounds(1.0, offset, UNIT, UNIT * offset)


def _dense(layer: nn.Linear, shape: Shape) -> Bounds:
    if len(shape) != 1:
        raise ValueError(f"an input of shape {list(shape)}; allowed: a flattened one")
    weight, bias = layer.weight.double().cpu(), _norm(layer.bias)
    rounding = gamma(layer.in_features + 1)
    return Bounds(matrix_norm_bound(weight), bias, rounded_up(rounding * _norm(weight)), rounded_up(rounding * bias))


def _conv(layer: nn.Conv2d, shape: Shape) -> Bounds:
    """|| |W| || is at most the norm of the matrix of sums over taps of |W| (Young's inequality for each pair of channels)."""
    kernel = layer.weight.double().cpu()
    slope = conv_norm_bound(kernel, shape[1:], layer.stride, layer.padding, layer.padding_mode)
    outputs = math.prod(_output_shape(layer, shape)[1:])
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
    if shapes(layer.branch, shape)[-1] != shape:
        raise ValueError("a branch that changes the shape of its input; allowed: the same shape")
    return Bounds(
        slope=rounded_up(1 + branch.slope),
        offset=branch.offset,
        relative=rounded_up(branch.relative + UNIT * (1 + branch.slope + branch.relative)),
        absolute=rounded_up(branch.absolute + UNIT * (branch.offset + branch.absolute)),
    )


def _selection(layer: nn.Module, shape: Shape) -> Bounds:
    return Bounds(1.0)


def _norm(tensor: torch.Tensor | None) -> float:
    """An upper bound on the Frobenius norm, whose squares neither overflow nor vanish."""
    largest = 0.0 if tensor is None else tensor.abs().max().double().item()
    if not largest:
        return 0.0
    return (tensor.double() / largest).norm().item() * largest * (1 + gamma(tensor.numel() + 6)) + 2.0**-1022


@dataclass(frozen=True)
class Kind:
    """What is known of a kind of layer.

    Attributes:
        build: makes the module from its arguments.
        arguments: names of the module's attributes that are these arguments.
        bounds: the inequalities above for a module and the shape of its input, without the batch.
        supported: attributes with the only values that the bounds are proven for.
    """

    build: Callable[..., nn.Module]
    arguments: tuple[str, ...]
    bounds: Callable[[nn.Module, Shape], Bounds]
    supported: dict[str, object]


KINDS = {
    "centre": Kind(Centre, ("channels",), _centre, {}),
    "dense": Kind(nn.Linear, ("in_features", "out_features"), _dense, {}),
    "conv": Kind(
        nn.Conv2d,
        ("in_channels", "out_channels", "kernel_size", "stride", "padding", "padding_mode"),
        _conv,
        {"groups": 1, "dilation": (1, 1)},
    ),
    "scale": Kind(Scale, ("scale",), _scale, {}),
    "maxmin": Kind(MaxMin, (), _selection, {"axis": 1}),
    "relu": Kind(nn.ReLU, (), _selection, {"inplace": False}),
    "flatten": Kind(nn.Flatten, (), _selection, {"start_dim": 1, "end_dim": -1}),
    "average_pool": Kind(
        nn.AvgPool2d, ("kernel_size",), _average, {"padding": 0, "ceil_mode": False, "divisor_override": None}
    ),
    "max_pool": Kind(
        nn.MaxPool2d, ("kernel_size",), _selection, {"padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False}
    ),
    "residual": Kind(Residual, (), _residual, {}),
}
KIND_OF = {kind.build: name for name, kind in KINDS.items()}
ALLOWED = ", ".join(KINDS)


class PlainNetwork(nn.Sequential):
    """Frozen plain layers that compute logits.

    Attributes:
        lipschitz: the L that the network was made to have; infinite for one without constraint, of which nothing is certified.
        specification: a list of {"layer": a key of KINDS, ...its arguments}; that of a residual has "branch", such a list.
        image_shape: (channels, height, width) of the images that the bounds of convolutions hold for.

    Raises:
        LipscaleError: a layer is not in KINDS, or layers do not fit the images or one another.
    """

    def __init__(self, specification: Sequence[dict], lipschitz: float, image_shape: Sequence[int]):
        super().__init__(*_build(specification))
        self.specification = list(specification)
        self.lipschitz = float(lipschitz)
        self.image_shape = tuple(map(int, image_shape))
        self.requires_grad_(False)
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise LipscaleError(
                f"model: images of shape {list(image_shape)}; allowed: (channels, height, width), each 1 or more"
            )
        logits = shapes(self, self.image_shape)[-1]
        if len(logits) != 1 or logits[0] < 2:
            raise LipscaleError(f"model: logits of shape {list(logits)}; allowed: one number for each of two or more classes")

    def bounds(self) -> Bounds:
        """What is guaranteed of the whole network, from its weights alone."""
        return bounds(self, self.image_shape)


def _build(specification: Sequence[dict], where: str = "") -> list[nn.Module]:
    layers = []
    for position, entry in enumerate(specification):
        arguments = dict(entry)
        name = arguments.pop("layer", None)
        if name not in KINDS:
            raise LipscaleError(f"model: layer {where}{position} is {name!r}; allowed: {ALLOWED}")
        if name == "residual":
            layers.append(Residual(nn.Sequential(*_build(arguments["branch"], f"{where}{position}."))))
            continue
        if name == "conv":  # those of lipscale 0.1 did not name theirs
            arguments.setdefault("padding_mode", "circular")
        layers.append(KINDS[name].build(**arguments))
    return layers


def kind_of(layer: nn.Module, where: str) -> str:
    """The key of KINDS for a module. Raises LipscaleError for any other module, a subclass or unsupported arguments."""
    name = KIND_OF.get(type(layer))
    if name is None:
        raise LipscaleError(f"layer {where} is {type(layer).__name__}; allowed: {ALLOWED}, unparametrized")
    if layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer):
        raise LipscaleError(f"layer {where} ({name}) has a hook or a forward of its own; allowed: plain {ALLOWED}")
    for attribute, value in KINDS[name].supported.items():
        if getattr(layer, attribute) != value:
            raise LipscaleError(f"layer {where} ({name}) has {attribute} {getattr(layer, attribute)!r}; allowed: {value!r}")
    if name in ("average_pool", "max_pool") and not (isinstance(layer.kernel_size, int) and layer.stride == layer.kernel_size):
        raise LipscaleError(f"layer {where} ({name}) has windows that overlap or are not square; allowed: stride = kernel_size")
    if name == "conv" and isinstance(layer.padding, str):
        raise LipscaleError(f"layer {where} (conv) has padding {layer.padding!r}; allowed: numbers")
    return name


def check_kinds(network: nn.Sequential, where: str = "") -> None:
    """Raises LipscaleError for the first layer, also in a branch, that is not in KINDS."""
    if type(network) not in (nn.Sequential, PlainNetwork):
        place = f"the branch {where.rstrip('.')}" if where else "the network"
        raise LipscaleError(f"{place} is {type(network).__name__}; allowed: torch.nn.Sequential, no subclass")
    if where.count(".") > _DEEPEST:
        raise LipscaleError(f"layer {where.rstrip('.')} is a branch within {_DEEPEST} branches; allowed: fewer")
    for position, layer in enumerate(network):
        if kind_of(layer, f"{where}{position}") == "residual":
            check_kinds(layer.branch, f"{where}{position}.")


def shapes(network: nn.Sequential, image_shape: Shape) -> list[Shape]:
    """The shape of each layer's input, and of the logits, without the batch.

    Raises:
        LipscaleError: layers do not fit.
    """
    found = [tuple(image_shape)]
    for position, layer in enumerate(network):
        try:
            found.append(_output_shape(layer, found[-1]))
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise LipscaleError(f"layer {position} does not fit an input of shape {list(found[-1])} ({reason})") from None
    return found


def _output_shape(layer: nn.Module, shape: Shape) -> Shape:
    tensor = next(itertools.chain(layer.parameters(), layer.buffers()), torch.zeros(()))
    with torch.no_grad():
        return tuple(layer(torch.zeros(1, *shape, dtype=tensor.dtype, device=tensor.device)).shape[1:])


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
        return KINDS[name].bounds(layer, shape)
    except (ValueError, RuntimeError) as error:
        raise LipscaleError(f"layer {where} ({name}): {' '.join(str(error).split())}") from None

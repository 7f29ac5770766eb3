"""The layers that certificates cover, and networks of them.

KINDS is the one table of these layers; `lipscale.certification.bounds` has a proof for each. Anything else is an error that
names the layer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from orthogonium import layers as orthogonium
from torch import nn

from lipscale.certification import layer_shapes
from lipscale.certification.additions import addition
from lipscale.certification.binding import Binding
from lipscale.certification.layer_shapes import Shape
from lipscale.certification.plain_modules import Centre, GroupSort2, Residual, Scale
from lipscale.errors import LipscaleError
from lipscale.networks.circular import convolved
from lipscale.networks.maxmin import MaxMin
from lipscale.networks.sll import SLL, SLLConv

_DEEPEST = 4  # branches within branches


@dataclass(frozen=True)
class Kind:
    """What is known of a kind of layer.

    Attributes:
        build: makes the module from its arguments.
        arguments: names of the module's attributes that are these arguments.
        supported: attributes with the only values that something is proven for.
        output_shape: of a layer and the shape of its input, both without the batch.
    """

    build: Callable[..., nn.Module]
    arguments: tuple[str, ...] = ()
    supported: Mapping[str, object] = field(default_factory=dict)
    output_shape: Callable[[nn.Module, Shape], Shape] = layer_shapes.unchanged


def _residual_shape(layer: Residual, shape: Shape) -> Shape:
    if shapes(layer.branch, shape)[-1] != shape:
        raise ValueError("a branch that changes the shape of its input; allowed: the same shape")
    return shape


KINDS = {
    "centre": Kind(Centre, ("channels",), output_shape=layer_shapes.centred),
    "dense": Kind(nn.Linear, ("in_features", "out_features"), output_shape=layer_shapes.dense),
    "conv": Kind(
        nn.Conv2d,
        ("in_channels", "out_channels", "kernel_size", "stride", "padding", "padding_mode"),
        {"groups": 1, "dilation": (1, 1)},
        layer_shapes.conv,
    ),
    "scale": Kind(Scale, ("scale",)),
    "maxmin": Kind(MaxMin, supported={"axis": 1}, output_shape=layer_shapes.paired),
    "groupsort2": Kind(GroupSort2, output_shape=layer_shapes.paired),
    "relu": Kind(nn.ReLU, supported={"inplace": False}),
    "flatten": Kind(nn.Flatten, supported={"start_dim": 1, "end_dim": -1}, output_shape=layer_shapes.flattened),
    "average_pool": Kind(
        nn.AvgPool2d,
        ("kernel_size",),
        {"padding": 0, "ceil_mode": False, "divisor_override": None},
        layer_shapes.pooled,
    ),
    "max_pool": Kind(
        nn.MaxPool2d,
        ("kernel_size",),
        {"padding": 0, "dilation": 1, "ceil_mode": False, "return_indices": False},
        layer_shapes.pooled,
    ),
    "residual": Kind(Residual, output_shape=_residual_shape),
    "sll": Kind(SLL, ("features",), output_shape=layer_shapes.square),
    "sll_conv": Kind(SLLConv, ("channels", "kernel_size"), output_shape=layer_shapes.conv_block),
}
KIND_OF = {kind.build: name for name, kind in KINDS.items()} | {orthogonium.MaxMin: "maxmin"}  # the same function
ALLOWED = ", ".join(KINDS)


class PlainNetwork(nn.Sequential):
    """Frozen plain layers that compute logits.

    Attributes:
        lipschitz: the enforced L, by construction; infinite for one without constraint, of which nothing is certified.
        specification: a list of {"layer": a key of KINDS, ...its arguments}; that of a residual has "branch", such a list.
        image_shape: (channels, height, width) of the images that the bounds of convolutions hold for.
        binding: what else is known of these images.

    Raises:
        LipscaleError: a layer is not in KINDS, or layers do not fit the images or one another.
    """

    def __init__(self, specification: Sequence[dict], lipschitz: float, image_shape: Sequence[int]):
        with torch.random.fork_rng(devices=[]):  # first weights are random, but must not change what follows
            super().__init__(*_build(specification))
        self.specification = list(specification)
        self.lipschitz = float(lipschitz)
        self.image_shape = tuple(map(int, image_shape))
        self.float().requires_grad_(False)  # torch builds layers in its default dtype
        if len(self.image_shape) != 3 or min(self.image_shape) < 1:
            raise LipscaleError(
                f"model: images of shape {list(image_shape)}; allowed: (channels, height, width), each 1 or more"
            )
        logits = shapes(self, self.image_shape)[-1]
        if len(logits) != 1 or logits[0] < 2:
            raise LipscaleError(f"model: logits of shape {list(logits)}; allowed: one number for each of two or more classes")
        self.class_count = logits[0]
        self.binding = Binding()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes) of images (B, C, H, W): each layer in turn, circular convolutions faster than torch's."""
        hidden = images
        for layer in self:
            hidden = convolved(layer, hidden) if type(layer) is nn.Conv2d else layer(hidden)
        return hidden


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
    if added := addition(layer):
        raise LipscaleError(f"layer {where} ({name}) has {added}; allowed: plain {ALLOWED}")
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
    place = f"the branch {where.rstrip('.')}" if where else "the network"
    if type(network) not in (nn.Sequential, PlainNetwork):
        raise LipscaleError(f"{place} is {type(network).__name__}; allowed: torch.nn.Sequential, no subclass")
    if added := addition(network):
        raise LipscaleError(f"{place} has {added}; allowed: layers only")
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
            found.append(output_shape(layer, found[-1]))
        except (ValueError, LookupError) as error:
            reason = " ".join(str(error).split())
            raise LipscaleError(f"layer {position} does not fit an input of shape {list(found[-1])} ({reason})") from None
    return found


def output_shape(layer: nn.Module, shape: Shape) -> Shape:
    """Of a layer of KINDS. Raises ValueError where the input does not fit, LipscaleError where it does not in a branch."""
    return KINDS[KIND_OF[type(layer)]].output_shape(layer, shape)

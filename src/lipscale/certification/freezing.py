"""Freezing: a trained LipschitzNetwork as plain layers whose norms are guaranteed."""

import math
from collections.abc import Sequence
from fractions import Fraction
from types import ModuleType

import torch
from torch import nn

from lipscale.certification.norms import conv_norm_bound, matrix_norm_bound
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.errors import LipscaleError
from lipscale.networks.maxmin import MaxMin
from lipscale.networks.network import LipschitzNetwork, layer_family
from lipscale.networks.sll import SLL, SLLConv

NEARLY_ORTHOGONAL = 0.05  # how far below 1 rounding brings the norm of an orthogonal layer: what orthogonium's tests allow for


def freeze(network: LipschitzNetwork, image_shape: Sequence[int]) -> PlainNetwork:
    """A network with fixed weights, on the CPU, in float32. Its L is a guarantee, also after rounding.

    A weight whose norm may be above 1 is divided by a guaranteed bound on it, so that the product of all norms and scales is
    at most `network.lipschitz`. Weights are never scaled up: a layer of norm below 1 by construction, such as AOL's, would
    become another function. The exception are orthogonal layers (`ORTHOGONAL` of their family): their norm is 1 in exact
    arithmetic, trained ones have 0.998 to 1.001 (mostly within 1e-4), and dividing by a bound below 1 makes it 1 again. A
    network without constraint stays as it is.

    Args:
        network: on any device.
        image_shape: (channels, height, width); norms of convolutions are bounded at the sizes that follow from it.

    Raises:
        LipscaleError: a layer or the activation is of another kind than `networks.network` builds, or weights are not finite.
    """
    if type(network).forward is not LipschitzNetwork.forward:
        raise LipscaleError(f"export: {type(network).__name__} has a forward of its own; allowed: that of LipschitzNetwork")
    if type(network.activation) is not MaxMin:
        raise LipscaleError(f"export: the activation is {type(network.activation).__name__}; allowed: MaxMin of lipscale")
    family, free = layer_family(network.family), math.isinf(network.lipschitz)
    channels, side, _ = image_shape
    specification: list[dict] = [{"layer": "centre", "channels": channels}]
    tensors = {"0.mean": network.mean}
    flat = False
    for index, (trained, scale) in enumerate(zip(network.layers, _scales_within(network), strict=True)):
        layer = family.plain(trained)
        entry = _entry(layer, index)
        if index:
            specification.append({"layer": "maxmin"})
        if entry["layer"] in ("dense", "sll") and not flat:
            specification.append({"layer": "flatten"})
            flat = True
        name = f"{len(specification)}"
        specification.append(entry)
        tensors[f"{name}.weight"] = layer.weight if free else _within_unit_norm(layer.weight, entry, side, family)
        if layer.bias is not None:
            tensors[f"{name}.bias"] = layer.bias
        if not free:
            specification.append({"layer": "scale", "scale": scale})
        if entry["layer"] == "conv":
            side = (side + 2 * entry["padding"] - entry["kernel_size"]) // entry["stride"] + 1
    plain = PlainNetwork(specification, network.lipschitz, image_shape)
    plain.load_state_dict({name: tensor.detach().float().cpu() for name, tensor in tensors.items()})
    return plain.eval()


def _entry(layer: nn.Linear | nn.Conv2d | SLL | SLLConv, index: int) -> dict:
    """The entry of a layer in the specification of a PlainNetwork."""
    if isinstance(layer, SLL):
        entry = {"layer": "sll", "features": layer.features}
    elif isinstance(layer, SLLConv):
        entry = {"layer": "sll_conv", "channels": layer.channels, "kernel_size": layer.kernel_size}
    elif isinstance(layer, nn.Linear):
        entry = {"layer": "dense", "in_features": layer.in_features, "out_features": layer.out_features}
    elif (
        layer.padding_mode == "circular"
        and all(isinstance(size, tuple) and size[0] == size[1] for size in (layer.kernel_size, layer.stride, layer.padding))
        and layer.dilation == (1, 1)
        and layer.groups == 1
    ):
        entry = {
            "layer": "conv", "in_channels": layer.in_channels, "out_channels": layer.out_channels,
            "kernel_size": layer.kernel_size[0], "stride": layer.stride[0], "padding": layer.padding[0],
            "padding_mode": layer.padding_mode,
        }  # fmt: skip
    else:
        raise LipscaleError(
            f"export: layer {index} is {layer}; allowed: dense, and convolution with circular padding, square kernel and "
            "stride, one group, no dilation"
        )
    return {**entry, "bias": layer.bias is not None}


def _scales_within(network: LipschitzNetwork) -> list[float]:
    """The scales sigma_k, the last one lowered by as many units in the last place as keep their exact product at most L."""
    scales = network.budget.scales().tolist()
    if not math.isfinite(network.lipschitz):
        return scales
    lipschitz = Fraction(network.lipschitz)
    while math.prod(map(Fraction, scales)) > lipschitz:
        scales[-1] = math.nextafter(scales[-1], 0.0)
    return scales


def _within_unit_norm(weight: torch.Tensor, entry: dict, side: int, family: ModuleType) -> torch.Tensor:
    """`weight` as float32 values with a guaranteed bound of at most 1 on their norm."""
    weight = weight.double().cpu()
    if not weight.isfinite().all():
        raise LipscaleError(f"export: the weights of a {entry['layer']} layer are not finite")
    bound = norm_bound(weight, entry, side)
    divisor = bound if bound > 1 or (family.ORTHOGONAL and bound >= 1 - NEARLY_ORTHOGONAL) else 1.0
    scaled = (weight / divisor).float()
    while (excess := norm_bound(scaled.double(), entry, side)) > 1:
        divisor *= excess * (1 + 2.0**-26)
        scaled = (weight / divisor).float()
    return scaled


def norm_bound(weight: torch.Tensor, entry: dict, side: int) -> float:
    """A guaranteed upper bound on the l2 norm of a layer's matrix at input size `side`, in pixels."""
    if entry["layer"] in ("dense", "sll"):
        return matrix_norm_bound(weight)
    if entry["layer"] == "sll_conv":
        return conv_norm_bound(weight, (side, side), (1, 1), (entry["kernel_size"] // 2,) * 2, "circular")
    stride, padding = (entry["stride"],) * 2, (entry["padding"],) * 2
    return conv_norm_bound(weight, (side, side), stride, padding, entry["padding_mode"])

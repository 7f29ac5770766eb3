"""Trained networks as plain layers: frozen weights whose norms are guaranteed, in a file that holds no code.

A `.safetensors` file holds the weights and, as metadata, the list of layers and the enforced L. Reading it back builds the
layers below and nothing else: an unknown layer is an error that names it.
"""

import json
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import torch
from orthogonium.layers import MaxMin
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from lipscale.errors import LipscaleError
from lipscale.files import atomic
from lipscale.networks import LipschitzNetwork
from lipscale.norms import conv_norm_bound, matrix_norm_bound


class Centre(nn.Module):
    """x - mean, 1-Lipschitz."""

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images - self.mean


class Scale(nn.Module):
    """sigma x, sigma-Lipschitz; sigma is kept in float64, as the product of all sigma must not exceed L."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.scale * hidden


LAYERS = {
    "centre": Centre,
    "conv": lambda **size: nn.Conv2d(**size, padding_mode="circular"),
    "dense": nn.Linear,
    "scale": Scale,
    "maxmin": MaxMin,
    "flatten": nn.Flatten,
}


class PlainNetwork(nn.Sequential):
    """Frozen plain layers that compute logits with the l2 Lipschitz constant `lipschitz`.

    Attributes:
        lipschitz: the enforced L.
        specification: a list of {"layer": a key of LAYERS, ...its arguments}.
        image_shape: (channels, height, width) of the images that the norms of convolutions were bounded for.
    """

    def __init__(self, specification: Sequence[dict], lipschitz: float, image_shape: Sequence[int]):
        layers = []
        for position, entry in enumerate(specification):
            arguments = dict(entry)
            name = arguments.pop("layer", None)
            if name not in LAYERS:
                raise LipscaleError(f"model: layer {position} is {name!r}; allowed: {', '.join(LAYERS)}")
            layers.append(LAYERS[name](**arguments))
        super().__init__(*layers)
        self.specification = list(specification)
        self.lipschitz = lipschitz
        self.image_shape = tuple(image_shape)
        self.requires_grad_(False)


def export(network: LipschitzNetwork, image_shape: Sequence[int]) -> PlainNetwork:
    """Freeze a network. Each weight is divided by a guaranteed bound on its norm, so that the product of all norms and
    scales is at most `network.lipschitz`, also after rounding to float32. A network without constraint stays as it is.

    Args:
        network: any LipschitzNetwork, on any device.
        image_shape: (channels, height, width); norms of convolutions are bounded at the sizes that follow from it.
    """
    channels, side, _ = image_shape
    specification: list[dict] = [{"layer": "centre", "channels": channels}]
    tensors = {"0.mean": network.mean}
    flat = False
    for index, (layer, scale) in enumerate(zip(network.layers, _scales_within(network), strict=True)):
        if index:
            specification.append({"layer": "maxmin"})
        if isinstance(layer, nn.Linear) and not flat:
            specification.append({"layer": "flatten"})
            flat = True
        position = len(specification)
        if isinstance(layer, nn.Linear):
            entry = {"layer": "dense", "in_features": layer.in_features, "out_features": layer.out_features}
        elif _is_supported_conv(layer):
            entry = {
                "layer": "conv", "in_channels": layer.in_channels, "out_channels": layer.out_channels,
                "kernel_size": layer.kernel_size[0], "stride": layer.stride[0], "padding": layer.padding[0],
            }  # fmt: skip
        else:
            raise LipscaleError(
                f"export: layer {index} is {layer}; allowed: dense, and convolution with circular padding, square kernel and "
                "stride, one group, no dilation"
            )
        specification.append({**entry, "bias": layer.bias is not None})
        weight = layer.weight.detach()
        if math.isfinite(network.lipschitz):
            specification.append({"layer": "scale", "scale": scale})
            weight = _within_unit_norm(weight, entry, side)
        tensors[f"{position}.weight"] = weight
        if layer.bias is not None:
            tensors[f"{position}.bias"] = layer.bias
        if entry["layer"] == "conv":
            side = (side + 2 * entry["padding"] - entry["kernel_size"]) // entry["stride"] + 1
    plain = PlainNetwork(specification, network.lipschitz, image_shape)
    plain.load_state_dict({name: tensor.detach().float().cpu() for name, tensor in tensors.items()})
    return plain


def _is_supported_conv(layer: nn.Module) -> bool:
    return (
        isinstance(layer, nn.Conv2d)
        and layer.padding_mode == "circular"
        and all(isinstance(size, tuple) and size[0] == size[1] for size in (layer.kernel_size, layer.stride, layer.padding))
        and layer.dilation == (1, 1)
        and layer.groups == 1
    )


def _scales_within(network: LipschitzNetwork) -> list[float]:
    """The scales sigma_k, the last one lowered by as many units in the last place as keep their exact product at most L."""
    scales = network.budget.scales().tolist()
    if not math.isfinite(network.lipschitz):
        return scales
    lipschitz = Fraction(network.lipschitz)
    while math.prod(map(Fraction, scales)) > lipschitz:
        scales[-1] = math.nextafter(scales[-1], 0.0)
    return scales


def _within_unit_norm(weight: torch.Tensor, entry: dict, side: int) -> torch.Tensor:
    """`weight` divided by a bound on its norm, as float32 values whose own bound is at most 1."""
    weight = weight.double().cpu()
    divisor = norm_bound(weight, entry, side) or 1.0  # a weight of zeros stays as it is
    if not math.isfinite(divisor):
        raise LipscaleError(f"export: the weights of a {entry['layer']} layer are not finite")
    scaled = (weight / divisor).float()
    while (excess := norm_bound(scaled.double(), entry, side)) > 1:
        divisor *= excess * (1 + 2.0**-26)
        scaled = (weight / divisor).float()
    return scaled


def norm_bound(weight: torch.Tensor, entry: dict, side: int) -> float:
    """A guaranteed upper bound on the l2 norm of a dense or convolutional layer at input size `side`, in pixels."""
    if entry["layer"] == "dense":
        return matrix_norm_bound(weight)
    return conv_norm_bound(weight, side, entry["stride"], entry["padding"])


def save(network: PlainNetwork, path: str | Path) -> None:
    description = {"specification": network.specification, "lipschitz": network.lipschitz, "image_shape": network.image_shape}
    with atomic(path) as temporary:  # one key, as safetensors writes several in random order
        save_file(network.state_dict(), temporary, {"network": json.dumps(description)})


def load(path: str | Path, device: str = "cpu") -> PlainNetwork:
    """Read a network that `save` wrote. Raises LipscaleError where the file is not such a network, whole."""
    try:
        with safe_open(path, "pt", device=device) as file:
            description = json.loads((file.metadata() or {})["network"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        with torch.device("meta"):  # so that a wrong size allocates nothing
            network = PlainNetwork(**description)
            network(torch.empty(2, *network.image_shape)).reshape(2, -1)
        network.load_state_dict(tensors, assign=True)
        _check_numbers(network)
    except LipscaleError:
        raise
    except Exception as error:  # broken bytes make json, safetensors and torch raise whatever they happen to run into
        raise LipscaleError(f"the model {path} cannot be read: {' '.join(str(error).split())}") from None
    return network.to(device).eval()


def _check_numbers(network: PlainNetwork) -> None:
    """Raises ValueError where numbers are of another kind than `save` writes."""
    scales = [layer.scale for layer in network if isinstance(layer, Scale)]
    if not all(type(number) is float and number >= 0 for number in (network.lipschitz, *scales)):
        raise ValueError(f"L is {network.lipschitz} and the scales are {scales}; allowed: numbers")
    for name, tensor in network.state_dict().items():
        if tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise ValueError(f"{name} holds something other than finite float32 numbers")

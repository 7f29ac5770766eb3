"""Networks as plain layers, in a file that holds no code.

A `.safetensors` file holds the weights and, as metadata, the list of layers and the enforced L. Reading it back builds the
layers of `lipscale.certification.layers` and nothing else: an unknown layer is an error that names it.
"""

import json
import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save as serialized
from torch import nn

from lipscale.certification.layers import KINDS, PlainNetwork, Residual, Scale, check_kinds, kind_of
from lipscale.certification.norms import conv_norm_bound, matrix_norm_bound
from lipscale.errors import LipscaleError
from lipscale.networks.network import LipschitzNetwork
from lipscale.store.files import atomic


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
                "padding_mode": layer.padding_mode,
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
    if not weight.isfinite().all():
        raise LipscaleError(f"export: the weights of a {entry['layer']} layer are not finite")
    divisor = norm_bound(weight, entry, side) or 1.0  # a weight of zeros stays as it is
    scaled = (weight / divisor).float()
    while (excess := norm_bound(scaled.double(), entry, side)) > 1:
        divisor *= excess * (1 + 2.0**-26)
        scaled = (weight / divisor).float()
    return scaled


def norm_bound(weight: torch.Tensor, entry: dict, side: int) -> float:
    """A guaranteed upper bound on the l2 norm of a dense or convolutional layer at input size `side`, in pixels."""
    if entry["layer"] == "dense":
        return matrix_norm_bound(weight)
    stride, padding = (entry["stride"],) * 2, (entry["padding"],) * 2
    return conv_norm_bound(weight, (side, side), stride, padding, entry["padding_mode"])


def from_modules(network: nn.Sequential, image_shape: Sequence[int], lipschitz: float | None = None) -> PlainNetwork:
    """A frozen copy of a network of your own, in float32, for `save` and `python -m lipscale certify`.

    Args:
        network: modules of the types in `lipscale.certification.layers.KINDS`, in the order of their use.
        image_shape: (channels, height, width) of its images, pixels in [0, 1].
        lipschitz: an L that you enforce, if you do, since radii never rest on a smaller one; else it is the certified one.

    Raises:
        LipscaleError: a module is of another type (a subclass, parametrized weights) or has arguments nothing is proven for.
    """
    check_kinds(network)
    if lipschitz is not None and not lipschitz > 0:
        raise LipscaleError(f"the enforced L is {lipschitz}; allowed: a number above 0, or none")
    plain = PlainNetwork(_specification(network), math.inf, image_shape)
    try:
        plain.load_state_dict({name: tensor.detach().float().cpu() for name, tensor in network.state_dict().items()})
    except RuntimeError as error:
        raise LipscaleError(f"the network's tensors are not those of its layers: {' '.join(str(error).split())}") from None
    plain.lipschitz = plain.bounds().slope if lipschitz is None else float(lipschitz)
    return plain


def _specification(network: nn.Sequential, where: str = "") -> list[dict]:
    specification = []
    for position, layer in enumerate(network):
        name = kind_of(layer, f"{where}{position}")
        entry = {"layer": name} | {argument: getattr(layer, argument) for argument in KINDS[name].arguments}
        if name in ("dense", "conv"):
            entry["bias"] = layer.bias is not None
        if isinstance(layer, Residual):
            entry["branch"] = _specification(layer.branch, f"{where}{position}.")
        specification.append(entry)
    return specification


def save(network: PlainNetwork, path: str | Path) -> None:
    description = {"specification": network.specification, "lipschitz": network.lipschitz, "image_shape": network.image_shape}
    with atomic(path) as temporary:  # one key, as safetensors writes several in random order
        # not by save_file, which would let nobody but the owner read the file
        temporary.write_bytes(serialized(network.state_dict(), {"network": json.dumps(description)}))


def load(path: str | Path, device: str = "cpu") -> PlainNetwork:
    """Read a network that `save` wrote. Raises LipscaleError where the file is not such a network, whole and finite."""
    try:
        with safe_open(path, "pt", device=device) as file:
            description = json.loads((file.metadata() or {})["network"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        with torch.device("meta"):  # sizes may be absurd until they are found to be those of the tensors
            network = PlainNetwork(**description)
        network.load_state_dict(tensors, assign=True)
        _check_numbers(network)
    except Exception as error:  # broken bytes make json, safetensors and torch raise whatever they happen to run into
        raise LipscaleError(f"the model {path} cannot be read: {' '.join(str(error).split())}") from None
    return network.to(device).eval()


def _check_numbers(network: PlainNetwork) -> None:
    """Raises ValueError where numbers are of another kind than `save` writes."""
    scales = [layer.scale for layer in network.modules() if isinstance(layer, Scale)]
    if not (network.lipschitz >= 0 and all(map(math.isfinite, scales))):
        raise ValueError(f"L is {network.lipschitz} and the scales are {scales}; allowed: numbers")
    for name, tensor in network.state_dict().items():
        if tensor.dtype != torch.float32 or not tensor.isfinite().all():
            raise ValueError(f"{name} holds something other than finite float32 numbers")

"""The list of layers that a model file holds, read from the layers themselves."""

from torch import nn

from lipscale.certification.plain_layers import KINDS, Residual, kind_of
from lipscale.errors import LipscaleError


def specification_of(network: nn.Sequential, where: str = "") -> list[dict]:
    """What `PlainNetwork` builds these layers from. Raises LipscaleError where a layer is not in KINDS."""
    specification = []
    for position, layer in enumerate(network):
        name = kind_of(layer, f"{where}{position}")
        entry = {"layer": name} | {argument: getattr(layer, argument) for argument in KINDS[name].arguments}
        if name == "scale":
            entry["scale"] = _number(layer.scale, f"{where}{position}")
        if name in ("dense", "conv", "sll", "sll_conv"):
            entry["bias"] = layer.bias is not None
        if isinstance(layer, Residual):
            entry["branch"] = specification_of(layer.branch, f"{where}{position}.")
        specification.append(entry)
    return specification


def _number(scale: object, where: str) -> float:
    try:
        return float(scale)
    except (TypeError, ValueError, RuntimeError):
        raise LipscaleError(f"layer {where} (scale) has the scale {scale!r}; allowed: a number") from None

"""Networks of your own as plain layers.

What is accepted, in (nested) nn.Sequential:

    Linear, Conv2d      also with parametrized weights: orthogonium's OrthoLinear, AdaptiveOrthoConv2d and AOLConv2D, torch's
                        parametrizations.orthogonal and spectral_norm, deel-torchlip's SpectralLinear and SpectralConv2d, before
                        or after vanilla_export(). Zero or circular padding, "same" where the kernel is odd
    MaxMin              of orthogonium or lipscale, which pairs halves of the channels
    GroupSort2          of deel-torchlip or lipscale, which pairs neighbours
    ReLU, Flatten, AvgPool2d and MaxPool2d with stride = kernel_size, ScaledAvgPool2d of deel-torchlip
    Identity, Dropout   are left out, since they do nothing in evaluation
    Centre, Scale, Residual of lipscale; the branch of a Residual begins with no activation in place

The weights are those that the network has in evaluation mode, never scaled. The copy is then compared with the network on
random images; a difference beyond rounding is an error.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from lipscale.certification.additions import check_additions
from lipscale.certification.bounds import bounds
from lipscale.certification.comparison import check_same_function, unwrapped
from lipscale.certification.plain_layers import (
    KIND_OF,
    Centre,
    GroupSort2,
    PlainNetwork,
    Residual,
    Scale,
    kind_of,
)
from lipscale.certification.specification import specification_of
from lipscale.errors import LipscaleError
from lipscale.networks.families.base import plain

ALLOWED = (
    "Linear and Conv2d (parametrized ones too), MaxMin of orthogonium or lipscale, GroupSort2, ReLU, Flatten, AvgPool2d, "
    "MaxPool2d, Identity, Dropout, Sequential, and Centre, Scale and Residual of lipscale"
)
DO_NOTHING = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)  # fmt: skip  (in evaluation mode)
CALLS = ("__call__", "_call_impl", "_wrapped_call_impl")  # what runs a module's forward
LIBRARIES = {"torch": "torch", "orthogonium": "orthogonium", "deel": "deel-torchlip", "lipscale": "lipscale"}


def from_modules(network: nn.Module, image_shape: Sequence[int], lipschitz: float | None = None) -> PlainNetwork:
    """A copy with fixed weights of a network of your own, on the CPU, in float32. Its function is that of the network.

    Args:
        network: an nn.Sequential of the layers above, in the order of their use.
        image_shape: (channels, height, width) of its images, pixels in [0, 1].
        lipschitz: the L that you enforce, if you do. The copy's L is this or the certified constant, whichever is larger.

    Raises:
        LipscaleError: a layer has no proof, or the copy computes something else than the network.
    """
    if lipschitz is not None and not lipschitz > 0:
        raise LipscaleError(f"export: the enforced L is {lipschitz}; allowed: a number above 0, or none")
    if not isinstance(network, nn.Sequential):
        raise LipscaleError(
            f"the network is {_name(network)}; allowed: torch.nn.Sequential. Pass the Sequential inside, and write a factor as "
            "a lipscale.Scale at its end"
        )
    check_additions(network)
    fixed = unwrapped(network)
    layers = nn.Sequential(*_plain_layers(fixed, ""))
    copy = PlainNetwork(specification_of(layers), math.inf, image_shape)
    try:
        copy.load_state_dict({name: tensor.detach().float() for name, tensor in layers.state_dict().items()})
    except RuntimeError as error:  # weights of another shape than their layer says
        raise LipscaleError(f"export: {' '.join(str(error).split())}") from None
    copy.lipschitz = max(bounds(copy, copy.image_shape).slope, float(lipschitz or 0.0))
    check_same_function(network, fixed, copy)
    return copy.eval()


def _plain_layers(network: nn.Sequential, where: str) -> list[nn.Module]:
    """The layers that compute what `network` does, nested ones in one list."""
    if not _inherits(network, nn.Sequential, "forward", "__iter__", *CALLS):
        place = f"layer {where.rstrip('.')}" if where else "the network"
        raise LipscaleError(f"{place} is {_name(network)}, with a forward of its own; allowed: torch.nn.Sequential")
    layers = []
    for name, layer in network._modules.items():  # named_children would leave out a module that is used twice
        layers += _converted(layer, f"{where}{name}")
    return layers


def _converted(layer: nn.Module, where: str) -> list[nn.Module]:
    if isinstance(layer, nn.Sequential):
        return _plain_layers(layer, f"{where}.")
    if type(layer) in DO_NOTHING:
        return []
    if isinstance(layer, nn.Linear) and _inherits(layer, nn.Linear, "forward", *CALLS):
        return [_fixed(layer, where)]
    if isinstance(layer, nn.Conv2d) and _is_plain_convolution(layer):
        copy = _fixed(layer, where)
        copy.padding = _padding(layer, where)
        return [copy]
    if type(layer) is nn.ReLU:
        return [nn.ReLU()]
    if type(layer) is Residual:
        return [_residual(layer, where)]
    if _is_of_torchlip(layer, "GroupSort2", "GroupSort") and layer.group_size == 2:
        return _scaled(GroupSort2(), layer._coefficient_lip)
    if _is_of_torchlip(layer, "ScaledAvgPool2d"):
        pool = nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding, layer.ceil_mode, True, layer.divisor_override)
        kind_of(pool, where)
        return _scaled(pool, layer._coefficient_lip * layer.scalingFactor)
    if type(layer) not in KIND_OF.keys() - {nn.Linear, nn.Conv2d}:
        raise LipscaleError(f"layer {where} is {_name(layer)}{_reason(layer)}; allowed: {ALLOWED}")
    kind_of(layer, where)
    _check_tensors(layer, where)
    return [layer]


def _residual(layer: Residual, where: str) -> Residual:
    if not isinstance(layer.branch, nn.Sequential):
        raise LipscaleError(f"the branch of layer {where} is {_name(layer.branch)}; allowed: torch.nn.Sequential")
    leaves = (module for module in layer.branch.modules() if not isinstance(module, (nn.Sequential, nn.Flatten, *DO_NOTHING)))
    if getattr(next(leaves, None), "inplace", False):
        raise LipscaleError(
            f"the branch of layer {where} begins with an activation in place, which changes the sum too; allowed: inplace=False"
        )
    return Residual(nn.Sequential(*_plain_layers(layer.branch, f"{where}.")))


def _fixed(layer: nn.Linear | nn.Conv2d, where: str) -> nn.Linear | nn.Conv2d:
    try:
        copy = plain(layer)
    except LipscaleError:
        raise
    except Exception as error:  # whatever properties of a subclass raise
        raise LipscaleError(
            f"layer {where} ({_name(layer)}) has a weight or bias that cannot be read ({type(error).__name__}: {error}); "
            "allowed: parameters, parametrized ones too"
        ) from None
    _check_tensors(copy, where)
    if isinstance(copy, nn.Conv2d) and copy.padding_mode not in ("zeros", "circular"):
        raise LipscaleError(f"layer {where} ({_name(layer)}) has padding_mode {copy.padding_mode!r}; allowed: zeros, circular")
    return copy


def _check_tensors(layer: nn.Module, where: str) -> None:
    for tensor in layer.state_dict().values():
        if tensor.dtype not in (torch.float32, torch.float64):
            raise LipscaleError(f"layer {where} ({_name(layer)}) has {tensor.dtype} weights; allowed: float32 and float64")
        if not tensor.isfinite().all():
            raise LipscaleError(f"layer {where} ({_name(layer)}) has weights that are not finite; allowed: numbers")
    if isinstance(layer, Centre) and layer.mean.shape != (layer.channels, 1, 1):
        raise LipscaleError(
            f"layer {where} (Centre) has a mean of shape {list(layer.mean.shape)}; allowed: {[layer.channels, 1, 1]}"
        )


def _padding(layer: nn.Conv2d, where: str) -> tuple[int, ...]:
    """`padding` as numbers."""
    if layer.padding == "valid":
        return (0, 0)
    if layer.padding != "same":
        return layer.padding
    if not all(side % 2 for side in layer.kernel_size):
        raise LipscaleError(
            f"layer {where} ({_name(layer)}) has padding 'same' and a kernel of {list(layer.kernel_size)}; allowed: odd ones, "
            "or numbers"
        )
    return tuple(side // 2 for side in layer.kernel_size)


def _is_plain_convolution(layer: nn.Conv2d) -> bool:
    """A convolution of torch, or of deel-torchlip without the symmetric padding that torch has not."""
    if not _inherits(layer, nn.Conv2d, "_conv_forward", *CALLS):
        return False
    forward = type(layer).forward
    of_torchlip = forward.__module__.startswith("deel.torchlip.") and forward.__qualname__ == "PadConv2d.forward"
    return forward is nn.Conv2d.forward or (of_torchlip and layer.old_padding_mode.lower() != "symmetric")


def _is_of_torchlip(layer: nn.Module, *names: str) -> bool:
    return type(layer).__module__.startswith("deel.torchlip.") and type(layer).__name__ in names


def _scaled(layer: nn.Module, factor: float) -> list[nn.Module]:
    return [layer] if factor == 1 else [layer, Scale(factor)]


def _inherits(module: nn.Module, base: type, *methods: str) -> bool:
    return all(getattr(type(module), method) is getattr(base, method) for method in methods)


def _name(module: nn.Module) -> str:
    library = LIBRARIES.get(type(module).__module__.partition(".")[0])
    return type(module).__name__ + (f" of {library}" if library else "")


def _reason(layer: nn.Module) -> str:
    """Why a layer that users of Lipschitz libraries know is refused."""
    if "Norm" in type(layer).__name__ and not _is_of_torchlip(layer, "ScaledL2NormPool2d"):
        return ", a normalisation, whose factor no proof bounds"
    if _is_of_torchlip(layer, "MaxMin"):
        return ", which has twice as many outputs as inputs"
    return ""

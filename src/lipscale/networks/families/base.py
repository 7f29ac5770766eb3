"""What layer families share.

A family is a module of this package with

    CONSTRAINED     True: each layer is 1-Lipschitz, up to rounding; False: layers have no constraint
    ORTHOGONAL      True: each layer has norm 1, up to rounding; read by `lipscale.certification.freezing`
    dense, conv     build a layer; arguments as for torch.nn.Linear and torch.nn.Conv2d
    plain           a copy of a layer with fixed weights, as torch.nn.Linear, torch.nn.Conv2d or a block of
                    `lipscale.networks.sll`
"""

import torch
from torch import nn

from lipscale.errors import LipscaleError


def plain(layer: nn.Linear | nn.Conv2d) -> nn.Linear | nn.Conv2d:
    """A copy of a layer that computes its weight from parameters, with that weight fixed; dtype and device stay.

    Random numbers are not drawn, so that a copy changes nothing that follows.

    Raises:
        LipscaleError: it is another layer, or its weight has another shape than the layer says.
    """
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise LipscaleError(
            f"{type(layer).__name__} has no plain copy; allowed: layers derived from torch.nn.Linear and Conv2d"
        )
    weight, bias = layer.weight.detach().clone(), None if layer.bias is None else layer.bias.detach().clone()
    with torch.device("meta"):
        if isinstance(layer, nn.Linear):
            copy = nn.Linear(layer.in_features, layer.out_features, bias is not None)
        else:
            copy = nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation,
                layer.groups, bias is not None, layer.padding_mode,
            )  # fmt: skip
    if weight.shape != copy.weight.shape:
        raise LipscaleError(
            f"{type(layer).__name__} has a weight of shape {list(weight.shape)}; allowed: {list(copy.weight.shape)}, as it says"
        )
    copy.weight = nn.Parameter(weight, requires_grad=False)
    copy.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
    return copy

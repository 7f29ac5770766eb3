"""Almost-orthogonal layers (AOL; Prach and Lampert, ECCV 2022, arXiv 2208.03160): 1-Lipschitz, and cheap.

The weight is W D with the diagonal matrix D_ii = (sum over j of |W^T W|_ij)^(-1/2); for a layer with more inputs than outputs
it is D W with rows in place of columns. Of a convolution D has one entry per channel, and W^T W is the kernel of W convolved
with itself; where patches do not overlap W is a matrix. A stride leaves out rows: the bound for stride 1 stays true.

The norm is at most 1, and below it where columns are not orthogonal, so that a network stays below its L. Exporting does not
scale such layers up: that would change the function.

orthogonium has these layers too. Its AOLConv2D computes the same for stride 1; it has no dense layer, and its bound for patches
that do not overlap is that of stride 1.
"""

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrize

from lipscale.networks.families import base

CONSTRAINED = True
ORTHOGONAL = False

plain = base.plain
_TINY = 1e-30  # columns without any weight stay 0


def dense(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    return rescaled(nn.Linear(in_features, out_features, bias))


def rescaled(layer: nn.Linear) -> nn.Linear:
    """The layer with a weight matrix of norm 1 at most."""
    nn.init.orthogonal_(layer.weight)
    parametrize.register_parametrization(layer, "weight", _Rescaled(overlapping=False))
    return layer


def conv(in_channels: int, out_channels: int, kernel_size: int, **arguments) -> nn.Conv2d:
    return rescaled_conv(nn.Conv2d(in_channels, out_channels, kernel_size, **arguments))


def rescaled_conv(layer: nn.Conv2d) -> nn.Conv2d:
    """The layer with a kernel whose convolution has norm 1 at most."""
    padded = any(2 * padding >= side for padding, side in zip(layer.padding, layer.kernel_size, strict=True))
    if layer.groups != 1 or layer.dilation != (1, 1) or padded:
        raise ValueError(f"an AOL layer {layer}; allowed: groups and dilation 1, padding less than half of the kernel")
    overlapping = layer.stride != layer.kernel_size or layer.padding != (0, 0)
    with torch.no_grad():
        if overlapping:  # an orthogonal matrix in the middle: norm 1 at the start
            middle = (..., *(side // 2 for side in layer.kernel_size))
            layer.weight.zero_()[middle] = nn.init.orthogonal_(torch.empty_like(layer.weight[middle]))
        else:
            nn.init.orthogonal_(layer.weight)
    parametrize.register_parametrization(layer, "weight", _Rescaled(overlapping))
    return layer


class _Rescaled(nn.Module):
    """The weight of an AOL layer from free parameters.

    Args:
        overlapping: whether patches of the input overlap; if not, and for dense layers, the weight is a matrix.
    """

    def __init__(self, overlapping: bool):
        super().__init__()
        self.overlapping = overlapping

    def forward(self, free: torch.Tensor) -> torch.Tensor:
        weight = free if self.overlapping else free.flatten(1)
        fewer = int(weight.shape[1] <= weight.shape[0])  # dimension whose entries are rescaled: inputs (1) or outputs (0)
        rows = weight.transpose(0, fewer)
        sums = _products(rows).abs().flatten(1).sum(1)
        return (rows * sums.clamp_min(_TINY).rsqrt().view(-1, *[1] * (rows.dim() - 1))).transpose(0, fewer).reshape(free.shape)


def _products(rows: torch.Tensor) -> torch.Tensor:
    """Inner products of rows: (n, m) to (n, n); of rows of kernels at each shift, (n, m, k, l) to (n, n, 2k - 1, 2l - 1)."""
    if rows.dim() == 2:
        return rows @ rows.T
    return functional.conv2d(rows, rows, padding=(rows.shape[2] - 1, rows.shape[3] - 1))

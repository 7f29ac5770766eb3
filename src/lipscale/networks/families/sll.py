"""SDP-based Lipschitz layers (SLL; Araujo, Havens, Delattre, Allauzen and Hu, ICLR 2023), 1-Lipschitz residual blocks.

A dense layer with as many outputs as inputs is h - 2 W^T ReLU(W h + b); a circular convolution that keeps the shape of its
input is h - 2 K^T ReLU(K h + b). W and K are the matrices of AOL layers, so ||W|| <= 1 and ||K|| <= 1; with that a block is
1-Lipschitz as a whole (proof: `lipscale.certification.bounds`). The diagonal matrix T of the paper is taken into W and b, as
T^(1/2) ReLU(v) = ReLU(T^(1/2) v). All other layers, strided ones among them, are those of `aol`.

orthogonium's SDPBasedLipschitzResBlock computes the same, with zeros around the image instead of circular padding.
"""

import torch
from torch import nn

from lipscale.networks.families import aol, base
from lipscale.networks.sll import SLL, SLLConv, sll, sll_conv

CONSTRAINED = True
ORTHOGONAL = False


class Block(nn.Linear):
    """h - 2 W^T ReLU(W h + b), W = `weight`."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return sll(hidden, self.weight, self.bias)


class ConvBlock(nn.Conv2d):
    """h - 2 K^T ReLU(K h + b), K the circular convolution by `weight`."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return sll_conv(hidden, self.weight, self.bias)


def dense(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    if in_features != out_features:
        return aol.dense(in_features, out_features, bias)
    return aol.rescaled(Block(in_features, out_features, bias))


def conv(in_channels: int, out_channels: int, kernel_size: int, **arguments) -> nn.Conv2d:
    with torch.device("meta"):
        layer = nn.Conv2d(in_channels, out_channels, kernel_size, **arguments)
    side = layer.kernel_size[0]
    keeps_shape = (
        side % 2 and layer.kernel_size == (side, side) and layer.padding == (side // 2,) * 2 and layer.stride == (1, 1)
    )
    if in_channels != out_channels or not keeps_shape or layer.padding_mode != "circular":
        return aol.conv(in_channels, out_channels, kernel_size, **arguments)
    return aol.rescaled_conv(ConvBlock(in_channels, out_channels, kernel_size, **arguments))


def plain(layer: nn.Module) -> nn.Linear | nn.Conv2d | SLL | SLLConv:
    copy = base.plain(layer)
    if not isinstance(layer, Block | ConvBlock):
        return copy
    with torch.device("meta"):
        if isinstance(layer, Block):
            block = SLL(layer.in_features, layer.bias is not None)
        else:
            block = SLLConv(layer.in_channels, layer.kernel_size[0], layer.bias is not None)
    block.weight, block.bias = copy.weight, copy.bias
    return block

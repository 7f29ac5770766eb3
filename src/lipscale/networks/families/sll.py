"""SDP-based Lipschitz layers (SLL; Araujo, Havens, Delattre, Allauzen and Hu, ICLR 2023), 1-Lipschitz residual blocks.

A dense layer with as many outputs as inputs is h - 2 W^T ReLU(W h + b). W is the matrix of an AOL layer, so ||W|| <= 1; with
that the block is 1-Lipschitz as a whole (proof: `lipscale.certification.bounds`). The diagonal matrix T of the paper is taken
into W and b, as T^(1/2) ReLU(v) = ReLU(T^(1/2) v). Other dense layers, and convolutions, are those of `aol`.
"""

import torch
from torch import nn

from lipscale.networks.families import aol, base
from lipscale.networks.sll import SLL, sll

CONSTRAINED = True
ORTHOGONAL = False

conv = aol.conv


class Block(nn.Linear):
    """h - 2 W^T ReLU(W h + b), W = `weight`."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return sll(hidden, self.weight, self.bias)


def dense(in_features: int, out_features: int, bias: bool = True) -> nn.Linear:
    if in_features != out_features:
        return aol.dense(in_features, out_features, bias)
    return aol.rescaled(Block(in_features, out_features, bias))


def plain(layer: nn.Module) -> nn.Linear | nn.Conv2d | SLL:
    copy = base.plain(layer)
    if not isinstance(layer, Block):
        return copy
    with torch.device("meta"):
        block = SLL(layer.in_features, layer.bias is not None)
    block.weight, block.bias = copy.weight, copy.bias
    return block

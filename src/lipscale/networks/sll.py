"""A residual block that is 1-Lipschitz as a whole; `lipscale.certification.bounds` has the proof."""

import torch
from torch import nn
from torch.nn import functional


def sll(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """h - 2 W^T ReLU(W h + b)."""
    return hidden - 2 * functional.linear(functional.linear(hidden, weight, bias).relu(), weight.T)


class SLL(nn.Module):
    """h - 2 W^T ReLU(W h + b), which is 1-Lipschitz as a whole where ||W|| <= 1."""

    def __init__(self, features: int, bias: bool = True):
        super().__init__()
        self.features = features
        self.weight = nn.Parameter(torch.empty(features, features))
        self.bias = nn.Parameter(torch.zeros(features)) if bias else None
        nn.init.orthogonal_(self.weight)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return sll(hidden, self.weight, self.bias)

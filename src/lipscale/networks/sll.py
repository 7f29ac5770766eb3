"""Residual blocks that are 1-Lipschitz as a whole; `lipscale.certification.bounds` has the proof."""

import torch
from torch import nn
from torch.nn import functional

from lipscale.networks.circular import padded


def sll(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """h - 2 W^T ReLU(W h + b)."""
    return hidden - 2 * functional.linear(functional.linear(hidden, weight, bias).relu(), weight.T)


def sll_conv(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """h - 2 K^T ReLU(K h + b), K a circular convolution of stride 1.

    K^T has the kernel with its channels exchanged and its taps reversed: (K h)[u] = sum over taps t of w[t] h[u + t - p], p the
    padding on each side, so that (K^T g)[v] = sum over t of w[t]^T g[v - t + p] = sum over t of w[2 p - t]^T g[v + t - p].

    Args:
        hidden: (B, C, H, W).
        weight: (C, C, 2 p + 1, 2 p + 1) with p <= H, W.
        bias: (C,), or none.
    """
    padding = [side // 2 for side in weight.shape[2:]]
    inner = functional.conv2d(padded(hidden, *padding), weight, bias).relu()
    back = 2 * weight.transpose(0, 1).flip(2, 3)  # exactly twice: the outputs, which are more numbers, are the same
    return hidden - functional.conv2d(padded(inner, *padding), back)


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


class SLLConv(nn.Module):
    """h - 2 K^T ReLU(K h + b), K a circular convolution, which is 1-Lipschitz as a whole where ||K|| <= 1.

    Args:
        channels: of input and output.
        kernel_size: the side of the kernel, an odd number; half of it is padded on each side, so that sizes stay.
    """

    def __init__(self, channels: int, kernel_size: int, bias: bool = True):
        super().__init__()
        self.channels = channels
        self.kernel_size = kernel_size
        self.weight = nn.Parameter(torch.zeros(channels, channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(channels)) if bias else None
        with torch.no_grad():
            nn.init.orthogonal_(self.weight[..., kernel_size // 2, kernel_size // 2])

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return sll_conv(hidden, self.weight, self.bias)

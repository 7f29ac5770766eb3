"""The plain layers that torch has not."""

import torch
from torch import nn


class Centre(nn.Module):
    """x - mean, one value per channel."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.zeros(channels, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images - self.mean


class Scale(nn.Module):
    """sigma x. A network of 1-Lipschitz layers with a Scale behind has L = sigma, which LiST can set: `network[-1].scale = L`.

    sigma is a plain attribute in float64, since the product of all sigma must not exceed L.
    """

    def __init__(self, scale: float):
        super().__init__()
        self.scale = float(scale)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.scale * hidden


class GroupSort2(nn.Module):
    """Each pair of neighbouring channels, 2i and 2i + 1, sorted: the smaller first.

    This is what GroupSort2 of deel-torchlip computes. MaxMin pairs channel i with channel i + channels / 2 instead.
    """

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        pairs = hidden.unflatten(1, (-1, 2))
        return torch.stack((pairs.amin(2), pairs.amax(2)), 2).flatten(1, 2)


class Residual(nn.Module):
    """x + branch(x)."""

    def __init__(self, branch: nn.Sequential):
        super().__init__()
        self.branch = branch

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.branch(hidden)

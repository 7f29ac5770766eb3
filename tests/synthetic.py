"""Small frozen networks with random orthogonal weights, and images for them: no training, no files."""

import numpy as np
import torch
from pyautoattack import AutoAttack

from lipscale.attacks import at_own_radius, autoattack
from lipscale.certification.plain_layers import PlainNetwork

SHAPE = (1, 8, 8)


def network(classes: int = 6, lipschitz: float = 4.0, seed: int = 0) -> PlainNetwork:
    """64 pixels, dense layer of 32, MaxMin, logits: orthogonal rows of norms 0.5 to 1, so that pair radii are nearly tight."""
    generator = torch.Generator().manual_seed(seed)
    specification = [
        {"layer": "flatten"},
        {"layer": "dense", "in_features": 64, "out_features": 32, "bias": True},
        {"layer": "maxmin"},
        {"layer": "dense", "in_features": 32, "out_features": classes, "bias": False},
        {"layer": "scale", "scale": lipschitz},
    ]
    plain = PlainNetwork(specification, lipschitz, SHAPE)
    for layer in (plain[1], plain[3]):
        torch.nn.init.orthogonal_(layer.weight, generator=generator)
    plain[3].weight.mul_(torch.linspace(0.5, 1, classes)[:, None])
    torch.nn.init.normal_(plain[1].bias, std=0.1, generator=generator)
    return plain.eval()


def images(count: int, seed: int = 0) -> np.ndarray:
    """uint8 noise, (count, 1, 8, 8), away from the ends of the pixel range."""
    return np.random.default_rng(seed).integers(64, 192, (count, *SHAPE), dtype=np.uint8)


class FewQueries(AutoAttack):
    """AutoAttack whose Square asks 250 times, not 5000: it is most of the time that a small network takes."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.square.n_queries = 250


def ask_less(monkeypatch) -> None:
    monkeypatch.setattr(autoattack, "AutoAttack", FewQueries)
    monkeypatch.setattr(at_own_radius, "AutoAttack", FewQueries)

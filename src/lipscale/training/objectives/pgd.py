"""Adversarial training, l2: the cross-entropy at points that projected gradient ascent found.

Madry et al., ICLR 2018; random start and steps in l2 as in Rice, Wong and Kolter, "Overfitting in adversarially robust deep
learning", ICML 2020.
"""

from functools import partial
from typing import Literal

from pydantic import Field

from lipscale.training.objectives.base import AdversarialSettings


class Settings(AdversarialSettings):
    """PGD-AT."""

    name: Literal["pgd"] = Field("pgd", description="PGD-AT: cross-entropy of perturbed images, l2")

    @property
    def passes(self) -> int:
        return self.steps + 1


def loss(forward, images, labels, settings: Settings, lipschitz: float):
    """Mean over a batch; arguments as for `cross_entropy.loss`."""
    from torch.nn.functional import cross_entropy

    from lipscale.training.adversarial import Ball, ascend
    from lipscale.training.precision import orthogonalised_once

    ball = Ball.of(images, settings)
    with orthogonalised_once():
        points = ascend(forward, partial(cross_entropy, target=labels, reduction="none"), ball.random_point(), ball)
        return cross_entropy(forward(points), labels)

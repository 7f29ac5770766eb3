"""TRADES, l2: the cross-entropy plus beta KL(p(x) || p(x')), with x' in the ball around x that maximises the divergence.

Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy", ICML 2019. As there, the gradient flows
through both p(x) and p(x'), and x' starts beside x, since the divergence has no gradient at x itself.
"""

from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from lipscale.settings import NonNegativeNumber, Positive
from lipscale.training.objectives.base import AdversarialSettings

START = 0.001  # standard deviation of the noise that x' starts with, pixels


class Settings(AdversarialSettings):
    """TRADES."""

    TAKES_OFFSET: ClassVar[bool] = False
    name: Literal["trades"] = Field("trades", description="TRADES: cross-entropy plus a divergence of perturbed images, l2")
    relative_step: Positive = Field(2, description="length of a gradient step, in units of epsilon / steps")
    beta: NonNegativeNumber = Field(6, description="weight of the divergence; 0: cross-entropy")

    @property
    def passes(self) -> int:
        return self.steps + 2


def loss(forward, images, labels, settings: Settings, lipschitz: float):
    """Mean over a batch; arguments as for `cross_entropy.loss`."""
    from torch.nn.functional import cross_entropy

    from lipscale.training.adversarial import Ball, ascend
    from lipscale.training.precision import orthogonalised_once
    from lipscale.training.shares import normal_like

    ball = Ball.of(images, settings)
    with orthogonalised_once():
        logits = forward(images)
        start = ball.project(images + START * normal_like(images))
        points = ascend(forward, partial(divergence, logits.detach()), start, ball)
        return cross_entropy(logits, labels) + settings.beta * divergence(logits, forward(points)).mean()


def divergence(logits, others):
    """KL(softmax(logits) || softmax(others)) of each image, (B,)."""
    from torch.nn.functional import kl_div

    return kl_div(others.log_softmax(1), logits.log_softmax(1), reduction="none", log_target=True).sum(1)

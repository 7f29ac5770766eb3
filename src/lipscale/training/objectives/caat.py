"""Calibration attack adversarial training (CAAT), l2: CE(f(x_under), y) + CE(f(x_over), y).

x_under and x_over follow the normalised gradient of the cross-entropy from x, up and down. A step is kept only where the
predicted class stays that of x. Obadinma, Zhu and Guo, "Calibration Attacks", arXiv 2401.02718, do this in l-infinity.
"""

from functools import partial
from typing import ClassVar, Literal

from pydantic import Field

from lipscale.training.objectives.base import AdversarialSettings


class Settings(AdversarialSettings):
    """CAAT."""

    TAKES_OFFSET: ClassVar[bool] = False
    name: Literal["caat"] = Field(
        "caat", description="CAAT: cross-entropy of images perturbed towards too little and too much confidence, l2"
    )

    @property
    def passes(self) -> int:
        return 2 * self.steps + 2


def loss(forward, images, labels, settings: Settings, lipschitz: float):
    """Mean over a batch; arguments as for `cross_entropy.loss`."""
    from torch.nn.functional import cross_entropy

    from lipscale.training.precision import orthogonalised_once

    with orthogonalised_once():
        points = calibration_attack(forward, images, labels, settings)
        return 2 * cross_entropy(forward(points), labels.repeat(2))  # the mean over both halves, twice


def calibration_attack(forward, images, labels, settings: Settings):
    """x_under of each image, then x_over of each image: (2 B, C, H, W), without gradient."""
    import torch
    from torch.nn.functional import cross_entropy

    from lipscale.training.adversarial import Ball, gradient_and_logits

    gradient, logits = gradient_and_logits(forward, partial(cross_entropy, target=labels, reduction="none"), images)
    predicted, gradient = logits.argmax(1).repeat(2), torch.cat([gradient, gradient])
    sign = torch.ones_like(gradient[:, :1, :1, :1])
    sign[len(images) :] = -1
    losses = partial(cross_entropy, target=labels.repeat(2), reduction="none")
    points = torch.cat([images, images])
    ball = Ball.of(points, settings)
    for _ in range(settings.steps):
        candidates = ball.step(points, sign * gradient)
        found, logits = gradient_and_logits(forward, losses, candidates)
        kept = (logits.argmax(1) == predicted)[:, None, None, None]
        points, gradient = torch.where(kept, candidates, points), torch.where(kept, found, gradient)
    return points

"""Focal loss: -(1 - p_y)^gamma log p_y. With gamma = 0 it is the cross-entropy.

Lin, Goyal, Girshick, He and Dollar, ICCV 2017; for calibration: Mukhoti et al., "Calibrating Deep Neural Networks using
Focal Loss", NeurIPS 2020.
"""

from typing import ClassVar, Literal

from pydantic import Field

from lipscale.settings import NonNegativeNumber
from lipscale.training.objectives.base import ObjectiveSettings


class Settings(ObjectiveSettings):
    """Focal loss."""

    IN_TAG: ClassVar[tuple[str, ...]] = ("gamma",)
    name: Literal["focal"] = Field("focal", description="focal loss, -(1 - p)^gamma log p of the label's probability p")
    gamma: NonNegativeNumber = Field(3, description="how strongly confident images count less; 0: cross-entropy")


def loss(forward, images, labels, settings: Settings, lipschitz: float):
    """Mean over a batch; arguments as for `cross_entropy.loss`."""
    return focal_losses(forward(images), labels, settings.gamma).mean()


def focal_losses(logits, labels, gamma):
    """Focal loss of each image, (B,).

    1 - p_y is taken from the logits of the other classes, so that it is exact, and gradients are finite, where p_y rounds to 1.

    Args:
        logits: (B, classes).
        labels: (B,).
        gamma: a number, or one for each image, (B,), through which no gradient flows.
    """
    log_right = logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    others = logits.scatter(1, labels[:, None], -float("inf"))
    log_wrong = others.logsumexp(1) - logits.logsumexp(1)  # log(1 - p_y)
    return -(gamma * log_wrong).exp() * log_right

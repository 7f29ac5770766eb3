"""Sample-dependent focal loss, FLSD-53: focal loss with gamma 5 where p_y < 0.2, and 3 elsewhere.

Mukhoti et al., "Calibrating Deep Neural Networks using Focal Loss", NeurIPS 2020.
"""

from typing import Literal

from pydantic import Field

from lipscale.training.objectives.base import ObjectiveSettings

THRESHOLD, GAMMA_BELOW, GAMMA_ABOVE = 0.2, 5.0, 3.0


class Settings(ObjectiveSettings):
    """FLSD-53."""

    name: Literal["flsd"] = Field("flsd", description="FLSD-53: focal loss, gamma 5 for probabilities below 0.2, else 3")


def loss(forward, images, labels, settings: Settings, lipschitz: float):
    """Mean over a batch; arguments as for `cross_entropy.loss`."""
    import torch

    from lipscale.training.objectives.focal import focal_losses

    logits = forward(images)
    right = logits.detach().softmax(1).gather(1, labels[:, None])[:, 0]
    gamma = torch.where(right < THRESHOLD, GAMMA_BELOW, GAMMA_ABOVE)
    return focal_losses(logits, labels, gamma).mean()

"""Brier score: sum over classes k of (p_k - 1[k = y])^2.

Brier, Monthly Weather Review 1950; as a training loss: Mukhoti et al., NeurIPS 2020.
"""

from typing import Literal

from pydantic import Field

from lipscale.training.objectives.base import ObjectiveSettings


class Settings(ObjectiveSettings):
    """Brier score."""

    name: Literal["brier"] = Field("brier", description="squared distance of the probabilities from the one-hot label")


def loss(forward, images, labels, settings: Settings, lipschitz: float):
    """Mean over a batch; arguments as for `cross_entropy.loss`."""
    from torch.nn.functional import one_hot

    probabilities = forward(images).softmax(1)
    return (probabilities - one_hot(labels, probabilities.shape[1])).square().sum(1).mean()

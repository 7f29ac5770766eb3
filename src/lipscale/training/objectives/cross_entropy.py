"""Cross-entropy of the labels."""

from typing import Literal

from lipscale.training.objectives.base import ObjectiveSettings


class Settings(ObjectiveSettings):
    """No settings."""

    name: Literal["cross_entropy"] = "cross_entropy"


def loss(forward, images, labels, settings: Settings, lipschitz: float):
    """Mean cross-entropy over a batch, a scalar tensor.

    Args:
        forward: computes logits (B, classes) of images.
        images: (B, C, H, W), pixels in [0, 1].
        labels: (B,).
        lipschitz: the L of the network now; infinite without constraint.
    """
    from torch.nn.functional import cross_entropy  # here, since configs are read where torch is not installed

    return cross_entropy(forward(images), labels)

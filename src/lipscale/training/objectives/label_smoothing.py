"""Cross-entropy of smoothed labels: the target is (1 - alpha) e_y + alpha / K over K classes.

Szegedy, Vanhoucke, Ioffe, Shlens and Wojna, "Rethinking the Inception Architecture", CVPR 2016.
"""

from typing import Annotated, Literal

from pydantic import Field

from lipscale.settings import AsNumber
from lipscale.training.objectives.base import ObjectiveSettings


class Settings(ObjectiveSettings):
    """Label smoothing."""

    name: Literal["label_smoothing"] = Field("label_smoothing", description="cross-entropy of smoothed labels")
    alpha: Annotated[float, Field(ge=0, lt=1), AsNumber] = Field(
        0.05, description="share of the target that is spread over all classes"
    )


def loss(forward, images, labels, settings: Settings, lipschitz: float):
    """Mean over a batch; arguments as for `cross_entropy.loss`."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(forward(images), labels, label_smoothing=settings.alpha)

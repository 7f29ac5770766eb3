"""What objectives share.

An objective is a module of this package with

    Settings   an `ObjectiveSettings`: its name and numbers, checked without importing torch
    loss       (forward, images, labels, settings, lipschitz) -> mean loss of a batch, see `cross_entropy`
"""

import re
from typing import ClassVar

from pydantic import Field

from lipscale.settings import Count, Positive, Settings


class ObjectiveSettings(Settings):
    """Base of the `Settings` of an objective.

    Attributes:
        name: that of the module.
        TAKES_OFFSET: whether `training.offset` may be applied: `forward` then gives logits from which it is subtracted, so the
            batch must keep its order and length.
        IN_TAG: the settings whose values the tag always has; others are in it where they differ from their default.
    """

    TAKES_OFFSET: ClassVar[bool] = True
    IN_TAG: ClassVar[tuple[str, ...]] = ()
    name: str

    @property
    def tag(self) -> str:
        """For names of runs, only letters, digits and underscores: `pgd36`, `pgd36_steps20`, `label_smoothing_alpha0p1`."""
        shown = "".join(_text(getattr(self, key)) for key in self.IN_TAG)
        others = {key: field.default for key, field in type(self).model_fields.items() if key not in ("name", *self.IN_TAG)}
        changed = [key + _text(getattr(self, key)) for key, default in others.items() if getattr(self, key) != default]
        return "_".join([_text(self.name) + shown, *changed])

    @property
    def passes(self) -> int:
        """About how many forward and backward passes of a batch one training step takes."""
        return 1


class AdversarialSettings(ObjectiveSettings):
    """Base of the `Settings` of an objective that perturbs images within an l2 ball."""

    IN_TAG: ClassVar[tuple[str, ...]] = ("epsilon",)
    epsilon: Count = Field(36, description="l2 radius of the perturbations, in 1/255 of the pixel range")
    steps: Count = Field(10, description="gradient steps of an attack")
    relative_step: Positive = Field(2.5, description="length of a gradient step, in units of epsilon / steps")


def _text(value: object) -> str:
    """A value as letters, digits and underscores; numbers to six digits."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = f"{value:g}".replace(".", "p").replace("-", "m").replace("+", "") if number else str(value)
    return re.sub(r"[^A-Za-z0-9]+", "_", text)

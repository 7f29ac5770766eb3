"""Ramp: L rises smoothly from a tenth of its final value over the first half of training, without feedback.

A control, as `replay`: L grows during training as that of LiST does, but nothing is measured.
"""

import math

from lipscale.method.methods.base import Method
from lipscale.settings import PositiveList

FIRST = 0.1  # share of the final L with which training starts
END = 0.5  # share of training after which L stays


def ramp(lipschitz: float, progress: float) -> float:
    """L after a share of training: log L rises along a half cosine from log(L / 10) to log L, then L stays.

    Args:
        lipschitz: the final L.
        progress: share of training that is done, in [0, 1].
    """
    if progress >= END:
        return lipschitz
    risen = (1 - math.cos(math.pi * progress / END)) / 2
    return lipschitz * FIRST ** (1 - risen)


METHOD = Method(
    name="ramp",
    title="ramp to",
    label="ramp to $L$",
    key="ramp_lipschitz",
    annotation=PositiveList | None,
    default=None,
    description="final L of the runs without feedback in which L rises from a tenth of it, along a half cosine in log L over "
    "the first half of training, logits per unit of pixel distance; null: no such runs",
    expand=lambda values: [(value, {}) for value in values or []],
    constrained=True,
    feedback=False,
    schedule=ramp,
    start="L",
    marker="^",
    order=4,
)

"""LiST: L <- L / T* after each measurement of T*."""

from lipscale.method.methods.base import Method
from lipscale.settings import PositiveList

METHOD = Method(
    name="list",
    title="LiST",
    label="LiST from $L_0$",
    key="list_initial_lipschitz",
    annotation=PositiveList,
    default=...,
    description="L0 of the LiST runs, logits per unit of pixel distance",
    expand=lambda values: [(value, {}) for value in values],
    constrained=True,
    feedback=True,
    start="L_0",
    marker="D",
    slanted=True,
    order=0,
)

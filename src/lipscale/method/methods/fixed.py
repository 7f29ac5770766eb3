"""Fixed L: the same network and training loop without feedback."""

from lipscale.method.methods.base import Method
from lipscale.settings import PositiveList

METHOD = Method(
    name="fixed",
    title="fixed",
    label="fixed $L$",
    key="fixed_lipschitz",
    annotation=PositiveList,
    default=...,
    description="L of the runs without feedback, logits per unit of pixel distance",
    expand=lambda values: [(value, {}) for value in values],
    constrained=True,
    feedback=False,
    start="L",
    marker="o",
    order=1,
)

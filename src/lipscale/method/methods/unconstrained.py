"""No constraint: the same layers without orthogonal weights, what a user would otherwise train. It certifies nothing."""

import math

from lipscale.method.methods.base import Method
from lipscale.settings import Positive

METHOD = Method(
    name="unconstrained",
    title="no constraint",
    label="no constraint",
    key="unconstrained_learning_rate",
    annotation=Positive | None,
    default=None,
    description="also train the same network without any constraint, with this learning rate; null: no such run",
    expand=lambda rate: [] if rate is None else [(math.inf, {"learning_rate": rate})],
    constrained=False,
    feedback=False,
    marker="s",
    order=2,
)

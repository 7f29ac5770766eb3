"""No constraint: the same layers without orthogonal weights, as a user would otherwise train. It has no certificates."""

import math

from lipscale.method.methods.base import Method
from lipscale.settings import PositiveOrNone

METHOD = Method(
    name="unconstrained",
    title="no constraint",
    label="no constraint",
    key="unconstrained_learning_rate",
    annotation=PositiveOrNone,
    default=None,
    description="also train the same network without constraint, with this learning rate; it is calibrated by temperature "
    "scaling after training and has no certificate; null: no such run",
    expand=lambda rate: [] if rate is None else [(math.inf, {"learning_rate": rate})],
    constrained=False,
    feedback=False,
    marker="s",
    order=2,
)

"""Orthogonal layers of orthogonium: OrthoLinear and AdaptiveOrthoConv2d (Boissin et al., arXiv 2501.07930).

Orthogonalisation is by Cholesky factors: cheaper a step than orthogonium's default (Bjorck), and without the state that power
iteration keeps, so that a network does not change by being evaluated. How far the layers are from orthogonal does not matter
for soundness, since exporting measures each norm and divides by it.
"""

from functools import partial

from orthogonium.layers import AdaptiveOrthoConv2d, OrthoLinear
from orthogonium.reparametrizers import CHOLESKY_STABLE_ORTHO_PARAMS

from lipscale.networks.families import base

CONSTRAINED = True
ORTHOGONAL = True

dense = partial(OrthoLinear, ortho_params=CHOLESKY_STABLE_ORTHO_PARAMS)
conv = partial(AdaptiveOrthoConv2d, ortho_params=CHOLESKY_STABLE_ORTHO_PARAMS)
plain = base.plain

"""Orthogonal layers by the Cayley transform (Trockman and Kolter, ICLR 2021, arXiv 2104.07167), in orthogonium's layers.

Matrices that are not square as in Wang and Manchester, ICML 2023.

For free numbers W of m rows and n <= m columns, U the first n rows and V the others, let A = U - U^T + V^T V. Then

    Q = [ (I - A) (I + A)^-1 ]      has orthonormal columns: Q^T Q = I.
        [   -2 V (I + A)^-1  ]

Proof. A = S + P with S skew and P = V^T V. So I + A is invertible, as x^T (I + A) x >= x^T x, and (I - A)^T (I - A) + 4 P =
I - 2 P + A^T A + 4 P = (I + A)^T (I + A). Multiply by (I + A)^-T and (I + A)^-1. With more columns than rows, W^T is taken.

A dense layer is that matrix, of norm 1. Convolutions are made of such matrices as in `orthogonal`, by AdaptiveOrthoConv2d.
"""

from functools import partial

import torch
from orthogonium.layers import AdaptiveOrthoConv2d, OrthoLinear
from orthogonium.reparametrizers import BatchedIdentity, OrthoParams
from torch import nn

from lipscale.networks.families import base

CONSTRAINED = True
ORTHOGONAL = False  # exporting never scales up what is below 1 by rounding


class Cayley(nn.Module):
    """Free matrices (..., m, n) to those of the formula above."""

    def __init__(self, weight_shape: tuple[int, ...]):
        super().__init__()
        self.weight_shape = weight_shape

    def forward(self, free: torch.Tensor) -> torch.Tensor:
        rows = free if free.shape[-2] >= free.shape[-1] else free.mT
        upper, lower = rows.split((rows.shape[-1], rows.shape[-2] - rows.shape[-1]), dim=-2)
        inner, identity = upper - upper.mT + lower.mT @ lower, torch.eye(rows.shape[-1]).to(rows)
        stacked = torch.cat((identity - inner, -2 * lower), dim=-2)
        found = torch.linalg.solve(identity + inner, stacked, left=False)
        return (found if rows is free else found.mT).reshape(self.weight_shape)


PARAMETERS = OrthoParams(spectral_normalizer=BatchedIdentity, orthogonalizer=Cayley)

dense = partial(OrthoLinear, ortho_params=PARAMETERS)
conv = partial(AdaptiveOrthoConv2d, ortho_params=PARAMETERS)
plain = base.plain

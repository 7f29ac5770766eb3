"""Block reflectors, the idea of BRO (Lai et al., ICML 2025, arXiv 2505.15174), in orthogonium's layers.

For free numbers V of m rows and r < m columns, of rank r,

    Q = I - 2 V (V^T V)^-1 V^T      is orthogonal: Q^T Q = I.

Proof. P = V (V^T V)^-1 V^T is the orthogonal projection onto the columns of V: P^T = P and P P = P. So Q^T Q = (I - 2 P)^2 =
I - 4 P + 4 P = I. A layer of n < m columns takes the first n of Q, which are orthonormal; one of more columns than rows is the
transpose of such a layer.

A dense layer is that matrix, of norm 1; V has half as many columns as rows, or n if that is fewer. (V^T V + 1e-5 I)^-1 is taken
for the inverse: eigenvalues -1 of Q become 1 - 2 d / (d + 1e-5), d an eigenvalue of V^T V, which lie between -1 and 1. So the
norm stays at most 1. Convolutions are made of such matrices as in `orthogonal`, by
AdaptiveOrthoConv2d; the paper's are made in the Fourier domain.
"""

from functools import partial

import torch
from orthogonium.layers import AdaptiveOrthoConv2d, OrthoLinear
from orthogonium.reparametrizers import BatchedIdentity, OrthoParams
from torch import nn

from lipscale.networks.families import base

CONSTRAINED = True
ORTHOGONAL = False  # exporting never scales up what is below 1 by rounding
RIDGE = 1e-5


class BlockReflector(nn.Module):
    """Free matrices (..., m, n) to those of the formula above."""

    def __init__(self, weight_shape: tuple[int, ...]):
        super().__init__()
        self.weight_shape = weight_shape

    def forward(self, free: torch.Tensor) -> torch.Tensor:
        rows = free if free.shape[-2] >= free.shape[-1] else free.mT
        height, width = rows.shape[-2:]
        vectors = rows[..., : max(1, min(width, height // 2))]
        inner = vectors.mT @ vectors + RIDGE * torch.eye(vectors.shape[-1]).to(rows)
        projected = torch.linalg.solve(inner, vectors.mT[..., :width])
        found = torch.eye(height, width).to(rows) - 2 * vectors @ projected
        return (found if rows is free else found.mT).reshape(self.weight_shape)


PARAMETERS = OrthoParams(spectral_normalizer=BatchedIdentity, orthogonalizer=BlockReflector)

dense = partial(OrthoLinear, ortho_params=PARAMETERS)
conv = partial(AdaptiveOrthoConv2d, ortho_params=PARAMETERS)
plain = base.plain

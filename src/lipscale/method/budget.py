"""The Lipschitz budget: how the constant L of a network is shared among its layers.

Layer k is phi_k = sigma_k g_k with g_k 1-Lipschitz and sigma_k = L ** alpha_k. The exponents alpha_k come from learnable
weights w and sum to 1, so that the product of the sigma_k is L.

Two sentences on the poster do not follow from its formula alpha = softmax(w): "sum alpha_k = L_t" (the exponents sum to 1,
and it is the product of the sigma_k that is L_t) and "expansive alpha_k > 1 while others are contractive" (softmax keeps
every alpha_k in (0, 1), so all sigma_k lie on the same side of 1). `unconfined` delivers the second.
"""

import math

import torch
from torch import nn

from lipscale.errors import LipscaleError


def softmax_exponents(weights: torch.Tensor) -> torch.Tensor:
    """alpha = softmax(w): each exponent in (0, 1), sum 1."""
    return weights.softmax(0)


def unconfined_exponents(weights: torch.Tensor) -> torch.Tensor:
    """alpha = 1/n + w - mean(w): sum 1, any sign; some layers may expand (alpha > 1) while others contract."""
    return 1 / len(weights) + weights - weights.mean()


ALLOCATIONS = {"softmax": softmax_exponents, "unconfined": unconfined_exponents}


class LipschitzBudget(nn.Module):
    """The scales sigma_k of n layers, whose product is `lipschitz`.

    Args:
        layers: n.
        lipschitz: the first L, greater than 0.
        allocation: a key of ALLOCATIONS.

    Raises:
        LipscaleError: L is not a finite number above 0, or there is no such allocation.
    """

    def __init__(self, layers: int, lipschitz: float, allocation: str = "softmax"):
        super().__init__()
        if allocation not in ALLOCATIONS:
            raise LipscaleError(f"the allocation is {allocation!r}; allowed: {', '.join(ALLOCATIONS)}")
        self.allocation = ALLOCATIONS[allocation]
        self.weights = nn.Parameter(torch.zeros(layers))
        self.register_buffer("_log_lipschitz", torch.zeros((), dtype=torch.float64))
        self.register_buffer("_lipschitz", torch.zeros((), dtype=torch.float64))
        self.lipschitz = lipschitz

    @property
    def lipschitz(self) -> float:
        """L, the l2 Lipschitz constant that the scales multiply up to."""
        return self._lipschitz.item()

    @lipschitz.setter
    def lipschitz(self, value: float) -> None:
        if not 0 < value < math.inf:
            raise LipscaleError(f"lipschitz is {value}; allowed: a finite number greater than 0")
        self._lipschitz.fill_(value)
        self._log_lipschitz.copy_(self._lipschitz.log())

    def exponents(self) -> torch.Tensor:
        """alpha, float64, shape (layers,)."""
        return self.allocation(self.weights.double())

    def scales(self) -> torch.Tensor:
        """sigma_k = L ** alpha_k, float64, shape (layers,)."""
        return torch.exp(self._log_lipschitz * self.exponents())


class Unlimited(nn.Module):
    """No budget, for layers without a constraint: `lipschitz` is infinite, all scales are 1 and all exponents 0."""

    lipschitz = math.inf

    def __init__(self, layers: int):
        super().__init__()
        self.layers = layers

    def exponents(self) -> torch.Tensor:
        return torch.zeros(self.layers, dtype=torch.float64)

    def scales(self) -> torch.Tensor:
        return torch.ones(self.layers, dtype=torch.float64)

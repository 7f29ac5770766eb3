import math

import pytest
import torch

from lipscale.errors import LipscaleError
from lipscale.method.budget import ALLOCATIONS, LipschitzBudget

U = 2.0**-53


def random_budget(allocation: str, lipschitz: float, layers: int = 7) -> LipschitzBudget:
    budget = LipschitzBudget(layers, lipschitz, allocation)
    torch.manual_seed(0)
    torch.nn.init.normal_(budget.weights)
    return budget


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("lipschitz", [1e-4, 0.3, 1.0, 17.0, 1e5])
def test_product_of_scales_is_lipschitz(allocation, lipschitz):
    budget = random_budget(allocation, lipschitz)
    # log L, alpha and exp are each right to a few units in the last place; |alpha_k| < 4 here, and errors of 7 layers add up
    allowance = 7 * 8 * 4 * (1 + abs(math.log(lipschitz))) * U
    assert math.prod(budget.scales().tolist()) == pytest.approx(lipschitz, rel=allowance)
    assert math.fsum(budget.exponents().tolist()) == pytest.approx(1, abs=7 * 8 * U)


def test_softmax_keeps_all_scales_on_one_side_of_one():
    """The poster's formula: exponents in (0, 1), so no layer expands while another contracts."""
    for lipschitz in (0.1, 10.0):
        budget = random_budget("softmax", lipschitz)
        assert all(0 < exponent < 1 for exponent in budget.exponents())
        assert len({scale > 1 for scale in budget.scales().tolist()}) == 1


def test_unconfined_lets_some_layers_expand_while_others_contract():
    exponents = random_budget("unconfined", 10.0).exponents()
    assert exponents.min() < 0
    assert exponents.max() > 1


def test_first_scales_are_equal():
    assert LipschitzBudget(4, 16.0).scales().tolist() == pytest.approx([2.0] * 4, rel=1e-15)


@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_impossible_lipschitz_is_refused(value):
    with pytest.raises(LipscaleError, match="greater than 0"):
        LipschitzBudget(3, value)


def test_unknown_allocation_is_refused():
    with pytest.raises(LipscaleError, match="'equal'; allowed: softmax, unconfined"):
        LipschitzBudget(3, 1.0, "equal")

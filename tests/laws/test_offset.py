"""The offset: its loss is the worst case over what a Lipschitz constant allows."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from lipscale.errors import LipscaleError
from lipscale.method.offset import logit_offset, offset_logits


def random_logits(classes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(16, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (16,), generator=generator)


@settings(deadline=None, max_examples=50)
@given(st.integers(2, 10), st.integers(0, 1000), st.floats(0.1, 50), st.integers(0, 255))
def test_loss_is_the_largest_over_all_changes_that_the_constant_allows(classes, seed, lipschitz, offset):
    """No difference f_j - f_y may rise by more than sqrt(2) L xi: random ones stay below, one is equal."""
    logits, labels = random_logits(classes, seed)
    xi = logit_offset(offset, "input", lipschitz)
    assert xi == pytest.approx(math.sqrt(2) * lipschitz * offset / 255)
    loss = cross_entropy(offset_logits(logits, labels, xi), labels, reduction="none")
    rises = xi * (1 - 2 * torch.rand(100, *logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)))
    rises.scatter_(2, labels.expand(100, -1)[..., None], 0.0)
    rises[0] = xi
    rises[0].scatter_(1, labels[:, None], 0.0)
    targets = labels.expand(100, -1)
    losses = cross_entropy((logits + rises).flatten(0, 1), targets.flatten(), reduction="none").reshape(100, -1)
    assert (losses <= loss + 1e-12 * (1 + loss)).all()
    torch.testing.assert_close(losses[0], loss)


def test_unit_of_logits_needs_no_constant():
    assert logit_offset(0.5, "logit", math.inf) == 0.5


def test_two_classes_and_a_linear_network_reach_the_loss():
    """There an attacker with the budget xi raises the difference of the logits by sqrt(2) L xi."""
    weight = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64) / math.sqrt(2)  # norm 1
    lipschitz, xi = 3.0, 36 / 255
    images, labels = torch.tensor([[0.4, 0.1]], dtype=torch.float64), torch.tensor([0])
    attacked = images - xi * torch.tensor([1.0, 0.0], dtype=torch.float64)
    under_attack = cross_entropy(lipschitz * attacked @ weight.T, labels)
    offset = cross_entropy(offset_logits(lipschitz * images @ weight.T, labels, logit_offset(36, "input", lipschitz)), labels)
    torch.testing.assert_close(under_attack, offset)


@pytest.mark.parametrize(
    ("offset", "unit", "message"), [(36, "pixel", "the unit of the offset is 'pixel'"), (-1, "logit", "is -1; allowed: 0")]
)
def test_other_units_and_negative_offsets_are_refused(offset, unit, message):
    with pytest.raises(LipscaleError, match=message):
        logit_offset(offset, unit, 2.0)

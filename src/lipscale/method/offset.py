"""The offset xi in the training loss: it asks for a margin, and so moves a network along the calibrated Pareto front.

Offset cross-entropy: Prach and Lampert, ECCV 2022 (AOL), where the offset is in logits. Temperatures are always fitted on plain
logits.
"""

import math

import torch
from torch.nn.functional import one_hot

from lipscale.errors import LipscaleError
from lipscale.units import distance


def logit_offset(offset: float, unit: str, lipschitz: float) -> float:
    """What is subtracted from the logit of the true class.

    Args:
        offset: xi; with the unit `input` an l2 distance in 1/255 of the pixel range.
        unit: `input` or `logit`.
        lipschitz: L, finite with the unit `input`.

    Returns:
        sqrt(2) L xi with xi in pixels for `input`: an attacker with the budget xi can raise no difference of two logits by
        more. Else the offset itself.

    Raises:
        LipscaleError: the unit is another one, or the offset is negative or no number.
    """
    if unit not in ("input", "logit"):
        raise LipscaleError(f"the unit of the offset is {unit!r}; allowed: input, logit")
    if not offset >= 0:
        raise LipscaleError(f"the offset is {offset}; allowed: 0 or more")
    return math.sqrt(2) * lipschitz * distance(offset) if unit == "input" else offset


def offset_logits(logits: torch.Tensor, labels: torch.Tensor, offset: float) -> torch.Tensor:
    """Logits with the offset subtracted from that of the true class, for the training loss only.

    With `logit_offset(xi, "input", L)` the cross-entropy of the result is the largest over all changes of logits in which no
    difference f_j - f_y rises by more than sqrt(2) L xi, as the Lipschitz constant L guarantees for an attacker with the budget
    xi. It therefore bounds the loss under attack; with two classes some attack on some network of that constant reaches it.

    Args:
        logits: (B, classes).
        labels: (B,), of the true classes.
        offset: in logits, see `logit_offset`.

    Returns:
        (B, classes).
    """
    return logits - offset * one_hot(labels, logits.shape[-1]).to(logits.dtype)

"""Where an attack on calibration goes: functions of the logits, each ascended from an image.

Log-odds are ascended instead of confidences and their logarithms. They have the same gradients up to a positive factor, which
normalised steps drop, but do not saturate.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lipscale.certification.certified_calibration import ImageBounds
from lipscale.evaluation.metrics import BINS, bin_of

INSIDE = 1e-6  # how far inside a bin a target at its edge lies


@dataclass(frozen=True)
class Aims:
    """What the worst case asks of each image: to be wrong and confident, or right and unsure.

    Attributes:
        labels: (images,).
        wrong: (images,), which images shall be wrong.
        log_odds: (images,), of the top confidence that each shall have.
    """

    labels: Tensor
    wrong: Tensor
    log_odds: Tensor


def aims(bounds: ImageBounds, labels: np.ndarray, signs: np.ndarray, device: torch.device) -> Aims:
    """The aims in the worst case with these signs, see `lipscale.certification.worst_case_ece`.

    An image is best wrong and confident in the highest bin with sign +, or right and unsure in the lowest bin with sign -,
    among those that its bounds reach. With neither, it is best where confidence and accuracy differ least.
    """
    low, wrong_end, right_end = bounds.low, bounds.high_wrong, bounds.high_right
    bins, first = np.arange(BINS), bin_of(low)[:, None]
    plus = (signs > 0) & (bins >= first) & (bins <= bin_of(wrong_end)[:, None]) & (wrong_end >= low)[:, None]
    minus = (signs < 0) & (bins >= first) & (bins <= bin_of(right_end)[:, None]) & (right_end >= low)[:, None]
    top = np.minimum(wrong_end, (np.where(plus, bins, -1).max(axis=1) + 1) / BINS - INSIDE)
    bottom = np.maximum(low, np.where(minus, bins, BINS).min(axis=1) / BINS + INSIDE)
    as_wrong = np.where(plus.any(axis=1), top, -1.0)
    as_right = np.where(minus.any(axis=1), 1 - bottom, -1.0)
    neither = ~(plus.any(axis=1) | minus.any(axis=1))
    wrong = np.where(neither, right_end < low, as_wrong >= as_right)
    confidence = np.where(neither, np.where(wrong, low, right_end), np.where(wrong, top, bottom)).clip(1e-15, 1 - 1e-15)
    odds = np.log(confidence) - np.log1p(-confidence)
    return Aims(*(torch.from_numpy(array).to(device) for array in (labels, wrong, odds)))


def log_odds(logits: Tensor, classes: Tensor) -> Tensor:
    """Of a class of each image, (images,)."""
    classes = classes[:, None]
    others = logits.scatter(1, classes, -torch.inf).logsumexp(1)
    return logits.gather(1, classes)[:, 0] - others


def _likelihood(logits: Tensor, aims: Aims) -> Tensor:
    """Up with the cross-entropy."""
    return -log_odds(logits, aims.labels)


def _brier(logits: Tensor, aims: Aims) -> Tensor:
    truth = functional.one_hot(aims.labels, logits.shape[1])
    return (logits.softmax(1) - truth).square().sum(1)


def _confident(logits: Tensor, aims: Aims) -> Tensor:
    """Up with the confidence in the most likely wrong class."""
    return log_odds(logits, _other(logits, aims.labels))


def _unsure(logits: Tensor, aims: Aims) -> Tensor:
    """Down with the top confidence."""
    return -log_odds(logits, logits.argmax(1))


def _aim(logits: Tensor, aims: Aims) -> Tensor:
    """Towards the aim of the worst case."""
    classes = torch.where(aims.wrong, _other(logits, aims.labels), aims.labels)
    return -(log_odds(logits, classes) - aims.log_odds).abs()


def _other(logits: Tensor, labels: Tensor) -> Tensor:
    """The most likely class beside the label, (images,)."""
    return logits.detach().scatter(1, labels[:, None], -torch.inf).argmax(1)


DIRECTIONS: dict[str, Callable[[Tensor, Aims], Tensor]] = {
    "likelihood": _likelihood,
    "brier": _brier,
    "confident": _confident,
    "unsure": _unsure,
    "aim": _aim,
}

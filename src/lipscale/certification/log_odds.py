"""Bounds on the log-odds of classes under perturbations. `confidence_intervals` has the proofs, also of rounding errors."""

import math

import numpy as np

from lipscale.certification.norms import UNIT, gamma


def of_many_classes(logits: np.ndarray, moves: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper log-odds of all classes, and whether they can be predicted, (images, classes) each.

    Args:
        logits: (images, classes).
        moves: s_j for each c, (classes, classes).
        reach: r.
    """
    rows, classes = np.arange(len(logits))[:, None], logits.shape[1]
    top = logits.argmax(axis=1)[:, None]
    above = logits[rows, top] - logits  # -d_t, the largest z_j - z_c; of t itself, 0
    terms = np.exp(-above)
    total = np.zeros_like(terms)  # Sigma
    total[:, 1:] = np.cumsum(terms[:, :-1], axis=1)
    total[:, :-1] += np.cumsum(terms[:, :0:-1], axis=1)[:, ::-1]
    total[rows, top] = 1  # any; t is replaced below
    largest = np.maximum(above, logits - logits.min(axis=1, keepdims=True))
    odds, growth, slack = _by_log_odds(above, total, classes, reach, largest)
    low, high = -odds - growth - slack, -odds + growth + slack
    towards = moves.T[top[:, 0]]  # s_t of each c
    possible = ~(above - (towards + gamma(8) * (towards + above)) > 0)

    others = np.arange(classes - 1) + (np.arange(classes - 1) >= top)
    found = of_class(logits[rows, others] - logits[rows, top], moves[top, others], reach)
    for all_classes, of_top in zip((low, high, possible), found, strict=True):
        all_classes[rows, top] = of_top[:, None]
    return low, high, possible


def of_class(others: np.ndarray, moves: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper log-odds of a class c, and whether it can be predicted, (images,).

    Args:
        others: z_j - z_c for j != c, (images, classes - 1).
        moves: s_j, (classes - 1,) or (images, classes - 1).
        reach: r.
    """
    sizes = np.abs(others)
    moves = moves + gamma(8) * (moves + sizes)
    odds, growth, slack = _by_log_odds(*_log_sum(others), others.shape[1] + 1, reach, sizes.max(axis=1))
    lowest, highest = -odds - growth - slack, -odds + growth + slack
    for sign in (1, -1):
        peak, total = _log_sum(others + sign * moves)
        bound = -(peak + np.log(total)) - sign * _slack(peak, others.shape[1] + 1)
        if sign == 1:
            lowest = np.maximum(lowest, bound)
        else:
            highest = np.minimum(highest, bound)
    return lowest, highest, ~(others - moves > 0).any(axis=1)


def _by_log_odds(
    peak: np.ndarray, total: np.ndarray, classes: int, reach: float, largest: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-o(z), by how much it can change, and the slack of its rounding, of the shape of `peak`.

    Args:
        peak, total: M and Sigma of the sum of exp(-d_j).
        largest: max_j |d_j|.
    """
    radius = (reach + gamma(4) * math.sqrt(classes) * largest) * (1 + gamma(8))
    rivals = np.maximum(total * (1 - gamma(12 * classes)) - 1, 0)  # Sigma - 1
    share = 1 / (1 + rivals * np.exp(-math.sqrt(2) * radius))  # m
    return peak + np.log(total), radius * np.sqrt(1 + share) * (1 + gamma(12 * classes + 32)), _slack(peak, classes)


def _log_sum(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """M and Sigma of each row: log sum_j exp(values_j) = M + log(Sigma)."""
    peak = values.max(axis=1)
    return peak, np.exp(values - peak[:, None]).sum(axis=1)


def _slack(peak: np.ndarray, classes: int) -> np.ndarray:
    """More than the rounding error of M + log(Sigma) and of two additions to it."""
    return gamma(24 * classes) + 4 * UNIT * np.abs(peak)

"""The largest ECE that confidences in known intervals can have, exactly.

Each image i has a confidence v_i and is right (c_i = 1) or wrong (c_i = 0). It may be wrong with any v_i in [l_i, h_i^0], or
right with any v_i in [l_i, h_i^1]; where one of these is empty, c_i is fixed. The ECE is sum_b |sum_{i in b} (v_i - c_i)| / n.
As |t| = max(t, -t), its maximum is

    max over sign vectors s in {+-1}^B of sum_i g_i(s) / n,
    g_i(s) = max over the allowed v_i and c_i, and the bins b of v_i, of s_b (v_i - c_i),

because for fixed s every image can be chosen on its own. Let a be the lowest bin of image i, b0 and b1 the highest ones if it
is wrong or right. Only two bins matter: the highest bin of a..b0 with sign +, where the image is best wrong and v as large as
possible, which gives v >= 0; and the lowest bin of a..b1 with sign -, where it is best right and v as small as possible, which
gives 1 - v >= 0. One of them exists, as a belongs to both ranges, and every other choice gives 0 or less. If the image cannot
be wrong and no sign of its bins is -, the best is h^1 - 1; if it cannot be right and no sign is +, it is -l.

So images are grouped by (a, b0, b1). A table of sums, indexed by the two bins, gives the sum of a group for every sign vector:
O(n B^2) for the tables, and 2^B times the number of groups, at most sum_a (B - a)^2, for the maximum. With equal upper ends
there are at most B (B + 1) / 2 groups.

Bins are (k / B, (k + 1) / B]. Both ends are taken as closed: a confidence as near to an edge as one likes gives the same
supremum. An end that is within 4 u of an edge counts to both bins, so that rounding of v B cannot leave one out.

Rounding: every g_i is at most 1 and off by at most 4 u, and is added at most n + groups times, so gamma_{n + groups + 8} covers
all.
"""

from dataclasses import dataclass

import numpy as np

from lipscale.certification.norms import UNIT, gamma
from lipscale.errors import LipscaleError
from lipscale.evaluation.metrics import BINS

MOST_BINS = 20  # 2^B sign vectors


@dataclass(frozen=True)
class WorstCase:
    """The largest ECE.

    Attributes:
        ece: an upper bound on the maximum, off by rounding alone; between 0 and 1.
        signs: (bins,), 1 or -1, a sign vector s that attains it. Where it is 1, confidence is above accuracy in the bin.
    """

    ece: float
    signs: np.ndarray


def worst_case_ece(low: np.ndarray, high_wrong: np.ndarray, high_right: np.ndarray, bins: int = BINS) -> WorstCase:
    """The largest ECE with `bins` equal-width bins. All arrays are (images,), in [0, 1].

    Args:
        low: l_i, the lower end of the confidence.
        high_wrong: h_i^0, the upper end if the prediction is wrong; below `low` where it cannot be wrong.
        high_right: h_i^1, the upper end if the prediction is right; below `low` where it cannot be right.
        bins: B, from 1 to 20.

    Raises:
        LipscaleError: there is no image, an image can be neither right nor wrong, or numbers are outside their ranges.
    """
    first, last_wrong, last_right = possible_bins(low, high_wrong, high_right, bins)
    can_be_wrong, can_be_right = high_wrong >= low, high_right >= low
    keys, group = np.unique((first * bins + last_wrong) * bins + last_right, return_inverse=True)
    # g of each image, by the highest bin with + and the lowest one with -; entry k + 1 is bin k, entry 0 no such bin
    none = np.full(len(low), -np.inf)
    tops = [none] + [np.where(can_be_wrong, _top(k, last_wrong, high_wrong, bins), high_right - 1) for k in range(bins)]
    bottoms = [none] + [np.where(can_be_right, _bottom(k, first, low, bins), -low) for k in range(bins)]
    tables = [[np.bincount(group, weights=np.maximum(top, bottom)) for bottom in bottoms] for top in tops]
    sums = _sums(keys, np.moveaxis(np.array(tables), 2, 0), bins)
    best = int(sums.argmax())
    largest = float(sums[best]) / len(low) + gamma(len(low) + len(keys) + 8)
    return WorstCase(min(max(largest, 0.0), 1.0), np.where(best >> np.arange(bins) & 1, 1, -1))


def possible_bins(low: np.ndarray, high_wrong: np.ndarray, high_right: np.ndarray, bins: int) -> tuple[np.ndarray, ...]:
    """The lowest bin of each image, and its highest ones if it is wrong or right; where it cannot be so, that of the other.

    Arguments and errors are those of `worst_case_ece`.
    """
    _check(low, high_wrong, high_right, bins)
    can_be_wrong, can_be_right = high_wrong >= low, high_right >= low
    first = _bin(low * (1 - 4 * UNIT), bins)
    last_wrong = _bin(np.where(can_be_wrong, high_wrong, high_right) * (1 + 4 * UNIT), bins)
    last_right = _bin(np.where(can_be_right, high_right, high_wrong) * (1 + 4 * UNIT), bins)
    return first, last_wrong, last_right


def _check(low: np.ndarray, high_wrong: np.ndarray, high_right: np.ndarray, bins: int) -> None:
    if not 1 <= bins <= MOST_BINS:
        raise LipscaleError(f"there are {bins} bins; allowed: 1 to {MOST_BINS}")
    if low.ndim != 1 or not len(low) or not low.shape == high_wrong.shape == high_right.shape:
        raise LipscaleError(
            f"the ends have shapes {low.shape}, {high_wrong.shape}, {high_right.shape}; allowed: (images,), one or more"
        )
    if not all(((end >= 0) & (end <= 1)).all() for end in (low, high_wrong, high_right)):
        raise LipscaleError("ends of confidences are outside [0, 1] or NaN; allowed: numbers in [0, 1]")
    if (np.maximum(high_wrong, high_right) < low).any():
        raise LipscaleError("an image can be neither right nor wrong; allowed: an upper end that is not below the lower one")


def _bin(confidence: np.ndarray, bins: int) -> np.ndarray:
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _top(k: int, last: np.ndarray, high: np.ndarray, bins: int) -> np.ndarray:
    """The largest v in bin k."""
    return np.where(last == k, high, (k + 1) / bins)


def _bottom(k: int, first: np.ndarray, low: np.ndarray, bins: int) -> np.ndarray:
    """1 - the smallest v in bin k."""
    return 1 - np.where(first == k, low, k / bins)


def _sums(keys: np.ndarray, tables: np.ndarray, bins: int) -> np.ndarray:
    """sum_i g_i(s) of each sign vector, (2^bins,); bit b of a vector's number is 1 where s_b is +.

    Args:
        keys: (a B + b0) B + b1 of each group, (groups,).
        tables: (groups, bins + 1, bins + 1), sums of g, by the highest bin with + and the lowest one with -, both plus 1.
    """
    vectors = np.arange(2**bins)
    plus = [(vectors >> k & 1).astype(bool) for k in range(bins)]
    sums = np.zeros(len(vectors))
    start, highest, lowest = -1, {}, {}
    for key, table in zip(keys.tolist(), tables, strict=True):
        first, last_wrong, last_right = key // bins**2, key // bins % bins, key % bins
        if first != start:
            start, highest, lowest = first, {first - 1: np.zeros(len(vectors), np.intp)}, {}
            lowest[first - 1] = np.zeros(len(vectors), np.intp)
            for k in range(first, bins):
                highest[k] = np.where(plus[k], k + 1, highest[k - 1])
                lowest[k] = np.where((lowest[k - 1] == 0) & ~plus[k], k + 1, lowest[k - 1])
        sums += np.take(table, highest[last_wrong] * (bins + 1) + lowest[last_right])
    return sums

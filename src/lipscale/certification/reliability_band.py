"""How far the bins of a reliability diagram can be from the diagonal under attack, from intervals of the confidences.

The gap of bin b is sum_{i in b} (c_i - v_i) / n: accuracy minus mean confidence, times the share of images in the bin. The
absolute values of the gaps add up to the ECE. As in `worst_case_ece`, image i may be wrong (c_i = 0) with any confidence v_i in
[l_i, h_i^0], or right (c_i = 1) with any in [l_i, h_i^1], and every image can be chosen on its own. So the largest gap of a bin
is the sum of what each image adds at most: 1 - v if it can be right there, with the smallest v; else 0 if it can be in another
bin; else -v, with the smallest v. The smallest gap is that of -v with the largest v if it can be wrong there; else 0 if it can
be in another bin; else 1 - v, with the largest v. Both are attained, each bin on its own, so no smaller band holds for these
intervals.

Accuracy alone has no such band worth drawing: an attack that empties a bin but for one image sets its accuracy to 0 or 1.

Rounding: every term is at most 1 and off by at most 4 u, so a sum of n terms over n is off by less than gamma_{n + 8}, which is
added.
"""

import numpy as np

from lipscale.certification.norms import gamma
from lipscale.certification.worst_case_ece import possible_bins
from lipscale.evaluation.metrics import BINS


def reliability_band(
    low: np.ndarray, high_wrong: np.ndarray, high_right: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest gap of each bin, (bins,) each. Arguments and errors are those of `worst_case_ece`."""
    first, last_wrong, last_right = possible_bins(low, high_wrong, high_right, bins)
    can_be_wrong, can_be_right = high_wrong >= low, high_right >= low
    smallest, largest = np.empty(bins), np.empty(bins)
    for k in range(bins):
        wrong = can_be_wrong & (first <= k) & (k <= last_wrong)
        right = can_be_right & (first <= k) & (k <= last_right)
        stays = (first == k) & (~can_be_wrong | (last_wrong == k)) & (~can_be_right | (last_right == k))
        least = np.maximum(low, k / bins)
        most_wrong, most_right = (np.minimum(high, (k + 1) / bins) for high in (high_wrong, high_right))
        smallest[k] = np.where(wrong, -most_wrong, np.where(stays, 1 - most_right, 0)).sum()
        largest[k] = np.where(right, 1 - least, np.where(stays, -least, 0)).sum()
    images, rounding = len(low), gamma(len(low) + 8)
    return smallest / images - rounding, largest / images + rounding

"""The accuracies that a bin of a reliability diagram can have under attack, from intervals of the confidences.

As in `worst_case_ece`, image i may be wrong with any confidence in [l_i, h_i^0], or right with any in [l_i, h_i^1]. So it can
be right in bin b, wrong in b, or in another bin. Every image can be chosen on its own. Of the images that cannot leave bin b,
let R0 be those that cannot be wrong in it and W0 those that cannot be right in it; R and W are all those that can be right,
or wrong, in b. The accuracy of the bin is lowest where all of W are wrong in it and no image of R but R0 is there:
R0 / (R0 + W). It is highest at R / (R + W0). Both are attained, each bin on its own, so no smaller band holds for these
intervals. `lipscale.evaluation.metrics.band` divides.
"""

from dataclasses import dataclass

import numpy as np

from lipscale.certification.worst_case_ece import possible_bins
from lipscale.evaluation.metrics import BINS


@dataclass(frozen=True)
class ReliabilityBand:
    """Numbers of images, (bins,) each; those of several networks may be added.

    Attributes:
        surely_right, surely_wrong: R0 and W0, images that are in the bin whatever the attack does, right or wrong.
        possibly_right, possibly_wrong: R and W.
    """

    surely_right: np.ndarray
    possibly_right: np.ndarray
    surely_wrong: np.ndarray
    possibly_wrong: np.ndarray


def reliability_band(low: np.ndarray, high_wrong: np.ndarray, high_right: np.ndarray, bins: int = BINS) -> ReliabilityBand:
    """The images that each bin can hold. Arguments and errors are those of `worst_case_ece`."""
    first, last_wrong, last_right = possible_bins(low, high_wrong, high_right, bins)
    can_be_wrong, can_be_right = high_wrong >= low, high_right >= low
    counts = []
    for k in range(bins):
        wrong = can_be_wrong & (first <= k) & (k <= last_wrong)
        right = can_be_right & (first <= k) & (k <= last_right)
        stays = (first == k) & (~can_be_wrong | (last_wrong == k)) & (~can_be_right | (last_right == k))
        counts.append([(stays & right & ~wrong).sum(), right.sum(), (stays & wrong & ~right).sum(), wrong.sum()])
    return ReliabilityBand(*np.array(counts).T)

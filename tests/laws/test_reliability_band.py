"""The gaps that bins of a reliability diagram can have under attack: exact, by brute force."""

from itertools import product

import numpy as np
import pytest

from lipscale.certification.reliability_band import reliability_band
from lipscale.certification.worst_case_ece import worst_case_ece
from lipscale.errors import LipscaleError
from lipscale.evaluation.metrics import bin_of
from test_worst_case_ece import random_intervals


def choices(low: float, high_wrong: float, high_right: float, bins: int) -> list[tuple[int, float]]:
    """Each bin that an image can be in, right or wrong, with the c - v of both ends of the interval there."""
    found = []
    for right, high in enumerate((high_wrong, high_right)):
        for k in range(bins):
            inside = max(low, k / bins), min(high, (k + 1) / bins)
            found += [(k, right - v) for v in inside if inside[0] <= inside[1]]
    return found


@pytest.mark.parametrize(("images", "bins"), [(1, 1), (2, 3), (3, 3), (4, 2)])
def test_the_band_is_what_all_choices_reach(images, bins):
    generator = np.random.default_rng(images)
    for _ in range(30):
        intervals = random_intervals(generator, images)
        options = [choices(*ends, bins) for ends in zip(*intervals, strict=True)]
        gaps = [[sum(gap for place, gap in whole if place == k) / images for k in range(bins)] for whole in product(*options)]
        smallest, largest = reliability_band(*intervals, bins)
        assert (smallest <= np.min(gaps, axis=0)).all()
        assert (np.max(gaps, axis=0) <= largest).all()
        np.testing.assert_allclose(smallest, np.min(gaps, axis=0), rtol=0, atol=1e-13)
        np.testing.assert_allclose(largest, np.max(gaps, axis=0), rtol=0, atol=1e-13)


def test_without_an_attack_the_band_is_the_gap():
    confidence, right = np.array([0.05, 0.31, 0.32, 0.85]), np.array([False, True, False, True])
    band = reliability_band(confidence, np.where(right, 0, confidence), np.where(right, confidence, 0), 10)
    gaps = np.bincount(bin_of(confidence, 10), right - confidence, 10) / 4
    for ends in band:
        np.testing.assert_allclose(ends, gaps, rtol=0, atol=1e-14)


def test_the_worst_case_ece_is_at_most_the_sum_of_the_largest_gaps():
    intervals = random_intervals(np.random.default_rng(0), 100)
    assert worst_case_ece(*intervals).ece <= np.abs(reliability_band(*intervals)).max(axis=0).sum()


def test_ends_outside_the_range_are_refused():
    with pytest.raises(LipscaleError, match="ends of confidences are outside"):
        reliability_band(np.array([0.2]), np.array([1.2]), np.array([0.0]))

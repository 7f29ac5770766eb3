"""The accuracies that bins can have under attack: exact, by brute force."""

from dataclasses import astuple
from itertools import product

import numpy as np
import pytest

from lipscale.certification.reliability_band import reliability_band
from lipscale.errors import LipscaleError
from lipscale.evaluation.metrics import band
from test_worst_case_ece import random_intervals


def choices(low: float, high_wrong: float, high_right: float, bins: int) -> list[tuple[int, bool]]:
    """The bins that an image can be in, and whether it is right there. Both ends of bins are taken as theirs."""
    return [
        (k, bool(right))
        for right, high in enumerate((high_wrong, high_right))
        for k in range(bins)
        if max(low, k / bins) <= min(high, (k + 1) / bins)
    ]


@pytest.mark.parametrize(("images", "bins"), [(1, 1), (2, 3), (3, 3), (4, 2)])
def test_the_band_is_what_all_choices_reach(images, bins):
    generator = np.random.default_rng(images)
    for _ in range(60):
        intervals = random_intervals(generator, images)
        lowest, highest = band(*astuple(reliability_band(*intervals, bins)))
        reached = [[] for _ in range(bins)]
        for whole in product(*(choices(*ends, bins) for ends in zip(*intervals, strict=True))):
            for k in range(bins):
                right = [correct for place, correct in whole if place == k]
                reached[k] += [np.mean(right)] if right else []
        for k in range(bins):
            expected = (min(reached[k]), max(reached[k])) if reached[k] else (np.nan, np.nan)
            np.testing.assert_array_equal((lowest[k], highest[k]), expected)


def test_without_an_attack_the_band_is_the_accuracy():
    confidence, right = np.array([0.05, 0.31, 0.32, 0.85]), np.array([False, True, False, True])
    sure = reliability_band(confidence, np.where(right, 0, confidence), np.where(right, confidence, 0), 10)
    lowest, highest = band(*astuple(sure))
    np.testing.assert_array_equal(lowest, highest)
    np.testing.assert_array_equal(lowest[[0, 3, 8]], [0, 0.5, 1])
    assert np.isnan(lowest[[1, 2, 4, 5, 6, 7, 9]]).all()


def test_numbers_of_several_networks_may_be_added():
    first, second = (random_intervals(np.random.default_rng(seed), 50) for seed in (0, 1))
    both = reliability_band(*(np.concatenate(ends) for ends in zip(first, second, strict=True)))
    parts = [np.array(astuple(reliability_band(*intervals))) for intervals in (first, second)]
    np.testing.assert_array_equal(np.array(astuple(both)), sum(parts))


def test_ends_outside_the_range_are_refused():
    with pytest.raises(LipscaleError, match="ends of confidences are outside"):
        reliability_band(np.array([0.2]), np.array([1.2]), np.array([0.0]))

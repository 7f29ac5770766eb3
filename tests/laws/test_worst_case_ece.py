"""The largest ECE over intervals of confidences: exact, by brute force; never below what a choice gives."""

import numpy as np
import pytest

from lipscale.certification.norms import gamma
from lipscale.certification.worst_case_ece import worst_case_ece
from lipscale.errors import LipscaleError
from lipscale.evaluation.metrics import bin_of


def brute_force(low, high_wrong, high_right, bins: int) -> float:
    """Every choice of right or wrong, bin and end of the interval in that bin. The ECE is convex in v, so ends are enough."""
    sums = np.zeros((1, bins))
    for start, *ends in zip(low, high_wrong, high_right, strict=True):
        choices = []
        for right, end in enumerate(ends):
            for k in range(bins):
                inside = max(start, k / bins), min(end, (k + 1) / bins)
                if inside[0] <= inside[1]:
                    choices += [np.eye(bins)[k] * (v - right) for v in inside]
        sums = (sums[:, None] + np.unique(choices, axis=0)).reshape(-1, bins)
    return float(np.abs(sums).sum(axis=1).max()) / len(low)


def random_intervals(generator, images: int, grid: int | None = None):
    """Low, high if wrong, high if right; a third of the images can only be wrong, or only be right."""
    draw = generator.random((3, images)) if grid is None else generator.integers(0, grid + 1, (3, images)) / grid
    low = draw.min(axis=0)
    high_wrong, high_right = np.maximum(draw[1], low), np.maximum(draw[2], low)
    kind = generator.integers(0, 6, images)
    low = np.where(kind < 2, np.maximum(low, 0.01), low)  # so that 0 is below it
    high_wrong, high_right = np.maximum(high_wrong, low), np.maximum(high_right, low)
    return low, np.where(kind == 0, 0, high_wrong), np.where(kind == 1, 0, high_right)


@pytest.mark.parametrize("grid", [None, 12])
@pytest.mark.parametrize(("images", "bins"), [(1, 1), (2, 3), (3, 4), (4, 3), (5, 3)])
def test_the_largest_ece_is_that_of_brute_force(images, bins, grid):
    """On random ends, and on ends at the edges of bins."""
    generator = np.random.default_rng(images)
    for _ in range(60 if images < 5 else 12):
        intervals = random_intervals(generator, images, grid)
        worst, expected = worst_case_ece(*intervals, bins).ece, brute_force(*intervals, bins)
        assert expected - 1e-15 * images <= worst <= expected + 1e-13


def test_no_choice_exceeds_the_largest_ece_and_its_signs_attain_it():
    generator = np.random.default_rng(0)
    low, high_wrong, high_right = random_intervals(generator, 200)
    high_wrong, high_right = (np.minimum(end, low + 0.2) * (end > 0) for end in (high_wrong, high_right))
    worst = worst_case_ece(low, high_wrong, high_right)
    assert set(worst.signs) <= {-1, 1}
    assert worst.signs.shape == (15,)
    for _ in range(200):
        right = np.where(high_right < low, False, np.where(high_wrong < low, True, generator.random(200) < 0.5))
        confidence = generator.uniform(low, np.where(right, high_right, high_wrong))
        gaps = np.bincount(bin_of(confidence), confidence - right, 15)
        assert np.abs(gaps).sum() / 200 <= worst.ece
    # each image at its best for these signs
    sums, edges = np.zeros(15), np.arange(16) / 15
    for start, *ends in zip(low, high_wrong, high_right, strict=True):
        gains = [
            (worst.signs[k] * (v - right), k)
            for right, end in enumerate(ends)
            for k in range(15)
            for v in (max(start, edges[k]), min(end, edges[k + 1]))
            if max(start, edges[k]) <= min(end, edges[k + 1])
        ]
        gain, k = max(gains)
        sums[k] += worst.signs[k] * gain
    assert np.abs(sums).sum() / 200 == pytest.approx(worst.ece, abs=1e-12)


def test_intervals_of_no_width_have_the_plain_ece():
    generator = np.random.default_rng(0)
    confidence, right = generator.uniform(0.01, 1, 5000), generator.random(5000) < 0.5
    plain = np.abs(np.bincount(bin_of(confidence), confidence - right, 15)).sum() / 5000
    worst = worst_case_ece(confidence, np.where(right, 0, confidence), np.where(right, confidence, 0))
    assert plain <= worst.ece <= plain + 2 * gamma(6000)
    gaps = np.bincount(bin_of(confidence), confidence - right, 15)
    assert np.array_equal(worst.signs, np.sign(gaps))


def test_an_image_on_the_edge_of_a_bin_counts_to_the_worse_one():
    """A wrong image at 0.5 and a right one at 0.6: in one bin their gaps of 0.5 and -0.4 cancel, in two they add up."""
    for edge in (0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1)):
        assert worst_case_ece(np.array([edge, 0.6]), np.array([edge, 0]), np.array([0, 0.6]), bins=2).ece == pytest.approx(0.45)
    assert worst_case_ece(np.array([0.51, 0.6]), np.array([0.51, 0]), np.array([0, 0.6]), bins=2).ece == pytest.approx(0.055)


def test_wider_intervals_never_have_a_smaller_ece():
    generator = np.random.default_rng(0)
    low, high_wrong, high_right = random_intervals(generator, 100)
    widths = np.linspace(0, 1, 12)
    eces = [
        worst_case_ece(
            low * (1 - width),
            np.where(high_wrong < low, 0, low + (high_wrong - low) * width),
            np.where(high_right < low, 0, low + (high_right - low) * width),
        ).ece
        for width in widths
    ]
    assert eces == sorted(eces)
    assert eces[0] < eces[-1]


@pytest.mark.parametrize(
    ("low", "high_wrong", "high_right", "bins", "message"),
    [
        ([0.5], [0.6], [0.6], 0, "there are 0 bins; allowed: 1 to 20"),
        ([0.5], [0.6], [0.6], 21, "there are 21 bins"),
        ([], [], [], 15, r"shapes \(0,\), \(0,\), \(0,\); allowed: \(images,\), one or more"),
        ([0.5], [0.6, 0.7], [0.6], 15, "the ends have shapes"),
        ([0.5], [1.1], [0.6], 15, r"outside \[0, 1\]"),
        ([np.nan], [0.6], [0.6], 15, "or NaN"),
        ([0.5], [0.4], [0.3], 15, "neither right nor wrong"),
    ],
)
def test_what_are_no_intervals_is_refused(low, high_wrong, high_right, bins, message):
    with pytest.raises(LipscaleError, match=message):
        worst_case_ece(*(np.array(end, dtype=float) for end in (low, high_wrong, high_right)), bins)

"""The bootstrap: what its weights sum to, what it gives without resampling, and how often its intervals cover the truth."""

import time

import numpy as np
import pytest
import torch

from lipscale.evaluation.metrics import accuracy, brier_scores, expected_calibration_error, log_losses, probabilities
from lipscale.evaluation.statistics import (
    bootstrap_weights,
    ece_bias,
    ece_interval,
    interval,
    over_seeds,
    weighted_ece,
    weighted_mean,
)


@pytest.fixture(scope="module")
def network() -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of 3000 images."""
    generator = np.random.default_rng(0)
    labels = generator.integers(10, size=3000)
    logits = generator.normal(size=(3000, 10))
    logits[np.arange(3000), labels] += 1.5
    return 2 * logits, labels


def covered(intervals: list[tuple[float, float]], truth: float) -> float:
    """Share of intervals that hold the truth."""
    return np.mean([low <= truth <= high for low, high in intervals])


def test_each_replicate_draws_as_many_images_as_there_are():
    weights = bootstrap_weights(500, 50, seed=3)
    assert (weights.shape, weights.dtype) == ((50, 500), np.uint16)
    assert (weights.sum(axis=1) == 500).all()
    assert weights.mean(axis=0).std() == pytest.approx(np.sqrt(1 / 50), rel=0.15)  # counts have variance 1 - 1 / n
    assert weights.var() == pytest.approx(1 - 1 / 500, rel=0.05)


def test_the_same_seed_draws_the_same_images():
    assert (bootstrap_weights(100, 20, seed=1) == bootstrap_weights(100, 20, seed=1)).all()
    assert (bootstrap_weights(100, 20, seed=1) != bootstrap_weights(100, 20, seed=2)).any()
    samples = np.random.default_rng(0).normal(size=(3, 20))
    assert (over_seeds(samples) == over_seeds(samples)).all()


def test_without_resampling_the_measures_are_the_plain_ones(network):
    logits, labels = network
    table, once = probabilities(logits), np.ones((2, len(labels)), dtype=np.uint16)
    right = logits.argmax(axis=1) == labels
    ece = expected_calibration_error(table, labels)
    assert expected_calibration_error(torch.from_numpy(table), torch.from_numpy(labels)) == ece
    assert weighted_ece(table.max(axis=1), right, once) == pytest.approx([ece, ece], rel=1e-5)
    values = np.stack([right, log_losses(logits, labels), brier_scores(logits, labels)], axis=1)
    plain = [accuracy(logits, labels), log_losses(logits, labels).mean(), brier_scores(logits, labels).mean()]
    assert weighted_mean(values, once) == pytest.approx(np.array([plain, plain]), rel=1e-5)
    assert weighted_mean(right, once) == pytest.approx([plain[0]] * 2, rel=1e-6)


def test_weights_are_counts_of_repeated_images(network):
    logits, labels = network
    weights = bootstrap_weights(len(labels), 3, seed=0)
    for row, ece in zip(weights, weighted_ece(probabilities(logits).max(1), logits.argmax(1) == labels, weights), strict=True):
        drawn = np.repeat(np.arange(len(labels)), row)
        assert ece == pytest.approx(expected_calibration_error(probabilities(logits[drawn]), labels[drawn]), rel=1e-4)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_intervals_of_an_accuracy_cover_it_in_95_percent(share):
    generator, weights = np.random.default_rng(0), bootstrap_weights(400, 500).astype(np.float32)
    intervals = [interval(weighted_mean(generator.random(400) < share, weights)) for _ in range(400)]
    assert 0.91 <= covered(intervals, share) <= 0.985


def test_widths_shrink_with_the_root_of_the_number_of_images():
    generator, widths = np.random.default_rng(0), []
    for images in (250, 1000, 4000):
        low, high = interval(weighted_mean(generator.random(images) < 0.3, bootstrap_weights(images, 2000)))
        widths.append(high - low)
        assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.21 / images), rel=0.1)
    assert widths[0] / widths[2] == pytest.approx(4, rel=0.15)


def test_a_higher_level_is_wider():
    samples = np.random.default_rng(0).normal(size=10_000)
    assert interval(samples) == pytest.approx((-1.96, 1.96), abs=0.08)
    assert interval(samples, level=0.5) == pytest.approx((-0.674, 0.674), abs=0.05)


@pytest.mark.parametrize("error", [0.0, 0.01, 0.03, 0.1])
@pytest.mark.parametrize("images", [400, 4000])
def test_intervals_of_the_ece_cover_it_where_it_is_0_and_where_it_is_not(error, images):
    """Confidences are too high by `error` everywhere. Plain percentile intervals never cover an ECE of 0."""
    generator, weights = np.random.default_rng(0), bootstrap_weights(images, 300).astype(np.float32)
    fixed, plain = [], []
    for _ in range(200):
        confidence = 0.2 + 0.8 * generator.beta(3, 1.3, images)
        right = generator.random(images) < confidence - error
        samples, once = weighted_ece(confidence, right, weights), np.ones((1, images))
        estimate = weighted_ece(confidence, right, once).item()
        fixed.append(ece_interval(samples, estimate, ece_bias(confidence, right)))
        plain.append(interval(samples))
        assert fixed[-1][0] <= estimate <= fixed[-1][1]
    assert covered(fixed, error) >= 0.93
    assert error or covered(plain, error) == 0


def test_one_seed_varies_with_the_images_only():
    samples = np.random.default_rng(0).normal(size=(1, 100))
    assert (over_seeds(samples) == samples[0]).all()


def test_images_are_drawn_once_for_all_seeds():
    """Networks of three seeds that are right on the same images: their mean varies as much as one of them does."""
    right, weights = np.random.default_rng(0).random(500) < 0.7, bootstrap_weights(500)
    one = weighted_mean(right, weights)
    assert over_seeds(np.stack([one] * 3)) == pytest.approx(one)


def test_seeds_that_differ_widen_the_interval():
    images = np.random.default_rng(0).normal(scale=0.01, size=2000)
    spread = np.array([-0.1, 0.0, 0.1])
    replicates = over_seeds(spread[:, None] + images)
    expected = np.sqrt(spread.var() / 3 + 0.01**2)  # of the bootstrap, which divides by seeds, not by seeds - 1
    assert replicates.std() == pytest.approx(expected, rel=0.05)


def test_a_thousand_replicates_of_ten_thousand_images_take_less_than_a_second():
    generator = np.random.default_rng(0)
    confidence, weights = generator.random(10_000), bootstrap_weights(10_000).astype(np.float32)
    start = time.process_time()
    weighted_ece(confidence, generator.random(10_000) < confidence, weights)
    assert time.process_time() - start < 1


def test_equal_gaps_have_no_bias():
    """Their variance is 0, which rounding may take below."""
    for images in range(1, 400, 7):
        with np.errstate(invalid="raise"):
            assert ece_bias(np.full(images, 0.1), np.zeros(images)) < 1e-8

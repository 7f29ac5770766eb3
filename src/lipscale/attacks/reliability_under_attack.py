"""The reliability diagram of attacked images, and the band that no attack can leave."""

from collections.abc import Iterator
from dataclasses import asdict

import numpy as np

from lipscale.attacks.calibration_results import CalibrationAttack, Case
from lipscale.certification.reliability_band import ReliabilityBand, reliability_band
from lipscale.errors import LipscaleError
from lipscale.evaluation.metrics import BINS, band, in_bins, top_label

COLUMNS = (
    "epsilon", "scaled", "low", "high", "images", "confidence", "accuracy",
    "surely_right", "possibly_right", "surely_wrong", "possibly_wrong",
)  # fmt: skip


def reliability_rows(found: CalibrationAttack, logits: np.ndarray, labels: np.ndarray, name: str) -> Iterator[dict]:
    """A row of COLUMNS for each bin, temperature and epsilon, over the attacked images.

    `images`, `confidence` and `accuracy` are of the points that make the attacked ECE; at epsilon 0, of the images themselves,
    where each image is surely what it is.

    Args:
        logits, labels: (images, classes) and (images,) of the whole split.
        name: of the network, for messages.

    Raises:
        LipscaleError: the attack leaves the band, which a sound certificate rules out.
    """
    for suffix, temperature in {one.suffix: one.temperature for one in found.cases}.items():
        confidence, predicted = top_label(logits[found.index], temperature)
        right = predicted == labels[found.index]
        images, *_ = in_bins(confidence, right)
        correct, *_ = in_bins(confidence[right], right[right])
        yield from _rows(0, suffix, confidence, right, ReliabilityBand(correct, correct, images - correct, images - correct))
    for one in found.cases:
        reached, bounds = found.attacked[one.key], one.bounds.of(found.index)
        proven = reliability_band(bounds.low, bounds.high_wrong, bounds.high_right)
        _check(one, reached["confidence"], reached["right"], proven, name)
        yield from _rows(one.epsilon, one.suffix, reached["confidence"], reached["right"], proven)


def _rows(epsilon: int, suffix: str, confidence: np.ndarray, right: np.ndarray, proven: ReliabilityBand) -> Iterator[dict]:
    columns = [*in_bins(confidence, right), *asdict(proven).values()]
    for k, (images, *means_and_counts) in enumerate(zip(*columns, strict=True)):
        confidence_in_bin, accuracy, *counts = means_and_counts
        means = (float(confidence_in_bin), float(accuracy)) if images else (None, None)
        row = (epsilon, int(suffix != ""), k / BINS, (k + 1) / BINS, int(images), *means, *map(int, counts))
        yield dict(zip(COLUMNS, row, strict=True))


def _check(one: Case, confidence: np.ndarray, right: np.ndarray, proven: ReliabilityBand, name: str) -> None:
    images, _, accuracy = in_bins(confidence, right)
    lowest, highest = band(**asdict(proven))
    for k in np.flatnonzero(images):
        if not lowest[k] <= accuracy[k] <= highest[k]:
            raise LipscaleError(
                f"run {name}: under attack at {one.epsilon}/255 the accuracy of bin {k} is {accuracy[k]}, "
                f"outside its proven band from {lowest[k]} to {highest[k]}; this must not happen"
            )

"""The reliability diagram of attacked images, and the band that no attack can leave."""

from collections.abc import Iterator

import numpy as np

from lipscale.attacks.calibration_results import CalibrationAttack
from lipscale.certification.norms import gamma
from lipscale.certification.reliability_band import reliability_band
from lipscale.errors import LipscaleError
from lipscale.evaluation.metrics import BINS, bin_of, in_bins, top_label

COLUMNS = ("epsilon", "scaled", "low", "high", "images", "confidence", "accuracy", "gap", "smallest_gap", "largest_gap")


def reliability_rows(found: CalibrationAttack, logits: np.ndarray, labels: np.ndarray, name: str) -> Iterator[dict]:
    """A row of COLUMNS for each bin, temperature and epsilon, over the attacked images; see `reliability_band`.

    `images`, `confidence`, `accuracy` and `gap` are of the points that make the attacked ECE. At epsilon 0 they are of the
    images themselves, and so are both ends of the band.

    Args:
        logits, labels: (images, classes) and (images,) of the whole split.
        name: of the network, for messages.

    Raises:
        LipscaleError: the attack leaves the band, which a sound certificate rules out.
    """
    for suffix, temperature in {one.suffix: one.temperature for one in found.cases}.items():
        confidence, predicted = top_label(logits[found.index], temperature)
        right = predicted == labels[found.index]
        gaps = _gaps(confidence, right)
        yield from _rows(0, suffix, confidence, right, gaps, (gaps, gaps))
    for one in found.cases:
        reached, bounds = found.attacked[one.key], one.bounds.of(found.index)
        gaps = _gaps(reached["confidence"], reached["right"])
        band = reliability_band(bounds.low, bounds.high_wrong, bounds.high_right)
        rounding = gamma(len(found.index) + 8)
        outside = np.flatnonzero((gaps + rounding < band[0]) | (gaps - rounding > band[1]))
        if len(outside):
            k = outside[0]
            raise LipscaleError(
                f"run {name}: an attack at {one.epsilon}/255 reaches a calibration gap of {gaps[k]} in bin {k}, outside "
                f"its proven band from {band[0][k]} to {band[1][k]}; this must not happen"
            )
        yield from _rows(one.epsilon, one.suffix, reached["confidence"], reached["right"], gaps, band)


def _gaps(confidence: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.bincount(bin_of(confidence), weights=right - confidence, minlength=BINS) / len(right)


def _rows(epsilon: int, suffix: str, confidence, right, gaps, band) -> Iterator[dict]:
    columns = [*in_bins(confidence, right), gaps, *band]
    for k, (images, mean, accuracy, *numbers) in enumerate(zip(*columns, strict=True)):
        means = (float(mean), float(accuracy)) if images else (None, None)
        row = (epsilon, int(suffix != ""), k / BINS, (k + 1) / BINS, int(images), *means, *map(float, numbers))
        yield dict(zip(COLUMNS, row, strict=True))

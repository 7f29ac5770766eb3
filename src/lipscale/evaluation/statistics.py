"""Confidence intervals by the bootstrap, in numpy: over the test images, and over seeds and images.

The test images are a sample, and so are the seeds. The bootstrap (Efron, Annals of Statistics 1979) draws both again with
replacement and looks at how a measure varies. A replicate is a vector of counts: how often each image was drawn. All measures
of all networks use the same counts, so that a difference between two networks is a paired one.

With several seeds, each replicate draws seeds, and draws the images once for all of them, as all seeds are tested on the same
images. With a single seed only images are drawn: the interval then says nothing about other seeds.

ECE needs care. It is a sum of absolute values, so noise makes it larger: that of a perfectly calibrated network is about 0.01
with 10,000 images, and a replicate, which adds noise to noise, is larger still. The plain percentile interval would lie above
the truth. `ece_interval` moves the replicates to the measured value and lowers the lower end by `ece_bias`.
"""

from functools import lru_cache

import numpy as np

from lipscale.evaluation.metrics import BINS, bin_of

REPLICATES = 1000
LEVEL = 0.95
SIGNIFICANT = 2  # standard errors; a smaller gap between accuracy and confidence of a bin may be noise alone


def bootstrap_weights(images: int, replicates: int = REPLICATES, seed: int = 0) -> np.ndarray:
    """How often each image is drawn in each replicate: (replicates, images), uint16, rows sum to `images`.

    Multinomial counts, the same for the same arguments. Also for seeds instead of images.
    """
    generator = np.random.default_rng(seed)
    weights = np.empty((replicates, images), dtype=np.uint16)
    for row in weights:
        row[:] = np.bincount(generator.integers(images, size=images), minlength=images)
    return weights


def weighted_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean of each replicate.

    Args:
        values: (images,), or (images, measures) for several measures at once.
        weights: (replicates, images), see `bootstrap_weights`; float32 saves a conversion.

    Returns:
        (replicates,), or (replicates, measures), float64.
    """
    sums = np.asarray(weights, dtype=np.float32) @ np.asarray(values, dtype=np.float32)
    return sums.astype(np.float64) / len(values)


def weighted_ece(confidences: np.ndarray, right: np.ndarray, weights: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The ECE of each replicate, (replicates,): `expected_calibration_error` with the images drawn again.

    Args:
        confidences: (images,), of the top label.
        right: (images,), whether it is the label.
        weights: (replicates, images).
    """
    gaps = np.zeros((len(confidences), bins), dtype=np.float32)
    gaps[np.arange(len(confidences)), bin_of(confidences, bins)] = right - confidences
    return np.abs(weighted_mean(gaps, weights)).sum(axis=1)


def interval(samples: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of replicates (replicates,): lower and upper end."""
    low, high = np.quantile(samples, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def ece_bias(confidences: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """By how much noise may raise the measured ECE above that of infinitely many images, on average.

    In a bin whose accuracy and mean confidence differ by less than 2 standard errors s, the true difference may be 0, and noise
    alone adds E|N(0, s^2)| = sqrt(2 / pi) s. In other bins noise adds next to nothing.
    """
    index, gap, images = bin_of(confidences, bins), right - confidences, len(confidences)
    sums, squares = (np.bincount(index, weights=values, minlength=bins) for values in (gap, gap**2))
    errors = np.sqrt(np.maximum(squares - sums**2 / images, 0)) / images  # rounding may leave less than 0 of equal gaps
    unclear = np.abs(sums) / images < SIGNIFICANT * errors
    return float(np.sqrt(2 / np.pi) * errors[unclear].sum())


def ece_interval(samples: np.ndarray, estimate: float, bias: float, level: float = LEVEL) -> tuple[float, float]:
    """The interval of an ECE: that of the replicates, moved to the measured ECE, with the lower end lowered by the bias.

    It holds the measured ECE. Its upper end does not take the bias away, which errs on the safe side.

    Args:
        samples: (replicates,), of `weighted_ece`, or of its mean over seeds.
        estimate: the measured ECE, or its mean over seeds.
        bias: `ece_bias`, or its mean over seeds.
    """
    low, high = interval(samples - samples.mean() + estimate, level)
    return max(low - bias, 0.0), min(high, 1.0)


def over_seeds(samples: np.ndarray, seed: int = 1) -> np.ndarray:
    """Replicates of the mean over seeds, (replicates,): both the seeds and the images are drawn again.

    Args:
        samples: (seeds, replicates), of each seed, with the same images in the same replicate. With one seed nothing is added
            to its replicates: they vary with the images only.
        seed: of the random draws.
    """
    seeds, replicates = samples.shape
    return (_seed_weights(seeds, replicates, seed) * samples.T).sum(axis=1) / seeds


_seed_weights = lru_cache(maxsize=8)(bootstrap_weights)

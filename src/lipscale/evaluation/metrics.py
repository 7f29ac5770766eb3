"""Calibration of probabilities, in numpy: what the training history and the figures use."""

import numpy as np
from scipy.special import log_softmax

BINS = 15


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """softmax(logits / temperature), float64, shape (images, classes)."""
    return np.exp(log_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1))


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> float:
    """ECE of the top label: sum over equal-width bins of confidence of |accuracy - mean confidence|, weighted by size.

    Guo et al., ICML 2017, equation 3. Bins are (k / bins, (k + 1) / bins]. Probabilities (images, classes), labels (images,).
    """
    confidence, correct, index = _binned(probabilities, labels, bins)
    gaps = np.bincount(index, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def reliability(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a reliability diagram shows (Guo et al., ICML 2017, section 2), in the bins of `expected_calibration_error`.

    Args:
        probabilities: (images, classes).
        labels: (images,).

    Returns:
        Number of images, mean confidence and accuracy of the top label in each bin, (bins,) each; NaN where there is no image.
    """
    confidence, correct, index = _binned(probabilities, labels, bins)
    images = np.bincount(index, minlength=bins)
    counts = np.where(images > 0, images, np.nan)
    sums = (np.bincount(index, weights=values, minlength=bins) for values in (confidence, correct))
    return images, *(values / counts for values in sums)


def _binned(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each image: confidence of the top label, whether it is right, and its bin."""
    confidence = probabilities.max(axis=1)
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    return confidence, probabilities.argmax(axis=1) == labels, index


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose largest logit is the label's."""
    return float((logits.argmax(axis=1) == labels).mean())

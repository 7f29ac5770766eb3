"""Calibration of probabilities, in numpy: what the training history, the tables and the figures use."""

from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_softmax

from lipscale.parts import parts

if TYPE_CHECKING:
    import torch

BINS = 15


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """softmax(logits / temperature), float64, shape (images, classes)."""
    found = np.empty(logits.shape)
    for part in parts(*logits.shape):
        found[part] = np.exp(_log_probabilities(logits[part], temperature))
    return found


def top_label(logits: np.ndarray, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The largest of `probabilities` and its class, (images,) each."""
    confidence, label = np.empty(len(logits)), np.empty(len(logits), dtype=int)
    for part in parts(*logits.shape):
        logs = _log_probabilities(logits[part], temperature)
        confidence[part], label[part] = np.exp(logs.max(axis=1)), logs.argmax(axis=1)
    return confidence, label


def _log_probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    return log_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1)


def bin_of(confidence: np.ndarray, bins: int = BINS) -> np.ndarray:
    """The equal-width bin of each confidence, 0 to bins - 1: bin k is (k / bins, (k + 1) / bins]."""
    return np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)


def expected_calibration_error(
    probabilities: "np.ndarray | torch.Tensor", labels: "np.ndarray | torch.Tensor", bins: int = BINS
) -> float:
    """ECE of the top label: sum over equal-width bins of confidence of |accuracy - mean confidence|, weighted by size.

    Guo et al., ICML 2017, equation 3. Bins are (k / bins, (k + 1) / bins]. Probabilities, not logits, (images, classes), and
    labels (images,), both numpy arrays or torch tensors on any device.
    """
    probabilities, labels = (np.asarray(a.detach().cpu() if hasattr(a, "detach") else a) for a in (probabilities, labels))
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    return _gaps(confidence, correct, bin_of(confidence, bins))


def classwise_ece(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0, bins: int = BINS) -> float:
    """Classwise ECE: mean over classes k of the ECE of p_k as the probability that the label is k, equal-width bins.

    Kull et al., NeurIPS 2019, equation 3; "static calibration error" of Nixon et al., CVPR workshops 2019. It sees all
    probabilities, not only the largest. Most of them are small, so its values are much smaller than those of the ECE.
    netcal has no such measure; for one class it agrees with netcal's binary ECE. p = softmax(logits / temperature); logits
    (images, classes), labels (images,).
    """
    classes = np.arange(logits.shape[1])
    gaps = np.zeros(len(classes) * bins)
    for part in parts(*logits.shape):
        p = probabilities(logits[part], temperature)
        index, gap = bin_of(p, bins) + bins * classes, (labels[part, None] == classes) - p
        gaps += np.bincount(index.ravel(), weights=gap.ravel(), minlength=len(gaps))
    return float(np.mean([np.abs(gaps_of_class).sum() / len(labels) for gaps_of_class in gaps.reshape(-1, bins)]))


def adaptive_ece(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0, bins: int = BINS) -> float:
    """Adaptive ECE of the top label: the ECE in bins of confidence that hold equally many images.

    Equal-mass bins: Nixon et al., CVPR workshops 2019; for the top label, "AdaECE" of Mukhoti et al., NeurIPS 2020. The edges
    are quantiles, and images of the same confidence share a bin, so that their order does not matter. netcal's ECE with
    equal_intervals=False agrees, but fails where many confidences are 1. Arguments as for `classwise_ece`.
    """
    confidence, predictions = top_label(logits, temperature)
    edges = np.quantile(confidence, np.arange(1, bins) / bins)
    return _gaps(confidence, predictions == labels, np.searchsorted(edges, confidence))


def brier_scores(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Brier score of each image, sum over classes k of (p_k - 1[k = label])^2, from 0 to 2, (images,).

    Brier, Monthly Weather Review 1950, with all classes. Arguments as for `classwise_ece`.
    """
    found = np.empty(len(labels))
    for part in parts(*logits.shape):
        table = probabilities(logits[part], temperature)
        of_label = np.take_along_axis(table, labels[part, None], axis=1)[:, 0]
        found[part] = (table**2).sum(axis=1) - 2 * of_label + 1
    return found


def log_losses(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Negative log-likelihood of each label under softmax(logits / temperature), in nats, (images,)."""
    found = np.empty(len(labels))
    for part in parts(*logits.shape):
        found[part] = -np.take_along_axis(_log_probabilities(logits[part], temperature), labels[part, None], axis=1)[:, 0]
    return found


def reliability(
    logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a reliability diagram shows (Guo et al., ICML 2017, section 2), in the bins of `expected_calibration_error`.

    Args:
        logits: (images, classes).
        labels: (images,).
        temperature: T, by which the logits are divided.

    Returns:
        Number of images, mean confidence and accuracy of the top label in each bin, (bins,) each; NaN where there is no image.
    """
    confidence, predictions = top_label(logits, temperature)
    return in_bins(confidence, predictions == labels, bins)


def in_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`reliability` from the confidence of each image and whether it is right, (images,) each."""
    index = bin_of(confidence, bins)
    images = np.bincount(index, minlength=bins)
    counts = np.where(images > 0, images, np.nan)
    sums = (np.bincount(index, weights=values, minlength=bins) for values in (confidence, correct))
    return images, *(values / counts for values in sums)


def _gaps(confidence: np.ndarray, correct: np.ndarray, index: np.ndarray) -> float:
    """Sum over bins of |accuracy - mean confidence|, weighted by size."""
    return float(np.abs(np.bincount(index, weights=correct - confidence)).sum() / len(confidence))


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Share of images whose largest logit is the label's."""
    return float((logits.argmax(axis=1) == labels).mean())

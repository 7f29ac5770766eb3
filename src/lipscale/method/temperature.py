"""The best temperature of a set of logits.

NLL(T) = mean_i [ logsumexp_j(z_ij / T) - z_{i y_i} / T ] is convex in beta = 1/T, so its minimum is the root of

    g(beta) = d NLL / d beta = mean_i sum_j softmax(beta z_i)_j (z_ij - z_{i y_i}),

which never falls. Two cases have no root and are told apart exactly, before any iteration:

* every image has its label's logit on top: g(beta) <= 0 for all beta, and T* = 0 (the split is perfectly separated);
* the labels' logits are on average no larger than the mean logit: g(0) >= 0, and T* = infinity (chance level).
"""

import math

import torch
from scipy.optimize import brentq

from lipscale.errors import LipscaleError

LARGEST_LOG_BETA = 80  # a root beyond cannot be told from none in float64: exp(-80) is far below its rounding


def fit_temperature(logits: torch.Tensor, labels: torch.Tensor) -> float:
    """T* = argmin_T NLL(logits / T), relative error below 1e-6; logits are divided by it (T* > 1: over-confident).

    Args:
        logits: (images, classes), any floating dtype and device; the solve is float64 on that device.
        labels: (images,), integers below `classes`.

    Returns:
        T*, in (0, infinity); 0.0 where the logits separate the labels perfectly, infinity where they are at chance level.

    Raises:
        LipscaleError: logits are not finite, or there are none.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise LipscaleError(
            f"temperature: logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; "
            "allowed: (images, classes) and (images,), at least one image"
        )
    logits = logits.detach().double()
    if not logits.isfinite().all():
        raise LipscaleError("temperature: the logits hold NaN or infinity; allowed: finite numbers")
    differences = logits - logits.gather(1, labels[:, None])  # z_j - z_y, (images, classes)

    if differences.mean() >= 0:
        return math.inf
    if differences.max() <= 0:
        return 0.0

    differences = differences / (unit := differences.abs().max())  # a scale-free problem: |z_j - z_y| <= 1

    def slope(log_beta: float) -> float:
        return (torch.softmax(math.exp(log_beta) * differences, dim=1) * differences).sum(1).mean().item()

    low = high = 0.0
    while slope(low) >= 0:
        low -= 2.0
        if low < -LARGEST_LOG_BETA:
            return math.inf
    while slope(high) <= 0:
        high += 2.0
        if high > LARGEST_LOG_BETA:
            return 0.0
    return unit.item() / math.exp(brentq(slope, low, high, xtol=1e-9, rtol=1e-12))


def finite_temperature(temperature: float) -> float:
    """The nearest number in [1e-3, 1e3] to T*: what logits are scaled with, also where T* is 0 or infinity."""
    return min(max(temperature, 1e-3), 1e3)


def nll(logits: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the labels under softmax(logits / temperature), in nats, float64."""
    return torch.nn.functional.cross_entropy(logits.double() / temperature, labels).item()

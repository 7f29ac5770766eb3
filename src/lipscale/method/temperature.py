"""The best temperature of a set of logits.

NLL(T) = mean_i [ logsumexp_j(z_ij / T) - z_{i y_i} / T ] is convex in beta = 1/T, so its minimum is the root of

    g(beta) = d NLL / d beta = mean_i sum_j softmax(beta z_i)_j (z_ij - z_{i y_i}),

which never falls. Two cases have no root. Both are detected exactly, before any iteration:

* every image has its label's logit on top: g(beta) <= 0 for all beta, and T* = 0 (the split is perfectly separated);
* the labels' logits are on average no larger than the mean logit: g(0) >= 0, and T* = infinity (chance level).
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from scipy.optimize import brentq
from torch.nn.functional import cross_entropy

from lipscale.errors import LipscaleError
from lipscale.parts import parts

LARGEST_LOG_BETA = 80  # a root beyond cannot be told from none in float64: exp(-80) is far below its rounding

Array = np.ndarray | torch.Tensor


def fit_temperature(logits: Array, labels: Array) -> float:
    """T* = argmin_T NLL(logits / T), relative error below 1e-6; logits are divided by it (T* > 1: over-confident).

    Args:
        logits: (images, classes), numpy array or torch tensor of real numbers, on any device; the solve is float64 there.
        labels: (images,), numpy array or torch tensor of integers from 0 to classes - 1.

    Returns:
        T*, in (0, infinity); 0.0 where the logits separate the labels perfectly, infinity where they are at chance level.

    Raises:
        LipscaleError: there are no images, the logits are not finite, or shape, dtype or range of the labels is wrong.
    """
    logits, labels = _checked(logits, labels)
    if not all(logits[part].isfinite().all() for part in parts(*logits.shape)):
        raise LipscaleError("temperature: the logits hold NaN or infinity; allowed: finite numbers")
    of_label = logits.gather(1, labels[:, None])
    if sum(table.sum().item() for _, table in _differences(logits, of_label)) >= 0:
        return math.inf
    largest = max(table.max().item() for _, table in _differences(logits, of_label))
    if largest <= 0:
        return 0.0

    smallest = min(table.min().item() for _, table in _differences(logits, of_label))
    return _root(logits, of_label, unit=max(largest, -smallest))  # a scale-free problem: |z_j - z_y| <= 1


def finite_temperature(temperature: float) -> float:
    """The nearest number in [1e-3, 1e3] to T*: what logits are scaled with, also where T* is 0 or infinity."""
    return min(max(temperature, 1e-3), 1e3)


def nll(logits: Array, labels: Array, temperature: float = 1.0) -> float:
    """Mean negative log-likelihood of the labels under softmax(logits / temperature), in nats, float64.

    Args:
        logits: (images, classes), as for `fit_temperature`; NaN gives NaN.
        labels: (images,).
        temperature: T, greater than 0.

    Raises:
        LipscaleError: there are no images, or shape, dtype or range of the labels is wrong.
    """
    logits, labels = _checked(logits, labels)
    losses = [(cross_entropy(logits[part] / temperature, labels[part]).item(), part) for part in parts(*logits.shape)]
    if len(losses) == 1:
        return losses[0][0]
    return sum(loss * (part.stop - part.start) for loss, part in losses) / len(labels)


def _differences(logits: torch.Tensor, of_label: torch.Tensor, unit: float = 1.0) -> Iterator[tuple[slice, torch.Tensor]]:
    """(z_j - z_y) / unit (images, classes), in parts, which take less memory; z_y (images, 1)."""
    return ((part, (logits[part] - of_label[part]) / unit) for part in parts(*logits.shape))


def _root(logits: torch.Tensor, of_label: torch.Tensor, unit: float) -> float:
    """T* where g has a root; the largest |z_j - z_y| is `unit`."""
    sums = torch.empty_like(of_label[:, 0])  # one buffer: small tensors between those of parts fragment the heap

    def slope(log_beta: float) -> float:
        beta = math.exp(log_beta)
        for part, table in _differences(logits, of_label, unit):
            torch.sum(torch.softmax(beta * table, dim=1) * table, dim=1, out=sums[part])
        return sums.mean().item()

    low = high = 0.0
    while slope(low) >= 0:
        low -= 2.0
        if low < -LARGEST_LOG_BETA:
            return math.inf
    while slope(high) <= 0:
        high += 2.0
        if high > LARGEST_LOG_BETA:
            return 0.0
    return unit / math.exp(brentq(slope, low, high, xtol=1e-9, rtol=1e-12))


def _checked(logits: Array, labels: Array) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits in float64 and labels in int64, on the device of the logits. Raises LipscaleError."""
    logits, labels = _tensor(logits, "logits"), _tensor(labels, "labels")
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not logits.numel():
        raise LipscaleError(
            f"temperature: logits have shape {tuple(logits.shape)} and labels {tuple(labels.shape)}; "
            "allowed: (images, classes) and (images,), at least one image"
        )
    if logits.dtype == torch.bool or logits.is_complex():
        raise LipscaleError(f"temperature: logits are {_name(logits.dtype)}; allowed: real numbers")
    if labels.dtype == torch.bool or labels.is_floating_point() or labels.is_complex():
        raise LipscaleError(
            f"temperature: labels are {_name(labels.dtype)}; allowed: integers, the index of each image's class"
        )
    logits, labels = logits.detach().double(), labels.to(logits.device, torch.int64)
    low, high = (bound.item() for bound in labels.aminmax())
    if low < 0 or high >= logits.shape[1]:
        raise LipscaleError(
            f"temperature: labels range from {low} to {high}; allowed: 0 to {logits.shape[1] - 1}, "
            f"as the logits have {logits.shape[1]} classes"
        )
    return logits, labels


def _tensor(values: Array, what: str) -> torch.Tensor:
    """A torch tensor as it is; anything else by way of numpy."""
    if isinstance(values, torch.Tensor):
        return values
    try:
        if isinstance(values, np.ndarray) and values.flags.c_contiguous and values.flags.writeable:
            return torch.from_numpy(values)
        return torch.tensor(np.array(values, order="C"))
    except (TypeError, ValueError, RuntimeError):
        raise LipscaleError(f"temperature: {what} are no array of numbers; allowed: a numpy array or a torch tensor") from None


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

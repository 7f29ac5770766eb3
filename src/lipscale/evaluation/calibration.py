"""Temperature and ECE of a trained network, by netcal, and our temperature compared with netcal's.

netcal (Kueppers et al., CVPRW 2020) takes probabilities and reports 1/T. In float32 it returns T = 1 without a warning, and it
treats two classes as a binary problem, so everything goes in as float64 and ECE as (confidence, correct) pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from unittest.mock import patch

import numpy as np
import torch
from netcal.metrics import ECE
from netcal.scaling import TemperatureScaling
from scipy.optimize import minimize

from lipscale.errors import LipscaleError
from lipscale.evaluation.logits import check_labels
from lipscale.evaluation.metrics import (
    BINS,
    accuracy,
    adaptive_ece,
    brier_scores,
    classwise_ece,
    probabilities,
    reliability,
    top_label,
)
from lipscale.method.temperature import finite_temperature, fit_temperature, nll

# with scipy's default tolerances, as in netcal, the optimiser stops percents away from T* where nearly all images are right
PATIENT = partial(minimize, options={"ftol": 1e-15, "gtol": 1e-10})
LARGEST_DISAGREEMENT = 0.01  # relative, of netcal's T and ours
LARGEST_CONFIRMED = 2**20  # logits that netcal is given, of which it makes many copies
SWEEP = np.geomspace(1e-5, 1e7, 241)  # values of L' = L / T, twenty a decade; of 1 / T where L is infinite
MEASURES = ("ece", "nll", "brier", "classwise_ece", "adaptive_ece")  # of the test split; they do not rest on T*
SUMMARY = (
    "temperature",
    "bounded",
    "netcal_temperature",
    *(name for measure in MEASURES for name in (measure, f"{measure}_scaled")),
    "validation_accuracy",
    "validation_ece",
    "validation_ece_scaled",
    "validation_nll",
)
SWEEP_COLUMNS = ("temperature", "ece")
RELIABILITY_COLUMNS = ("scaled", "temperature", "low", "high", "images", "confidence", "accuracy")


@dataclass(frozen=True)
class Calibration:
    """How well confidences match accuracy. T* and validation_... come from the validation split, all else from the test split.

    Attributes:
        held_out: whether the network was not trained on the validation split. If it was, no temperature is fitted there:
            T = 1, and calibration.json has no values that rest on T* or on the validation split.
        temperature: T*, limited to [1e-3, 1e3].
        bounded: whether T* had no value in that range.
        netcal_temperature: T* as netcal finds it; None where T* is bounded.
        ece, nll, brier, classwise_ece, adaptive_ece: of the logits as they are; see `lipscale.evaluation.metrics`.
        ece_scaled, nll_scaled, ...: of the logits divided by T*.
        validation_accuracy, validation_ece, ...: what a user has for choosing between networks without the test split.
        sweep: rows of SWEEP_COLUMNS, the ECE of the logits divided by many temperatures.
        reliability: rows of RELIABILITY_COLUMNS, the bins of the reliability diagrams.
    """

    temperature: float
    bounded: bool
    netcal_temperature: float | None
    ece: float
    ece_scaled: float
    nll: float
    nll_scaled: float
    brier: float
    brier_scaled: float
    classwise_ece: float
    classwise_ece_scaled: float
    adaptive_ece: float
    adaptive_ece_scaled: float
    validation_accuracy: float
    validation_ece: float
    validation_ece_scaled: float
    validation_nll: float
    sweep: list[dict]
    reliability: list[dict]
    held_out: bool = True

    def summary(self) -> dict:
        """What calibration.json holds."""
        known = SUMMARY if self.held_out else MEASURES
        return {name: getattr(self, name) if name in known else None for name in SUMMARY}


def calibrate(
    validation_logits: np.ndarray,
    validation_labels: np.ndarray,
    test_logits: np.ndarray,
    test_labels: np.ndarray,
    lipschitz: float,
    name: str = "network",
    held_out: bool = True,
) -> Calibration:
    """Fit T* on the validation split; measure calibration on the test split, before and after division by T*.

    Args:
        validation_logits, test_logits: (images, classes), float64.
        validation_labels, test_labels: (images,), integers.
        lipschitz: the enforced L, math.inf without constraint; the sweep is over L' = L / T, or over 1 / T.
        name: of the network, for messages.
        held_out: False where the network was trained on the validation split, so that T* cannot be fitted on it.

    Raises:
        LipscaleError: netcal's temperature and ours differ by more than 1 %.
    """
    check_labels(validation_labels, validation_logits)
    check_labels(test_labels, test_logits)
    measured = fit_temperature(torch.from_numpy(validation_logits), torch.from_numpy(validation_labels)) if held_out else 1.0
    temperature = finite_temperature(measured)
    bounded = temperature != measured
    confirm = held_out and not bounded
    plain, scaled = (measures(test_logits, test_labels, divisor) for divisor in (1.0, temperature))
    temperatures = (lipschitz if np.isfinite(lipschitz) else 1.0) / SWEEP
    return Calibration(
        temperature,
        bounded,
        netcal_temperature=_confirmed(validation_logits, validation_labels, measured, name) if confirm else None,
        **plain,
        **{f"{name}_scaled": value for name, value in scaled.items()},
        validation_accuracy=accuracy(validation_logits, validation_labels),
        validation_ece=netcal_ece(validation_logits, validation_labels),
        validation_ece_scaled=netcal_ece(validation_logits, validation_labels, temperature),
        validation_nll=nll(validation_logits, validation_labels),
        sweep=[{"temperature": float(t), "ece": netcal_ece(test_logits, test_labels, t)} for t in temperatures],
        reliability=[row for row in reliability_rows(test_logits, test_labels, temperature) if held_out or not row["scaled"]],
        held_out=held_out,
    )


def measures(logits: np.ndarray, labels: np.ndarray, temperature: float) -> dict[str, float]:
    """MEASURES of softmax(logits / temperature)."""
    return {
        "ece": netcal_ece(logits, labels, temperature),
        "nll": nll(logits, labels, temperature),
        "brier": float(brier_scores(logits, labels, temperature).mean()),
        "classwise_ece": classwise_ece(logits, labels, temperature),
        "adaptive_ece": adaptive_ece(logits, labels, temperature),
    }


def _confirmed(logits: np.ndarray, labels: np.ndarray, ours: float, name: str) -> float:
    """netcal's temperature; of a split with more logits than LARGEST_CONFIRMED, that of evenly spaced images.

    Raises:
        LipscaleError: it differs from ours for the same images.
    """
    step = -(-logits.size // LARGEST_CONFIRMED)
    if step > 1:
        logits, labels = logits[::step], labels[::step]
        ours = fit_temperature(logits, labels)
    theirs = netcal_temperature(logits, labels, near=ours)
    if abs(theirs / ours - 1) > LARGEST_DISAGREEMENT:
        raise LipscaleError(
            f"run {name}: netcal's temperature is {theirs:.6g} and ours {ours:.6g}; allowed: a difference of 1 %"
        )
    return theirs


def reliability_rows(logits: np.ndarray, labels: np.ndarray, temperature: float) -> Iterator[dict]:
    """A row for each bin of confidence, from `low` to `high`: of the logits as they are, then divided by the temperature.

    `confidence` and `accuracy` are None where no image has such a confidence.
    """
    for scaled, divisor in ((0, 1.0), (1, temperature)):
        for k, (images, *means) in enumerate(zip(*reliability(logits, labels, divisor), strict=True)):
            confidence, accuracy = (float(mean) if images else None for mean in means)
            row = (scaled, divisor, k / BINS, (k + 1) / BINS, int(images), confidence, accuracy)
            yield dict(zip(RELIABILITY_COLUMNS, row, strict=True))


def netcal_temperature(logits: np.ndarray, labels: np.ndarray, near: float) -> float:
    """T* as netcal finds it.

    netcal starts at T = 1 and clips probabilities at 2e-16, so the logits are first divided by 1.5 * `near`: nothing that
    matters is clipped, and netcal has to find 1 / 1.5 by itself (not 1 / 2, where its optimiser's first step would land).
    """
    unit = 1.5 * near
    scaled = probabilities(logits, unit)
    if scaled.shape[1] == 2:
        scaled = scaled[:, 1]
    scaler = TemperatureScaling()
    with patch.object(import_module("netcal.scaling.AbstractLogisticRegression"), "minimize", PATIENT):
        scaler.fit(scaled, labels)
    return unit / float(scaler.temperature[0])


def netcal_ece(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """ECE of the top label of softmax(logits / temperature), 15 equal-width bins."""
    confidence, predictions = top_label(logits, temperature)
    return float(ECE(BINS).measure(confidence, (predictions == labels).astype(int)))

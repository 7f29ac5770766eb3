"""Temperature and ECE of a trained network, by netcal, and our temperature compared with netcal's.

netcal (Kueppers et al., CVPRW 2020) takes probabilities and reports 1/T. In float32 it answers T = 1 without a word, and it
treats labels of two kinds as a binary problem, so everything goes in as float64 and ECE as (confidence, correct) pairs.
"""

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from netcal.metrics import ECE
from netcal.scaling import TemperatureScaling
from scipy.optimize import minimize

from lipscale.errors import LipscaleError
from lipscale.evaluation.metrics import BINS, probabilities, reliability
from lipscale.method.temperature import finite_temperature, fit_temperature, nll
from lipscale.store import files
from lipscale.store.checksums import seal
from lipscale.store.run_folder import final_lipschitz, read_logits

# scipy's default tolerances, which netcal takes, stop percents away from T* where nearly all images are right
PATIENT = partial(minimize, options={"ftol": 1e-15, "gtol": 1e-10})
LARGEST_DISAGREEMENT = 0.01  # relative, of netcal's T and ours
SWEEP = np.geomspace(
    1e-5, 1e7, 241
)  # values of L' = L / T for Figure 1's second curve, twenty a decade; of 1 / T where L is infinite


def calibrate(folder: Path) -> None:
    """Write calibration.json, reliability.csv and sweep.csv of a run from its logits: T* on validation, all else on test.

    Raises:
        LipscaleError: netcal's temperature and ours differ by more than 1 %.
    """
    arrays, lipschitz = read_logits(folder), final_lipschitz(folder)
    logits, labels = torch.from_numpy(arrays["test_logits"]), torch.from_numpy(arrays["test_labels"])
    measured = fit_temperature(torch.from_numpy(arrays["validation_logits"]), torch.from_numpy(arrays["validation_labels"]))
    temperature = finite_temperature(measured)
    bounded = temperature != measured
    theirs = None if bounded else netcal_temperature(arrays["validation_logits"], arrays["validation_labels"], near=measured)
    if theirs is not None and abs(theirs / temperature - 1) > LARGEST_DISAGREEMENT:
        raise LipscaleError(
            f"run {folder.name}: netcal's temperature is {theirs:.6g} and ours {temperature:.6g}; allowed: a difference of 1 %"
        )
    files.write_json(
        folder / "calibration.json",
        {
            "temperature": temperature,
            "bounded": bounded,
            "netcal_temperature": theirs,
            "ece": netcal_ece(arrays["test_logits"], arrays["test_labels"]),
            "ece_scaled": netcal_ece(arrays["test_logits"], arrays["test_labels"], temperature),
            "nll": nll(logits, labels),
            "nll_scaled": nll(logits, labels, temperature),
        },
    )
    files.write_rows(
        folder / "sweep.csv",
        ("temperature", "ece"),
        (
            {"temperature": float(t), "ece": netcal_ece(arrays["test_logits"], arrays["test_labels"], t)}
            for t in (lipschitz if np.isfinite(lipschitz) else 1.0) / SWEEP
        ),
    )
    files.write_rows(
        folder / "reliability.csv",
        ("scaled", "temperature", "low", "high", "images", "confidence", "accuracy"),
        reliability_rows(arrays["test_logits"], arrays["test_labels"], temperature),
    )
    for name in ("calibration.json", "sweep.csv", "reliability.csv"):
        seal(folder / name, made_from=[folder / "logits.npz", folder / "history.csv"])


def reliability_rows(logits: np.ndarray, labels: np.ndarray, temperature: float) -> Iterator[dict]:
    """A row for each bin of confidence, from `low` to `high`: of the logits as they are, then divided by the temperature.

    `confidence` and `accuracy` are empty where no image has such a confidence.
    """
    for scaled, divisor in ((0, 1.0), (1, temperature)):
        for k, (images, *means) in enumerate(zip(*reliability(probabilities(logits, divisor), labels), strict=True)):
            confidence, accuracy = (float(mean) if images else None for mean in means)
            yield {
                "scaled": scaled,
                "temperature": divisor,
                "low": k / BINS,
                "high": (k + 1) / BINS,
                "images": int(images),
                "confidence": confidence,
                "accuracy": accuracy,
            }


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
    scaled = probabilities(logits, temperature)
    return float(ECE(BINS).measure(scaled.max(axis=1), (scaled.argmax(axis=1) == labels).astype(int)))

"""Calibration under attack in the tables: bounds, and what an attack reached, of runs whose method has a constraint."""

from collections.abc import Iterator, Mapping

import pandas as pd

from lipscale.evaluation.metrics import brier_scores, expected_calibration_error, log_losses, probabilities
from lipscale.method.methods import METHODS
from lipscale.store.checksums import checked
from lipscale.store.run_folder import RunFolder
from lipscale.tables.intervals import Sampled, ece_sampled, means_sampled

MEASURES = (  # columns NAME_EPS and NAME_scaled_EPS of runs.csv
    "certified_nll",
    "certified_brier",
    "worst_case_ece",
    "attacked_nll",
    "attacked_brier",
    "attacked_ece",
    "evaluated_certified_nll",
    "evaluated_certified_brier",
    "evaluated_worst_case_ece",
    "validation_certified_nll",
)
CERTIFIED, ATTACKED = ("certified_nll", "certified_brier"), ("attacked_nll", "attacked_brier")  # means of columns of images


def has_bounds(folder: RunFolder) -> bool:
    return METHODS[folder.settings.method].constrained


def columns(folder: RunFolder) -> dict[str, float]:
    """The columns of runs.csv; none without constraint."""
    if not has_bounds(folder):
        return {}
    return _without_attack(folder) | {f"{name}{key}": one[name] for key, one in _cases(folder) for name in MEASURES}


def _without_attack(folder: RunFolder) -> dict[str, float]:
    """What the attack starts from: the measures of the images that it attacks, as they are."""
    chosen = [int(row["index"]) for row in folder.rows("attack.csv")]
    arrays = folder.logits()
    logits, labels, found = arrays["test_logits"][chosen], arrays["test_labels"][chosen], {}
    for suffix, temperature in {one["suffix"]: one["temperature"] for _, one in _cases(folder)}.items():
        found[f"evaluated_nll{suffix}"] = float(log_losses(logits, labels, temperature).mean())
        found[f"evaluated_brier{suffix}"] = float(brier_scores(logits, labels, temperature).mean())
        found[f"evaluated_ece{suffix}"] = expected_calibration_error(probabilities(logits, temperature), labels)
    return found


def sample(folder: RunFolder) -> dict[str, Sampled]:
    """The measures that have a confidence interval, for intervals.csv; none without constraint.

    The worst-case ECE has none: it is a maximum over all test images together.
    """
    if not has_bounds(folder):
        return {}
    table, keys = pd.read_csv(checked(folder / "calibration_attack.csv")), [key for key, _ in _cases(folder)]
    attacked = table[table[f"attacked_right{keys[0]}"].notna()]
    found = means_sampled(table[[f"{name}{key}" for key in keys for name in CERTIFIED]])
    found |= means_sampled(attacked[[f"{name}{key}" for key in keys for name in ATTACKED]])
    for key in keys:
        confidences, right = (attacked[f"attacked_{name}{key}"].to_numpy(float) for name in ("confidence", "right"))
        found[f"attacked_ece{key}"] = ece_sampled(confidences, right)
    return found


def band(folder: RunFolder) -> pd.DataFrame:
    """The rows of reliability_band.csv; none without constraint."""
    return pd.read_csv(checked(folder / "reliability_band.csv")) if has_bounds(folder) else pd.DataFrame()


def _cases(folder: RunFolder) -> Iterator[tuple[str, Mapping]]:
    """The end of the names of columns, such as `_36` or `_scaled_36`, and the numbers, of each budget and temperature."""
    if has_bounds(folder):
        for one in folder.json("calibration_attack.json")["cases"]:
            yield f"{one['suffix']}_{one['epsilon']}", one

"""The row of a run in runs.csv. Each group of columns is one function; a new column goes into one of them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from lipscale.errors import LipscaleError
from lipscale.store.provenance import in_words, listed
from lipscale.store.run_folder import RunFolder
from lipscale.tables import intervals, under_attack
from lipscale.tables.images import certified
from lipscale.tables.intervals import Sampled
from lipscale.units import distance

Row = dict[str, object]
PER_EPSILON = (  # also columns NAME_EPS of runs.csv
    "certified",
    "pair_certified",
    "evaluated_certified",
    "robust",
    "attacked",
    "spot_checked",
)
CALIBRATION = (  # names in calibration.json
    "ece",
    "ece_scaled",
    "nll",
    "nll_scaled",
    "brier",
    "brier_scaled",
    "classwise_ece",
    "classwise_ece_scaled",
    "adaptive_ece",
    "adaptive_ece_scaled",
    "validation_accuracy",
    "validation_ece",
    "validation_ece_scaled",
    "validation_nll",
)


@dataclass(frozen=True)
class RunResults:
    """What the row of a run is made from.

    Attributes:
        folder: of the run.
        images: joined test images, see `lipscale.tables.images.join_images`.
        epsilons: budgets of the attack in 1/255.
    """

    folder: RunFolder
    images: pd.DataFrame
    epsilons: Sequence[int]

    @cached_property
    def right(self) -> pd.Series:
        return self.images["label"] == self.images["prediction"]

    @cached_property
    def evaluated(self) -> pd.Series:
        return self.images[f"robust_{self.epsilons[0]}"].notna()

    @cached_property
    def sampled(self) -> dict[str, Sampled]:
        """The measures that have a confidence interval."""
        return intervals.sample(self.images, self.epsilons)


def run_row(results: RunResults) -> Row:
    """The row of runs.csv; accuracies and ECE are fractions."""
    groups = (
        identity, constants, calibration, accuracy, robustness, calibration_under_attack, confidence_intervals, costs, origin
    )  # fmt: skip
    return {name: value for group in groups for name, value in group(results).items()}


def identity(results: RunResults) -> Row:
    settings = results.folder.settings
    return {
        "run": settings.run,
        "setting": settings.setting,
        "method": settings.method,
        "variant": settings.variant,
        "initial_lipschitz": float(settings.initial_lipschitz),
        "offset": float(settings.training.offset),
        "seed": settings.seed,
    }


def constants(results: RunResults) -> Row:
    """Raises LipscaleError where the model does not have the L that its history ends with."""
    lipschitz, certificate = results.folder.final_lipschitz(), results.folder.json("certificate.json")
    if float(certificate["lipschitz"]) != lipschitz:
        raise LipscaleError(
            f"run {results.folder.name}: its model has L = {certificate['lipschitz']}, and its history ends with {lipschitz}; "
            "delete the folder of the run and rerun the workflow"
        )
    return {"lipschitz": lipschitz, "lipschitz_certified": float(certificate["lipschitz_certified"])}


def calibration(results: RunResults) -> Row:
    """Raises LipscaleError where an older version evaluated the run."""
    found = results.folder.json("calibration.json")
    missing = [name for name in CALIBRATION if name not in found]
    if missing:
        path = results.folder / "calibration.json"
        raise LipscaleError(
            f"{path} has no {', '.join(missing)}, as an older version wrote it; delete it and rerun the workflow"
        )
    of_split = {"temperature": _number(found["temperature"]), "clean_accuracy": results.right.mean()}
    return of_split | {name: _number(found[name]) for name in CALIBRATION}


def _number(value: float | None) -> float:
    """NaN where a value rests on T*, and the network was trained on the validation split."""
    return math.nan if value is None else value


def accuracy(results: RunResults) -> Row:
    return {
        "images": len(results.images),
        "evaluated_images": int(results.evaluated.sum()),
        "evaluated_clean_accuracy": results.right[results.evaluated].mean(),
    }


def robustness(results: RunResults) -> Row:
    """The rows of robustness.csv side by side."""
    return {f"{name}_{row['epsilon']}": row[name] for row in robustness_rows(results) for name in PER_EPSILON}


def robustness_rows(results: RunResults) -> Iterator[Row]:
    """The rows of robustness.csv, one per epsilon: what was certified of all images, and robust of the evaluated ones."""
    images, key = results.images, identity(results)
    for epsilon in results.epsilons:
        attacked, by_radius = images[f"attacked_{epsilon}"] == 1, images["radius"] >= distance(epsilon)
        yield key | {
            "epsilon": epsilon,
            "evaluated_images": int(results.evaluated.sum()),
            "certified": by_radius.mean(),
            "pair_certified": (images["pair_radius"] >= distance(epsilon)).mean(),
            "evaluated_certified": by_radius[results.evaluated].mean(),
            "robust": images[f"robust_{epsilon}"].mean(),
            "attacked": int(attacked.sum()),
            "spot_checked": int((attacked & certified(images, epsilon)).sum()),
        }


def calibration_under_attack(results: RunResults) -> Row:
    return under_attack.columns(results.folder)


def confidence_intervals(results: RunResults) -> Row:
    return intervals.columns(results.sampled)


def costs(results: RunResults) -> Row:
    training, attack = results.folder.json("provenance.json"), results.folder.json("attack.json")
    return {
        "attack": attack["attack"],
        "train_seconds": training["seconds"],
        "feedback_seconds": training["feedback_seconds"],
        "attack_seconds": attack["seconds"],
    }


def origin(results: RunResults) -> Row:
    found = results.folder.json("provenance.json")
    return {
        "device": found["device"],
        "machine": in_words(found["machine"]),
        "config_hash": found["config_hash"],
        "data_sha256": found["data_sha256"],
        "commit": found["commit"],
        "versions": listed(found["versions"]),
    }

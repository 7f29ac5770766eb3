"""The test images of a run: confidence, radius and attack of each, joined, and the order certified <= robust <= clean."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from lipscale.errors import LipscaleError
from lipscale.evaluation.metrics import bin_of, brier_scores, log_losses, top_label
from lipscale.store.checksums import checked
from lipscale.store.run_folder import RunFolder
from lipscale.tables.curves import LARGEST_EPSILON
from lipscale.units import distance

SOURCES = ("radii.csv", "attack.csv", "logits.npz", "calibration.json")  # of images.csv
DIGITS = 3  # decimals of confidences and radii in the table of all images; more near an edge
SATURATED = 0.99995  # only confidences beyond become 1, as rounding many of them upwards would change the ECE


def join_images(folder: RunFolder) -> pd.DataFrame:
    """radii.csv with `scores` and the columns of attack.csv; those are empty where an image was not evaluated."""
    radii, attacked = pd.read_csv(checked(folder / "radii.csv")), pd.read_csv(checked(folder / "attack.csv"), dtype="Int64")
    return radii.assign(**scores(folder)).merge(attacked, on="index", how="left", validate="one_to_one")


def scores(folder: RunFolder) -> dict[str, np.ndarray]:
    """Of each test image: confidence of the top label, NLL and Brier score, of the logits as they are and divided by T*.

    The latter are NaN where there is no T*, as the validation split was returned to training.
    """
    arrays, temperature = folder.logits(), folder.json("calibration.json")["temperature"]
    logits, labels = arrays["test_logits"], arrays["test_labels"]
    measures = {
        "confidence": top_label(logits)[0],
        "scaled_confidence": top_label(logits, temperature or 1.0)[0],
        "nll": log_losses(logits, labels),
        "nll_scaled": log_losses(logits, labels, temperature or 1.0),
        "brier": brier_scores(logits, labels),
        "brier_scaled": brier_scores(logits, labels, temperature or 1.0),
    }
    return measures if temperature else {name: values if "scaled" not in name else np.nan for name, values in measures.items()}


def compact(images: pd.DataFrame, epsilons: Sequence[int], run: str) -> pd.DataFrame:
    """The rows of a run in the table of all images: what accuracies and ECE follow from, with few digits.

    Certified accuracy at each whole number of 1/255 does not change, nor does the number of images in a bin. ECE changes by
    less than 5e-4, and by some 3e-5 where rounding errors cancel.
    """
    edges = distance(np.arange(LARGEST_EPSILON + 1))
    columns = {"run": run, "image": images["index"], "right": (images["label"] == images["prediction"]).astype(int)}
    columns |= {
        name: rounded(images[name].to_numpy(), lambda values: 2 * bin_of(values) + (values > SATURATED))
        if images[name].notna().all()
        else np.nan
        for name in ("confidence", "scaled_confidence")
    }
    columns |= {
        name: rounded(images[name].to_numpy(), lambda radii: np.searchsorted(edges, radii, side="right"))
        for name in ("radius", "pair_radius")
    }
    return pd.DataFrame(columns | {f"robust_{epsilon}": images[f"robust_{epsilon}"] for epsilon in epsilons})


def rounded(values: np.ndarray, side: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Values with DIGITS decimals; with more where rounding would move one to another bin or across a radius, by `side`."""
    exact, found = side(values), np.round(values, DIGITS)
    for digits in range(DIGITS + 1, 16):
        moved = side(found) != exact
        found[moved] = np.round(values[moved], digits)
    moved = side(found) != exact
    found[moved] = values[moved]
    return found


def certified(images: pd.DataFrame, epsilon: int) -> pd.Series:
    """Which images are certified at an epsilon by either radius."""
    return images[["radius", "pair_radius"]].max(axis=1) >= distance(epsilon)


def check_order(images: pd.DataFrame, epsilons: Sequence[int], run: str) -> None:
    """Per image: certified at eps, by either radius, implies robust at eps, and robust implies right.

    Raises:
        LipscaleError: it does not, for the images that are named.
    """
    right = images["label"] == images["prediction"]
    for epsilon in epsilons:
        evaluated = images[images[f"robust_{epsilon}"].notna()]
        robust = evaluated[f"robust_{epsilon}"] == 1
        for wrong, sentence in (
            (certified(evaluated, epsilon) & ~robust, "certified, yet broken by the attack"),
            (robust & ~right[evaluated.index], "called robust, yet misclassified"),
        ):
            if wrong.any():
                names = ", ".join(map(str, evaluated["index"][wrong]))
                raise LipscaleError(f"run {run}: test images {names} are {sentence} at {epsilon}/255; this must not happen")

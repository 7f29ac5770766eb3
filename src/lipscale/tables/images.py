"""The test images of a run: radius and attack of each, joined, and the order certified <= robust <= clean."""

from collections.abc import Sequence

import pandas as pd

from lipscale.errors import LipscaleError
from lipscale.store.checksums import checked
from lipscale.store.run_folder import RunFolder
from lipscale.units import distance


def join_images(folder: RunFolder) -> pd.DataFrame:
    """radii.csv with the columns of attack.csv; empty where an image was not evaluated."""
    attacked = pd.read_csv(checked(folder / "attack.csv"), dtype="Int64")
    return pd.read_csv(checked(folder / "radii.csv")).merge(attacked, on="index", how="left", validate="one_to_one")


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

"""Tables: the rows of all runs, joined. Figures and verdicts read nothing else.

images.csv   per run: a row per test image, with its radius and whether AutoAttack broke it
runs.csv     a row per run
history.csv  a row per run and epoch
feedback.csv a row per run and measurement of T*
sweep.csv    a row per run and post-hoc temperature
"""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lipscale import config, files
from lipscale.errors import LipscaleError
from lipscale.run_folder import final_lipschitz, read_settings

KEY = ("run", "method", "initial_lipschitz", "seed")


def tabulate(folders: Sequence[Path], epsilons: Sequence[int], tables: Path) -> None:
    """Write images.csv into each run's folder and the other tables into `tables`.

    Raises:
        LipscaleError: the order certified <= robust <= clean is broken for some image, which a sound certificate rules out.
    """
    runs, parts = [], {"history": [], "feedback": [], "sweep": []}
    for folder in folders:
        images = join_images(folder)
        check_order(images, epsilons, folder.name)
        _write(images, folder / "images.csv")
        row = run_row(folder, images, epsilons)
        runs.append(row)
        key = {name: row[name] for name in KEY}
        for name, tables_of_runs in parts.items():
            tables_of_runs.append(pd.read_csv(folder / f"{name}.csv").assign(**key))
        parts["sweep"][-1]["lipschitz"] = row["lipschitz"]
    _write(pd.DataFrame(runs), tables / "runs.csv")
    for name, tables_of_runs in parts.items():
        table = pd.concat(tables_of_runs)
        _write(table[[*KEY, *(column for column in table if column not in KEY)]], tables / f"{name}.csv")


def join_images(folder: Path) -> pd.DataFrame:
    """radii.csv with the columns of attack.csv; empty where an image was not evaluated."""
    attacked = pd.read_csv(folder / "attack.csv", dtype="Int64")
    return pd.read_csv(folder / "radii.csv").merge(attacked, on="index", how="left", validate="one_to_one")


def check_order(images: pd.DataFrame, epsilons: Sequence[int], run: str) -> None:
    """Per image: certified at eps implies robust at eps, and robust implies right. Raises LipscaleError, naming the images."""
    right = images["label"] == images["prediction"]
    for epsilon in epsilons:
        evaluated = images[images[f"robust_{epsilon}"].notna()]
        robust = evaluated[f"robust_{epsilon}"] == 1
        certified = evaluated["radius"] >= epsilon / 255
        for wrong, sentence in (
            (certified & ~robust, "certified, yet broken by the attack"),
            (robust & ~right[evaluated.index], "called robust, yet misclassified"),
        ):
            if wrong.any():
                names = ", ".join(map(str, evaluated["index"][wrong]))
                raise LipscaleError(f"run {run}: test images {names} are {sentence} at {epsilon}/255; this must not happen")


def run_row(folder: Path, images: pd.DataFrame, epsilons: Sequence[int]) -> dict:
    """The row of runs.csv for a run; accuracies and ECE are fractions."""
    settings = read_settings(folder)
    calibration = files.read_json(folder / "calibration.json")
    provenance = files.read_json(folder / "provenance.json")
    attack = files.read_json(folder / "attack.json")
    if provenance["config_hash"] != config.digest(settings):
        raise LipscaleError(f"run {folder.name}: its config.yaml is not the one it was trained with; train it anew")
    right = images["label"] == images["prediction"]
    evaluated = images[f"robust_{epsilons[0]}"].notna()
    row = {
        "run": settings["run"],
        "method": settings["method"],
        "initial_lipschitz": math.inf if settings["initial_lipschitz"] is None else settings["initial_lipschitz"],
        "seed": settings["seed"],
        "lipschitz": final_lipschitz(folder),
        "temperature": calibration["temperature"],
        "clean_accuracy": right.mean(),
        "ece": calibration["ece"],
        "ece_scaled": calibration["ece_scaled"],
        "nll": calibration["nll"],
        "nll_scaled": calibration["nll_scaled"],
        "images": len(images),
        "evaluated_images": int(evaluated.sum()),
        "evaluated_clean_accuracy": right[evaluated].mean(),
    }
    for epsilon in epsilons:
        certified, attacked = images["radius"] >= epsilon / 255, images[f"attacked_{epsilon}"] == 1
        row[f"certified_{epsilon}"] = certified.mean()
        row[f"robust_{epsilon}"] = images[f"robust_{epsilon}"].mean()
        row[f"attacked_{epsilon}"] = int(attacked.sum())
        row[f"audited_{epsilon}"] = int((attacked & certified).sum())
    return row | {
        "attack": attack["attack"],
        "train_seconds": provenance["seconds"],
        "feedback_seconds": provenance["feedback_seconds"],
        "attack_seconds": attack["seconds"],
        "device": provenance["device"],
        "config_hash": provenance["config_hash"],
        "data_sha256": provenance["data_sha256"],
        "commit": provenance["commit"],
        "versions": " ".join(f"{name}={version}" for name, version in provenance["versions"].items()),
    }


def _write(table: pd.DataFrame, path: Path) -> None:
    with files.atomic(path) as temporary:
        table.to_csv(temporary, index=False)

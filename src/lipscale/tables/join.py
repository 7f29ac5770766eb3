"""Tables: the rows of all runs, joined. Figures and verdicts read nothing else.

images.csv      per run: a row per test image, with its radius and whether AutoAttack broke it
runs.csv        a row per run
history.csv     a row per run and epoch
feedback.csv    a row per run and measurement of T*
sweep.csv       a row per run and post-hoc temperature
reliability.csv a row per run, bin of confidence, and before or after temperature scaling
certified.csv   a row per run and radius
audit.csv       a row per run whose certificates were attacked; made by itself
config.yaml     the checked config that all of them come from
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lipscale import config
from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.store.checksums import checked, seal
from lipscale.store.provenance import in_words, listed
from lipscale.store.run_folder import check_data, final_lipschitz, read_settings

KEY = ("run", "method", "initial_lipschitz", "seed")
PARTS = ("history", "feedback", "sweep", "reliability")  # tables that are the runs' files of that name, joined
LARGEST_EPSILON = 1020  # in 1/255, of certified.csv: an l2 distance of 4 in pixels


def tabulate(folders: Sequence[Path], wanted: Mapping, data: Path, tables: Path) -> None:
    """Write images.csv into each run's folder and the other tables into `tables`.

    Args:
        folders: of the runs.
        wanted: the checked config that they must come from, see `check_origin`.
        data: folder of the prepared data set.
        tables: folder of the tables.

    Raises:
        LipscaleError: a file is altered or from another config; or the order certified <= robust <= clean is broken for some
            image, which a sound certificate rules out.
    """
    epsilons = wanted["evaluation"]["epsilons"]
    check_origin(folders, wanted, data)
    runs, parts = [], {name: [] for name in (*PARTS, "certified")}
    for folder in folders:
        images = join_images(folder)
        check_order(images, epsilons, folder.name)
        _write(images, folder / "images.csv")
        seal(folder / "images.csv", made_from=[folder / "radii.csv", folder / "attack.csv"])
        row = run_row(folder, images, epsilons)
        runs.append(row)
        key = {name: row[name] for name in KEY}
        for name in PARTS:
            parts[name].append(pd.read_csv(checked(folder / f"{name}.csv")).assign(**key))
        parts["certified"].append(certified_curve(images).assign(**key))
        parts["sweep"][-1][["lipschitz", "lipschitz_certified"]] = row["lipschitz"], row["lipschitz_certified"]
    _write(pd.DataFrame(runs), tables / "runs.csv")
    for name, tables_of_runs in parts.items():
        table = pd.concat(tables_of_runs)
        _write(table[[*KEY, *(column for column in table if column not in KEY)]], tables / f"{name}.csv")
    files.write_text(tables / "config.yaml", yaml.safe_dump(dict(wanted), sort_keys=False, allow_unicode=True))
    for name in ("runs.csv", *(f"{name}.csv" for name in parts), "config.yaml"):
        seal(tables / name)


def check_origin(folders: Sequence[Path], wanted: Mapping, data: Path) -> None:
    """Raises LipscaleError where a run, its attack or the data set was made with other settings than a config asks for.

    Snakemake sees a changed setting and makes anew what depends on it, but only as long as its records lie beside the results.
    """
    manifest = files.read_json(checked(data / "manifest.json"))
    _compare(data / "manifest.json", manifest["settings"], wanted["dataset"])
    settings = {run["run"]: run for run in config.runs(wanted)}
    for folder in folders:
        check_data(folder, manifest["arrays_sha256"])
        _compare(folder / "config.yaml", read_settings(folder), settings[folder.name])
        attack = files.read_json(checked(folder / "attack.json"))
        names = {"epsilons": "epsilons", "images": "attack_images", "audit": "audit_images", "seed": "attack_seed"}
        expected = {name: wanted["evaluation"][key] for name, key in names.items()}
        expected["epsilons"] = sorted(expected["epsilons"])
        _compare(folder / "attack.json", {name: attack[name] for name in names}, expected)


def _compare(path: Path, found: Mapping, wanted: Mapping, key: str = "") -> None:
    for name in sorted({*found, *wanted} - {"path", "largest_unpacked_gib"}):  # where images lie does not change them
        where, values = f"{key}{name}", (found.get(name), wanted.get(name))
        if all(isinstance(value, Mapping) for value in values):
            _compare(path, *values, f"{where}.")
        elif values[0] != values[1]:
            raise LipscaleError(
                f"{path} was made with {where} = {values[0]!r}, and the config says {values[1]!r}; "
                "remove it, and it is made anew"
            )


def join_images(folder: Path) -> pd.DataFrame:
    """radii.csv with the columns of attack.csv; empty where an image was not evaluated."""
    attacked = pd.read_csv(checked(folder / "attack.csv"), dtype="Int64")
    return pd.read_csv(checked(folder / "radii.csv")).merge(attacked, on="index", how="left", validate="one_to_one")


def check_order(images: pd.DataFrame, epsilons: Sequence[int], run: str) -> None:
    """Per image: certified at eps, by either radius, implies robust at eps, and robust implies right.

    Raises:
        LipscaleError: it does not, for the images that are named.
    """
    right = images["label"] == images["prediction"]
    for epsilon in epsilons:
        evaluated = images[images[f"robust_{epsilon}"].notna()]
        robust = evaluated[f"robust_{epsilon}"] == 1
        certified = evaluated[["radius", "pair_radius"]].max(axis=1) >= epsilon / 255
        for wrong, sentence in (
            (certified & ~robust, "certified, yet broken by the attack"),
            (robust & ~right[evaluated.index], "called robust, yet misclassified"),
        ):
            if wrong.any():
                names = ", ".join(map(str, evaluated["index"][wrong]))
                raise LipscaleError(f"run {run}: test images {names} are {sentence} at {epsilon}/255; this must not happen")


def certified_curve(images: pd.DataFrame) -> pd.DataFrame:
    """Share of images that are right with a radius of at least epsilon / 255: `epsilon` = 0, 1, ... to where none is."""
    radii = np.sort(images["radius"][images["label"] == images["prediction"]])
    epsilons = np.arange(LARGEST_EPSILON + 1)
    certified = len(radii) - np.searchsorted(radii, epsilons / 255)  # radii that are not smaller
    kept = np.append(True, certified[:-1] > 0)
    return pd.DataFrame({"epsilon": epsilons, "certified_accuracy": certified / len(images)})[kept]


def run_row(folder: Path, images: pd.DataFrame, epsilons: Sequence[int]) -> dict:
    """The row of runs.csv for a run; accuracies and ECE are fractions."""
    settings = read_settings(folder)
    calibration, provenance, attack, certificate = (
        files.read_json(checked(folder / f"{name}.json")) for name in ("calibration", "provenance", "attack", "certificate")
    )
    lipschitz = final_lipschitz(folder)
    if certificate["lipschitz"] != (lipschitz if math.isfinite(lipschitz) else None):
        raise LipscaleError(
            f"run {folder.name}: its model has L = {certificate['lipschitz']}, and its history ends with {lipschitz}; "
            "remove both, and they are made anew"
        )
    right = images["label"] == images["prediction"]
    evaluated = images[f"robust_{epsilons[0]}"].notna()
    row = {
        "run": settings["run"],
        "method": settings["method"],
        "initial_lipschitz": math.inf if settings["initial_lipschitz"] is None else settings["initial_lipschitz"],
        "seed": settings["seed"],
        "lipschitz": lipschitz,
        "lipschitz_certified": certificate["lipschitz_certified"],
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
        row[f"pair_certified_{epsilon}"] = (images["pair_radius"] >= epsilon / 255).mean()
        row[f"robust_{epsilon}"] = images[f"robust_{epsilon}"].mean()
        row[f"attacked_{epsilon}"] = int(attacked.sum())
        row[f"audited_{epsilon}"] = int((attacked & certified).sum())
    return row | {
        "attack": attack["attack"],
        "train_seconds": provenance["seconds"],
        "feedback_seconds": provenance["feedback_seconds"],
        "attack_seconds": attack["seconds"],
        "device": provenance["device"],
        "machine": in_words(provenance["machine"]),
        "config_hash": provenance["config_hash"],
        "data_sha256": provenance["data_sha256"],
        "commit": provenance["commit"],
        "versions": listed(provenance["versions"]),
    }


def tabulate_audits(folders: Sequence[Path], tables: Path) -> None:
    """Write audit.csv, a row per run: how many certificates were attacked, by what, for how long, and whether one broke."""
    rows = []
    for folder in folders:
        audit = files.read_json(checked(folder / "audit.json"))
        attacks, commit = "AutoAttack's " + ", ".join(audit["attacks"][:-1]) + f"; {audit['attacks'][-1]}", audit["commit"]
        settings = read_settings(folder)
        rows.append(
            {name: settings[name] for name in KEY}
            | {name: audit[name] for name in ("images", "broken", "smallest_margin_left", "median_margin_left", "seconds")}
            | {f"{split}_images": count for split, count in audit["per_split"].items()}
            | {"share_of_radius": audit["share_of_radius"], "attacks": attacks, "device": audit["device"], "commit": commit}
        )
    _write(pd.DataFrame(rows), tables / "audit.csv")
    seal(tables / "audit.csv")


def _write(table: pd.DataFrame, path: Path) -> None:
    with files.atomic(path) as temporary:
        table.to_csv(temporary, index=False)

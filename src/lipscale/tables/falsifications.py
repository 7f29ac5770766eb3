"""falsification.csv: a row per network whose certificates were attacked, each image at its own radius."""

from pathlib import Path

import pandas as pd

from lipscale.store import checksums, files
from lipscale.store.run_folder import ExperimentFolder, RunFolder
from lipscale.tables.reader import method

MEASURES = ("images", "broken", "smallest_margin_left", "median_margin_left", "seconds")


def tabulate_falsifications(experiment: Path) -> None:
    """Write tables/falsification.csv from the falsification.json of each run whose method enforces L.

    Args:
        experiment: results/<experiment>.

    Raises:
        LipscaleError: one is missing or altered.
    """
    write_falsifications(ExperimentFolder(experiment))


def write_falsifications(experiment: ExperimentFolder) -> None:
    rows = [falsification_row(folder) for folder in experiment.runs if method(folder.settings.method).constrained]
    path = experiment.tables / "falsification.csv"
    files.write_table(pd.DataFrame(rows), path)
    checksums.record(path)


def falsification_row(folder: RunFolder) -> dict:
    """How many certificates were attacked, by what, for how long, and whether one broke."""
    settings, found = folder.settings, folder.json("falsification.json")
    return {
        "run": settings.run,
        "method": settings.method,
        "initial_lipschitz": float(settings.initial_lipschitz),
        "seed": settings.seed,
        **{name: found[name] for name in MEASURES},
        **{f"{split}_images": count for split, count in found["per_split"].items()},
        "share_of_radius": found["share_of_radius"],
        "attacks": "AutoAttack's " + ", ".join(found["attacks"][:-1]) + f"; {found['attacks'][-1]}",
        "device": found["device"],
        "commit": found["commit"],
    }

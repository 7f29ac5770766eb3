"""LiST under different settings side by side: where L ends, how calibrated and how certified the networks are."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from lipscale.errors import LipscaleError
from lipscale.report.figures.style import short
from lipscale.store import files
from lipscale.store.checksums import checked
from lipscale.store.run_folder import final_lipschitz, read_settings

SECTIONS = ("network", "training", "feedback")
MEASURES = ("lipschitz", "lipschitz_certified", "last_temperature", "clean_accuracy", "ece")


def compare(experiments: Sequence[Path], epsilons: Sequence[int], folder: Path) -> None:
    """Write comparison.csv, a row per LiST run, and comparison.md, a row per experiment and L0 (means over seeds).

    Args:
        experiments: folders results/<experiment> whose LiST runs have been calibrated and certified (`snakemake measure`).
        epsilons: of the certified accuracies, in 1/255.
        folder: where both are written.

    Raises:
        LipscaleError: an experiment has no such runs.
    """
    rows, settings = [], {}
    for experiment in experiments:
        runs = [path.parent for path in sorted(experiment.glob("runs/list-*/radii.csv"))]
        if not runs:
            raise LipscaleError(f"{experiment} has no certified LiST runs; allowed: an experiment after `snakemake measure`")
        settings[experiment.name] = dict(_leaves({section: read_settings(runs[0])[section] for section in SECTIONS}))
        rows += [{"experiment": experiment.name, **_row(run, epsilons)} for run in runs]
    table = pd.DataFrame(rows)
    changed = [key for key in settings[experiments[0].name] if len({str(one.get(key)) for one in settings.values()}) > 1]
    for key in changed:
        table.insert(1, key, table["experiment"].map({name: str(one.get(key)) for name, one in settings.items()}))
    with files.atomic(folder / "comparison.csv") as temporary:
        table.to_csv(temporary, index=False)

    columns = [*changed, "initial_lipschitz", *MEASURES, *(f"certified_{epsilon}" for epsilon in epsilons)]
    lines = ["| " + " | ".join(["experiment", *columns, "seeds"]) + " |", "|---" * (len(columns) + 2) + "|"]
    for (name, start), part in table.groupby(["experiment", "initial_lipschitz"], sort=False):
        cells = [str(settings[name].get(key)) for key in changed]
        cells += [short(start), *(short(part[measure].mean()) for measure in columns[len(changed) + 1 :]), str(len(part))]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    files.write_text(folder / "comparison.md", "\n".join(lines) + "\n")


def _leaves(value: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _row(run: Path, epsilons: Sequence[int]) -> dict:
    settings, images = read_settings(run), pd.read_csv(checked(run / "radii.csv"))
    provenance = files.read_json(checked(run / "provenance.json"))
    row = {
        "initial_lipschitz": settings["initial_lipschitz"],
        "seed": settings["seed"],
        "lipschitz": final_lipschitz(run),
        "lipschitz_certified": files.read_json(checked(run / "certificate.json"))["lipschitz_certified"],
        "last_temperature": float(files.read_rows(run / "history.csv")[-1]["temperature"]),
        "clean_accuracy": (images["label"] == images["prediction"]).mean(),
        "ece": files.read_json(checked(run / "calibration.json"))["ece"],
    }
    row |= {f"certified_{epsilon}": (images["radius"] >= epsilon / 255).mean() for epsilon in epsilons}
    return row | {key: provenance[key] for key in ("seconds", "feedback_seconds", "config_hash", "data_sha256", "commit")}

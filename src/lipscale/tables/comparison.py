"""LiST under different settings side by side: where L ends, how calibrated and how certified the networks are."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.store.checksums import checked
from lipscale.store.run_folder import ExperimentFolder, RunFolder
from lipscale.tables.reader import method
from lipscale.text import markdown_table
from lipscale.units import distance

SECTIONS = ("network", "training", "feedback")
MEASURES = ("lipschitz", "lipschitz_certified", "last_temperature", "clean_accuracy", "ece")
ORIGIN = ("seconds", "feedback_seconds", "config_hash", "data_sha256", "commit")


def compare(experiments: Sequence[Path], epsilons: Sequence[int], folder: Path) -> None:
    """Write comparison.csv, a row per LiST run, and comparison.md, a row per experiment, L0 and offset (means over seeds).

    Args:
        experiments: folders results/<experiment> whose LiST runs have been evaluated (`snakemake measure`).
        epsilons: of the certified accuracies, in 1/255.
        folder: where both are written.

    Raises:
        LipscaleError: an experiment has no such runs.
    """
    write_comparison([ExperimentFolder(path) for path in experiments], epsilons, folder)


def write_comparison(experiments: Sequence[ExperimentFolder], epsilons: Sequence[int], folder: Path) -> None:
    rows, settings = [], {}
    for experiment in experiments:
        runs = _evaluated_runs(experiment)
        settings[experiment.path.name] = _settings(runs[0])
        rows += [{"experiment": experiment.path.name, **comparison_row(run, epsilons)} for run in runs]
    table, first = pd.DataFrame(rows), next(iter(settings.values()))
    changed = [key for key in first if len({str(one.get(key)) for one in settings.values()}) > 1]
    for key in changed:
        table.insert(1, key, table["experiment"].map({name: str(one.get(key)) for name, one in settings.items()}))
    files.write_table(table, folder / "comparison.csv")

    means = [*MEASURES, *(f"certified_{epsilon}" for epsilon in epsilons)]
    lines = []
    for (name, start, offset), part in table.groupby(["experiment", "initial_lipschitz", "offset"], sort=False):
        changes = [str(settings[name].get(key)) for key in changed]
        values = (float(part[measure].mean()) for measure in means)
        lines.append([name, *changes, float(start), float(offset), *values, len(part)])
    columns = ["experiment", *changed, "initial_lipschitz", "offset", *means, "seeds"]
    files.write_text(folder / "comparison.md", markdown_table(columns, lines))


def _evaluated_runs(experiment: ExperimentFolder) -> list[RunFolder]:
    """Runs with feedback that have radii, in the order of their names."""
    runs = [run for run in experiment.runs if (run / "radii.csv").exists() and method(run.settings.method).feedback]
    if not runs:
        raise LipscaleError(f"{experiment.path} has no certified LiST runs; allowed: an experiment after `snakemake measure`")
    return sorted(runs, key=lambda run: run.name)


def _settings(run: RunFolder) -> dict[str, object]:
    """The settings that may differ between experiments, by keys such as `training.epochs`."""
    sections = run.settings.model_dump(mode="json")
    return dict(_leaves({section: sections[section] for section in SECTIONS}))


def _leaves(value: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, item in value.items():
        if isinstance(item, Mapping):
            yield from _leaves(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def comparison_row(run: RunFolder, epsilons: Sequence[int]) -> dict:
    """The row of a run in comparison.csv, without its experiment."""
    images, provenance = pd.read_csv(checked(run / "radii.csv")), run.json("provenance.json")
    return {
        "initial_lipschitz": float(run.settings.initial_lipschitz),
        "offset": float(run.settings.training.offset),
        "seed": run.settings.seed,
        "lipschitz": run.final_lipschitz(),
        "lipschitz_certified": run.json("certificate.json")["lipschitz_certified"],
        "last_temperature": float(run.rows("history.csv")[-1]["temperature"] or "nan"),
        "clean_accuracy": (images["label"] == images["prediction"]).mean(),
        "ece": run.json("calibration.json")["ece"],
        **{f"certified_{epsilon}": (images["radius"] >= distance(epsilon)).mean() for epsilon in epsilons},
        **{key: provenance[key] for key in ORIGIN},
    }

"""Published tables, extended by those of other runs of the same experiment, such as seeds that were trained elsewhere or later.

The folders of the published runs need not exist. So the reliability diagrams and certified curves of these runs, and the
intervals of settings with new seeds, are made from images.csv.gz, which has few digits. Accuracies and ECE follow from it;
other measures of such settings get no interval.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from lipscale.errors import LipscaleError
from lipscale.evaluation.metrics import BINS, in_bins
from lipscale.store import checksums, files
from lipscale.tables import intervals
from lipscale.tables.curves import certified_curve
from lipscale.tables.key import KEY, SETTING
from lipscale.tables.origin import differences
from lipscale.tables.reader import Tables

JOINED = ("history", "feedback", "sweep", "reliability_band")  # beside runs.csv
OPTIONAL = "falsification"
MAY_DIFFER = ("experiment", "runs", "figures", "compute", "evaluation.falsify_images")  # sections of the config, and a key
IN_COMPUTE = ("compute.precision", "compute.compile")  # must be equal all the same: weights depend on them


def write_extended(published: Path, new: Path, output: Path) -> None:
    """Write the tables of both into the folder `output`, with checksums; config.yaml is the published one, with all seeds.

    Args:
        published: folder of published tables.
        new: results/<experiment>/tables, of other runs.
        output: an empty folder.

    Raises:
        LipscaleError: a table is missing, they have a run in common, or they differ in settings, data or test images.
    """
    old_tables, new_tables = Tables(published, check=False), Tables(new)
    check_alike(published, old_tables, new_tables)
    found = extended(old_tables, new_tables)
    for name, table in found.items():
        path = output / ("images.csv.gz" if name == "images" else f"{name}.csv")
        files.write_table(table, path)
        checksums.record(path)
    settings = dict(old_tables.config)
    settings["runs"] = settings["runs"] | {"seeds": sorted(map(int, found["runs"]["seed"].unique()))}
    files.write_text(output / "config.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    checksums.record(output / "config.yaml")


def check_alike(published: Path, old: Tables, new: Tables) -> None:
    """Raises LipscaleError where runs cannot be told apart, or results cannot be compared."""
    if common := [run for run in new.runs["run"] if run in set(old.runs["run"])]:
        raise LipscaleError(f"publish: {published} has {', '.join(common)} already; allowed with --add: other runs")
    for key, before, now in (*differences(old.config, new.config), *_other_rates(old.config, new.config)):
        if key in IN_COMPUTE or not {key, key.partition(".")[0]} & set(MAY_DIFFER):
            raise LipscaleError(
                f"publish: the runs in {published} were made with {key} = {before!r}, the new ones with {now!r}; "
                "allowed with --add: the same settings"
            )
    if len(data := {*old.runs["data_sha256"], *new.runs["data_sha256"]}) > 1:
        raise LipscaleError(f"publish: the runs were trained on different data ({', '.join(sorted(data))}); allowed: the same")
    images = [frozenset(part["image"]) for tables in (old, new) for _, part in tables.images.groupby("run")]
    if len(set(images)) > 1:
        raise LipscaleError("publish: the runs have different test images; allowed with --add: the same")


def _other_rates(old: Mapping, new: Mapping) -> Iterator[tuple[str, object, object]]:
    """As `differences`: learning rates of networks without constraint and of one objective, which their names do not tell."""
    before, now = (
        {
            str(part.get("objective")): part["unconstrained_learning_rate"]
            for part in (config["runs"], *config["runs"].get("variants", ()))
            if part.get("unconstrained_learning_rate") is not None
        }
        for config in (old, new)
    )
    for objective in sorted(before.keys() & now.keys()):
        if before[objective] != now[objective]:
            yield "unconstrained_learning_rate", before[objective], now[objective]


def extended(old: Tables, new: Tables) -> dict[str, pd.DataFrame]:
    """The tables of both, by name: the runs of a setting one after the other, by seed."""
    runs = pd.concat([old.runs, new.runs])
    place = {setting: number for number, setting in enumerate(runs["setting"].unique())}
    runs = runs.sort_values(["setting", "seed"], key=lambda column: column.map(place) if column.name == "setting" else column)
    images, before = pd.concat([old.images, new.images]), old.images
    found = {"runs": runs} | {name: pd.concat([old[name], new[name]]) for name in JOINED}
    found["images"] = images.drop(columns=[name for name in KEY if name != "run"])
    found["reliability"] = pd.concat([_of_runs(old.runs, before, _reliability_rows), new["reliability"]])
    found["certified"] = pd.concat([_of_runs(old.runs, before, _certified_rows), new["certified"]])
    place = {run: number for number, run in enumerate(runs["run"])}
    found = {name: table.sort_values("run", key=lambda runs: runs.map(place), kind="stable") for name, table in found.items()}
    found["intervals"] = _intervals(old, new, found["runs"], images)
    attacked = [tables[OPTIONAL] for tables in (old, new) if (tables.folder / f"{OPTIONAL}.csv").exists()]
    return found | ({OPTIONAL: pd.concat(attacked)} if attacked else {})


def _of_runs(runs: pd.DataFrame, images: pd.DataFrame, rows: Callable) -> pd.DataFrame:
    """The rows that `rows(run, images of the run)` makes for each run, with KEY before them."""
    parts = dict(iter(images.groupby("run")))
    made = [rows(run, _as_joined(parts[run["run"]])).assign(**{name: run[name] for name in KEY}) for _, run in runs.iterrows()]
    table = pd.concat(made)
    return table[[*KEY, *(name for name in table if name not in KEY)]]


def _as_joined(images: pd.DataFrame) -> pd.DataFrame:
    """Rows of images.csv.gz as `tables.images.join_images` has them; NLL and Brier score are unknown."""
    return images.assign(label=1, prediction=images["right"], **dict.fromkeys(intervals.MEANS, np.nan))


def _reliability_rows(run: pd.Series, images: pd.DataFrame) -> pd.DataFrame:
    """Bins of the confidences of a run, as they are (`scaled` 0) and, where it has a T*, after temperature scaling."""
    parts = []
    for scaled, (column, temperature) in enumerate({"confidence": 1.0, "scaled_confidence": run["temperature"]}.items()):
        if images[column].notna().all():
            found = in_bins(images[column].to_numpy(), images["right"].to_numpy() == 1)
            edges = {"low": np.arange(BINS) / BINS, "high": np.arange(1, BINS + 1) / BINS}
            columns = {"scaled": scaled, "temperature": temperature, **edges}
            parts.append(pd.DataFrame(columns | dict(zip(("images", "confidence", "accuracy"), found, strict=True))))
    return pd.concat(parts)


def _certified_rows(run: pd.Series, images: pd.DataFrame) -> pd.DataFrame:
    return certified_curve(images)


def _intervals(old: Tables, new: Tables, runs: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Rows of settings that are in one table only stay; those of settings in both are made from the images."""
    both = set(old.runs["setting"]) & set(new.runs["setting"])
    sampled = {run: _sampled(part, new.epsilons) for run, part in images.groupby("run") if part["setting"].iat[0] in both}
    renewed = runs[runs["setting"].isin(both)]
    made = pd.DataFrame(intervals.setting_rows(renewed, sampled, SETTING))
    kept = [table[~table["setting"].isin(both)] for table in (old["intervals"], new["intervals"])]
    return pd.concat([table for table in (*kept, made) if len(table)])


def _sampled(images: pd.DataFrame, epsilons: Sequence[int]) -> dict[str, intervals.Sampled]:
    return intervals.sample(_as_joined(images.sort_values("image")), epsilons)

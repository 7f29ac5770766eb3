"""Tables: the rows of all runs, joined. Figures and claims read nothing else.

images.csv      per run: a row per test image, with its confidence, its radius and whether AutoAttack broke it
runs.csv        a row per run
intervals.csv   a row per setting and measure: its mean over seeds, with a confidence interval
images.csv.gz   a row per run and test image, with few digits: what accuracies and ECE follow from
robustness.csv  a row per run and epsilon; the same numbers as the columns NAME_EPS of runs.csv
history.csv     a row per run and epoch
feedback.csv    a row per run and measurement of T*
sweep.csv       a row per run and post-hoc temperature
reliability.csv a row per run, bin of confidence, and before or after temperature scaling
reliability_band.csv  the same under attack at each epsilon, of runs with a constraint
certified.csv   a row per run and radius
config.yaml     the checked config that all of them come from
"""

from collections import defaultdict
from pathlib import Path

import pandas as pd
import yaml

from lipscale import config
from lipscale.store import checksums, files
from lipscale.store.checksums import checked
from lipscale.store.run_folder import ExperimentFolder
from lipscale.tables import under_attack
from lipscale.tables.curves import certified_curve
from lipscale.tables.images import SOURCES, check_order, compact, join_images
from lipscale.tables.intervals import setting_rows
from lipscale.tables.key import KEY, SETTING
from lipscale.tables.origin import check_origin
from lipscale.tables.runs import RunResults, robustness_rows, run_row

PARTS = ("history", "feedback", "sweep", "reliability")  # tables that are the runs' files of that name, joined
NAMES = ("runs", "robustness", *PARTS, "reliability_band", "certified")  # of the tables whose rows begin with KEY


def tabulate(experiment: Path) -> None:
    """Write images.csv into the folder of each run, and the tables into results/<experiment>/tables.

    Args:
        experiment: results/<experiment>, with the checked config.yaml; all runs of the config are finished.

    Raises:
        LipscaleError: a file is missing, altered or from another config; or the order certified <= robust <= clean is
            broken for some image, which a sound certificate rules out.
    """
    folder = ExperimentFolder(experiment)
    write_tables(folder, config.runs(folder.config))


def write_tables(experiment: ExperimentFolder, runs) -> None:
    """`tabulate` for an experiment and its runs (each a `config.Run`) in memory."""
    check_origin(experiment, runs)
    epsilons = experiment.config.evaluation.epsilons
    tables, images_of_runs, sampled = defaultdict(list), [], {}
    for folder in experiment.runs:
        images = join_images(folder)
        check_order(images, epsilons, folder.name)
        files.write_table(images, folder / "images.csv")
        checksums.record(folder / "images.csv", made_from=[folder / name for name in SOURCES])
        results = RunResults(folder, images, epsilons)
        for name, table in tables_of_run(results).items():
            tables[name].append(table)
        images_of_runs.append(compact(images, epsilons, folder.name))
        sampled[folder.name] = results.sampled | under_attack.sample(folder)
    for name in NAMES:
        table = pd.concat(tables[name])
        _write(table[[*KEY, *(column for column in table if column not in KEY)]], experiment.tables / f"{name}.csv")
    intervals = pd.DataFrame(setting_rows(pd.concat(tables["runs"]), sampled, SETTING))
    _write(intervals, experiment.tables / "intervals.csv")
    _write(pd.concat(images_of_runs), experiment.tables / "images.csv.gz")
    settings = experiment.config.model_dump(mode="json")
    files.write_text(experiment.tables / "config.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    checksums.record(experiment.tables / "config.yaml")


def tables_of_run(results: RunResults) -> dict[str, pd.DataFrame]:
    """The rows of a run in each table, by the table's name."""
    row = run_row(results)
    key = {name: row[name] for name in KEY}
    parts = {name: pd.read_csv(checked(results.folder / f"{name}.csv")).assign(**key) for name in PARTS}
    parts["sweep"][["lipschitz", "lipschitz_certified"]] = row["lipschitz"], row["lipschitz_certified"]
    return parts | {
        "runs": pd.DataFrame([row]),
        "robustness": pd.DataFrame(robustness_rows(results)),
        "reliability_band": under_attack.band(results.folder).assign(**key),
        "certified": certified_curve(results.images).assign(**key),
    }


def _write(table: pd.DataFrame, path: Path) -> None:
    files.write_table(table, path)
    checksums.record(path)

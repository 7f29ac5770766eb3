"""Tables joined from runs: their numbers, their columns, and what they refuse."""

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from lipscale.errors import LipscaleError
from lipscale.evaluation import statistics
from lipscale.evaluation.metrics import bin_of
from lipscale.store import checksums, files
from lipscale.tables import comparison, falsifications, intervals, join, origin, under_attack
from lipscale.tables.curves import certified_curve
from lipscale.tables.images import certified, check_order, join_images, rounded
from lipscale.tables.key import KEY, SETTING
from lipscale.tables.reader import Tables, by_setting, plain_title, settings_of, standard, where
from made_experiment import COMMIT, EPSILONS, RUNS, make, runs, settings

INTERVALS = [
    "ece", "ece_scaled", "clean_accuracy", "nll", "nll_scaled", "brier", "brier_scaled", "certified_36", "certified_72",
    "evaluated_clean_accuracy", "evaluated_certified_36", "evaluated_certified_72", "robust_36", "robust_72",
]  # fmt: skip
UNDER_ATTACK = [
    f"evaluated_{name}{suffix}" for suffix in ("", "_scaled") for name in ("nll", "brier", "ece")
] + [
    f"{name}{suffix}_{epsilon}" for epsilon in (36, 72) for suffix in ("", "_scaled") for name in under_attack.MEASURES
]  # fmt: skip
RUN_COLUMNS = [
    "run", "setting", "method", "variant", "initial_lipschitz", "offset", "seed",
    "lipschitz", "lipschitz_certified", "temperature", "clean_accuracy",
    "ece", "ece_scaled", "nll", "nll_scaled", "brier", "brier_scaled", "classwise_ece", "classwise_ece_scaled", "adaptive_ece",
    "adaptive_ece_scaled", "validation_accuracy", "validation_ece", "validation_ece_scaled", "validation_nll", "images",
    "evaluated_images", "evaluated_clean_accuracy", "certified_36", "pair_certified_36", "evaluated_certified_36", "robust_36",
    "attacked_36", "spot_checked_36", "certified_72", "pair_certified_72", "evaluated_certified_72", "robust_72",
    "attacked_72", "spot_checked_72", *UNDER_ATTACK,
    *(f"{name}_{end}" for name in INTERVALS for end in ("low", "high")), "attack",
    "train_seconds", "feedback_seconds", "attack_seconds", "device", "machine", "config_hash", "data_sha256", "commit",
    "versions",
]  # fmt: skip


@pytest.fixture
def experiment(tmp_path):
    return make(tmp_path / "made")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A made experiment with its tables; no test changes it."""
    experiment = make(tmp_path_factory.mktemp("written") / "made")
    join.write_tables(experiment, runs(experiment.config))
    return experiment


@pytest.fixture
def tables(written) -> Tables:
    return Tables(written.tables)


def test_runs(written, tables):
    assert list(tables.runs) == RUN_COLUMNS
    assert len(tables.runs) == 2 * len(RUNS)
    row = tables.runs.iloc[0]
    assert (row["run"], row["lipschitz"], row["commit"]) == ("list-0.1-seed0", 9.0, COMMIT)
    assert (row["clean_accuracy"], row["evaluated_clean_accuracy"], row["evaluated_images"]) == (6 / 8, 5 / 6, 6)
    assert (row["certified_36"], row["pair_certified_36"], row["robust_36"]) == (4 / 8, 4 / 8, 4 / 6)
    assert (row["certified_72"], row["pair_certified_72"], row["robust_72"]) == (2 / 8, 3 / 8, 3 / 6)
    assert (row["attacked_72"], row["spot_checked_72"]) == (3, 2)
    assert certified(join_images(written.runs[0]), 72).tolist() == [True] * 3 + [False] * 5  # the third by its pair radius
    assert (row["evaluated_certified_36"], row["evaluated_certified_72"]) == (4 / 6, 2 / 6)
    assert (row["brier"], row["classwise_ece"], row["adaptive_ece_scaled"], row["validation_ece"]) == (0.3, 0.03, 0.02, 0.06)
    free = tables.runs[tables.runs["method"] == "unconstrained"]
    assert (free[["initial_lipschitz", "lipschitz"]] == math.inf).all(axis=None)
    assert (free["certified_36"] == 0).all()


def test_calibration_under_attack_is_of_runs_with_a_constraint(tables):
    free = tables.runs["method"] == "unconstrained"
    assert tables.runs.loc[free, UNDER_ATTACK].isna().all(axis=None)
    row = tables.runs.iloc[1]
    assert (row["certified_nll_36"], row["attacked_nll_scaled_72"]) == pytest.approx((0.861, 1.121))
    assert (tables.runs.loc[~free, "attacked_ece_72"] <= tables.runs.loc[~free, "worst_case_ece_72"]).all()
    rows = tables["intervals"].set_index(["setting", "measure"])
    assert rows.loc[("list-0.1", "certified_nll_scaled_72"), "images"] == 8
    assert rows.loc[("list-0.1", "certified_nll_scaled_72"), "mean"] == pytest.approx(1.2205)
    assert rows.loc[("list-0.1", "attacked_ece_36"), "images"] == 6
    assert not rows.loc["unconstrained-inf"].index.str.contains("attacked").any()


def test_calibration_under_attack_that_is_missing_is_named(experiment):
    (experiment.runs[0] / "calibration_attack.json").unlink()
    with pytest.raises(LipscaleError, match=r"calibration_attack\.json is missing; run the workflow"):
        join.write_tables(experiment, runs(experiment.config))


def test_robustness_is_the_wide_columns_in_rows(tables):
    long = tables["robustness"]
    assert list(long) == [
        *KEY, "epsilon", "evaluated_images", "certified", "pair_certified",
        "evaluated_certified", "robust", "attacked", "spot_checked",
    ]  # fmt: skip
    assert long["epsilon"].tolist() == EPSILONS * len(tables.runs)
    wide = tables.runs.set_index("run")
    for row in long.to_dict("records"):
        for name in ("certified", "pair_certified", "evaluated_certified", "robust", "attacked", "spot_checked"):
            assert row[name] == wide.loc[row["run"], f"{name}_{row['epsilon']}"]


def test_other_tables_have_the_run_first(written, tables):
    for name in join.NAMES:
        assert tuple(tables[name])[: len(KEY)] == KEY
        expected = tables.runs[tables.runs["method"] != "unconstrained"] if name == "reliability_band" else tables.runs
        assert tables[name]["run"].unique().tolist() == expected["run"].tolist()
    assert list(tables["sweep"])[len(KEY) :] == ["temperature", "ece", "lipschitz", "lipschitz_certified"]
    assert list(tables["certified"])[len(KEY) :] == ["epsilon", "certified_accuracy"]
    assert tables.config == written.config.model_dump("json")
    assert tables.epsilons == EPSILONS
    assert tables.posthoc_lipschitz == 20.0


def test_images_of_a_run_are_recorded_with_their_sources(experiment):
    join.write_tables(experiment, runs(experiment.config))
    folder = experiment.runs[0]
    images = pd.read_csv(checksums.checked(folder / "images.csv"))
    assert images["robust_36"].isna().tolist() == [False] * 5 + [True, False, True]
    radii = pd.read_csv(folder / "radii.csv")
    files.write_table(radii.assign(radius=0.0), folder / "radii.csv")
    checksums.record(folder / "radii.csv")
    with pytest.raises(LipscaleError, match=r"images\.csv was made from"):
        checksums.checked(folder / "images.csv")


def test_intervals_of_runs_hold_what_they_are_of(tables):
    for name in ("clean_accuracy", "certified_36", "certified_72", "robust_36", "robust_72"):
        assert (tables.runs[f"{name}_low"] <= tables.runs[name]).all()
        assert (tables.runs[name] <= tables.runs[f"{name}_high"]).all()
    free = tables.runs[tables.runs["method"] == "unconstrained"]
    assert (free[["certified_36_low", "certified_36_high"]] == 0).all(axis=None)  # nothing is certified in any resample
    row = tables.runs.iloc[0]
    assert (row["nll_low"], row["brier_high"]) == pytest.approx(expected_ends(tables, row["run"]), abs=1e-6)


def expected_ends(tables, run: str) -> tuple[float, float]:
    images = pd.read_csv(tables.folder.parent / "runs" / run / "images.csv")
    weights = statistics.bootstrap_weights(len(images))
    ends = [statistics.interval(statistics.weighted_mean(images[name], weights)) for name in ("nll", "brier")]
    return ends[0][0], ends[1][1]


def test_intervals_of_settings(tables):
    table = tables["intervals"]
    assert list(table) == [*SETTING, "measure", "mean", "low", "high", "seeds", "images"]
    assert len(table) == len(RUNS) * len(INTERVALS) + 4 * 20  # of four settings with a constraint, calibration under attack
    assert table["measure"].unique().tolist()[: len(INTERVALS)] == INTERVALS
    assert (table["seeds"] == 2).all()
    assert (table["low"] <= table["mean"]).all()
    assert (table["mean"] <= table["high"]).all()
    numbers = table.iloc[: len(INTERVALS)].set_index("measure")
    assert numbers["mean"][["clean_accuracy", "certified_36", "robust_36"]].tolist() == pytest.approx([6 / 8, 4 / 8, 4 / 6])
    assert numbers["images"][["clean_accuracy", "ece", "robust_36", "evaluated_certified_72"]].tolist() == [8, 8, 6, 6]


def test_means_of_settings_are_those_of_their_runs():
    """Seeds that differ make the interval wider; one seed has its own."""
    generator = np.random.default_rng(0)
    weights = statistics.bootstrap_weights(200)
    seeds = [generator.random(200) < share for share in (0.2, 0.5, 0.8)]
    sampled = [intervals.Sampled(float(seed.mean()), statistics.weighted_mean(seed, weights), 200) for seed in seeds]
    mean = intervals.mean_over_seeds(sampled)
    assert mean.estimate == pytest.approx(np.mean(seeds))
    assert mean.ends[1] - mean.ends[0] > 2 * max(one.ends[1] - one.ends[0] for one in sampled)
    assert intervals.mean_over_seeds(sampled[:1]).ends == sampled[0].ends


def test_all_images_are_in_one_table(experiment):
    path = experiment.runs[1] / "calibration.json"
    files.write_json(path, files.read_json(path) | {"temperature": 2.0})
    checksums.record(path)
    join.write_tables(experiment, runs(experiment.config))
    tables = Tables(experiment.tables)
    images = tables.images
    assert list(images) == [
        *KEY, "image", "right", "confidence", "scaled_confidence", "radius", "pair_radius", "robust_36", "robust_72"
    ]  # fmt: skip
    assert len(images) == 8 * len(tables.runs)
    one = images[images["run"] == "list-0.1-seed1"]
    assert one["right"].tolist() == [1] * 6 + [0] * 2
    assert one["confidence"].tolist() == pytest.approx(1 / (1 + np.exp(-np.arange(1, 9))), abs=5e-4)
    assert one["scaled_confidence"].tolist() == pytest.approx(1 / (1 + np.exp(-np.arange(1, 9) / 2)), abs=5e-4)
    assert one["confidence"].iloc[-1] < 1
    assert one["robust_36"].isna().tolist() == [False] * 5 + [True, False, True]
    for epsilon in EPSILONS:
        shares = (images["radius"] >= epsilon / 255).groupby(images["run"], sort=False).mean()
        assert shares.tolist() == tables.runs[f"certified_{epsilon}"].tolist()
    before = (tables.folder / "images.csv.gz").read_bytes()
    join.write_tables(experiment, runs(experiment.config))
    assert (tables.folder / "images.csv.gz").read_bytes() == before


def test_rounding_moves_no_value_across_an_edge():
    generator = np.random.default_rng(0)
    radii = np.concatenate([generator.random(5000), np.arange(200) / 255, np.nextafter(np.arange(1, 200) / 255, 0)])
    edges = np.arange(1021) / 255
    found = rounded(radii, lambda values: np.searchsorted(edges, values, side="right"))
    assert np.abs(found - radii).max() <= 5e-4
    assert ((found[:, None] >= edges) == (radii[:, None] >= edges)).all()
    assert np.mean(found[:5000] == np.round(radii[:5000], 3)) > 0.8
    confidences = np.clip(generator.beta(5, 1, 5000) * 1.1, 0, 1)
    assert (bin_of(rounded(confidences, bin_of)) == bin_of(confidences)).all()


def test_runs_of_an_older_version_are_named(experiment):
    path = experiment.runs[0] / "calibration.json"
    found = files.read_json(path)
    del found["brier"]
    files.write_json(path, found)
    checksums.record(path)
    with pytest.raises(LipscaleError, match=r"calibration\.json has no brier, as an older version wrote it; delete it"):
        join.write_tables(experiment, runs(experiment.config))


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("training", {"epochs": 4}, r"list-0\.1-seed0/config\.yaml was made with training\.epochs = 3, and the config says 4"),
        ("evaluation", {"attack_images": 9}, r"attack\.json was made with images = 6, and the config says 9"),
        ("evaluation", {"spot_check_images": 9}, r"attack\.json was made with spot_checks = 2, and the config says 9"),
        ("dataset", {"split_seed": 1}, r"manifest\.json was made with split_seed = 0, and the config says 1"),
    ],
)
def test_results_of_another_config_are_refused(experiment, section, values, message):
    experiment.config = settings(**{section: values})
    with pytest.raises(LipscaleError, match=message):
        origin.check_origin(experiment, runs(experiment.config))


def test_moved_images_are_no_other_config(experiment):
    experiment.config = settings(dataset={"path": "elsewhere"})
    for run in experiment.runs:
        run.settings.dataset.path = "elsewhere"  # the identity of a run does not hold it
    origin.compare(experiment.data / "manifest.json", {"path": None, "a": 1}, {"path": "elsewhere", "a": 1})


def test_config_that_was_written_after_training_is_refused(experiment):
    wanted = settings(training={"epochs": 4})
    experiment.config = wanted
    for folder, run in zip(experiment.runs, runs(wanted), strict=True):
        folder.settings = run
    with pytest.raises(LipscaleError, match="was trained with other settings than its config"):
        origin.check_origin(experiment, runs(wanted))


def test_model_without_the_last_lipschitz_of_its_history_is_refused(experiment):
    path = experiment.runs[0] / "certificate.json"
    files.write_json(path, files.read_json(path) | {"lipschitz": 8.0})
    checksums.record(path)
    with pytest.raises(LipscaleError, match=r"its model has L = 8\.0, and its history ends with 9\.0"):
        join.write_tables(experiment, runs(experiment.config))


def test_broken_certificate_stops_the_tables(experiment):
    images = join_images(experiment.runs[0])
    check_order(images, EPSILONS, "run")
    with pytest.raises(LipscaleError, match="run: test images 0 are certified, yet broken by the attack at 36/255"):
        check_order(images.assign(robust_36=images["robust_36"].where(images["index"] != 0, 0)), EPSILONS, "run")
    assert images["radius"][2] < 72 / 255 <= images["pair_radius"][2]  # certified by the pair radius alone
    with pytest.raises(LipscaleError, match="run: test images 2 are certified, yet broken by the attack at 72/255"):
        check_order(images.assign(robust_72=images["robust_72"].where(images["index"] != 2, 0)), EPSILONS, "run")
    with pytest.raises(LipscaleError, match="test images 6 are called robust, yet misclassified at 72/255"):
        check_order(images.assign(robust_72=images["robust_72"].where(images["index"] != 6, 1)), EPSILONS, "run")


def test_certified_curve_ends_where_nothing_is_certified():
    images = pd.DataFrame({"radius": [2 / 255, 1.5 / 255, 9.0], "label": [0, 0, 0], "prediction": [0, 0, 1]})
    assert certified_curve(images)["certified_accuracy"].tolist() == [2 / 3, 2 / 3, 1 / 3, 0]


def test_falsifications_are_of_runs_with_certificates(experiment):
    falsifications.write_falsifications(experiment)
    table = Tables(experiment.tables)["falsification"]
    assert table["run"].tolist() == [run.name for run in experiment.runs[:-2]]
    assert table["attacks"].unique().tolist() == ["AutoAttack's apgd-ce, square; pgd"]
    assert (table["images"] == 5).all()


def test_comparison(experiment, tmp_path):
    other = make(tmp_path / "other")
    for run in other.runs:
        run.settings = run_settings(run, training={"learning_rate": 0.2})
    comparison.write_comparison([experiment, other], EPSILONS, tmp_path)
    table = pd.read_csv(tmp_path / "comparison.csv")
    assert table["training.learning_rate"].tolist() == [0.1] * 4 + [0.2] * 4
    assert table["lipschitz"].isin([9.0, 11.0]).all()  # LiST only
    lines = (tmp_path / "comparison.md").read_text().splitlines()
    assert lines[0].startswith("| experiment | training.learning_rate | initial_lipschitz | offset | lipschitz |")
    assert len(lines) == 2 + 4
    assert lines[2].startswith("| made | 0.1 | 0.1 | 0 | 9 |")
    for path in other.path.glob("runs/list-*/radii.csv"):
        path.unlink()
    with pytest.raises(LipscaleError, match="has no certified LiST runs"):
        comparison.write_comparison([other], EPSILONS, tmp_path)


def run_settings(folder, **changes):
    """Settings of a run, with a section changed."""
    return next(run for run in runs(settings(**changes)) if run.run == folder.name)


def test_reader_reads_what_is_declared(tables):
    with pytest.raises(LipscaleError, match="the table sweep is not declared; allowed: runs"):
        Tables(tables.folder, only=["runs"])["sweep"]
    with pytest.raises(LipscaleError, match=r"nothing\.csv is missing"):
        tables["nothing"]


def test_hashes_are_text(tmp_path):
    table = pd.DataFrame({"run": ["1"], "config_hash": ["12345e1000000000"], "commit": ["1" * 40]})
    files.write_table(table, tmp_path / "runs.csv")
    checksums.record(tmp_path / "runs.csv")
    assert Tables(tmp_path).runs.iloc[0].tolist() == ["1", "12345e1000000000", "1" * 40]


def test_settings_in_the_order_of_the_methods(tables):
    titles = [plain_title(rows, str) for _, rows in by_setting(tables.runs)]
    assert titles == ["LiST, L0 = 0.1", "LiST, L0 = 100.0", "fixed L = 1.0", "fixed L = 20.0", "no constraint"]
    with pytest.raises(LipscaleError, match="the tables have a method 'magic'; allowed: list, fixed, unconstrained"):
        where(tables.runs.assign(method="magic"), lambda method: True)


def test_settings_that_differ_in_offset_or_variant_are_told_apart(tables):
    runs = tables.runs
    offset = runs[runs["setting"] == "list-0.1"].assign(setting="list-0.1-xi36", offset=36.0)
    focal = offset.assign(setting="list-0.1-xi36-focal", variant="focal")
    table = pd.concat([runs, offset, focal])
    assert [name for name, _ in settings_of(table)][-2:] == ["list-0.1-xi36", "list-0.1-xi36-focal"]
    assert [plain_title(rows, str) for _, rows in settings_of(table)][-1] == "LiST, L0 = 0.1, xi = 36.0, focal"
    pd.testing.assert_frame_equal(standard(table), runs)


def test_tables_and_report_need_no_torch():
    modules = ("tables.join", "tables.claims", "tables.comparison", "tables.falsifications", "report.draw", "report.labels")
    modules += ("report.publish", "report.summaries", "report.pages")
    code = f"import sys, {', '.join(f'lipscale.{module}' for module in modules)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

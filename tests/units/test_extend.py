"""Published tables that more runs are added to: the same as those of all runs at once, and what cannot be joined is refused."""

import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml

from lipscale.errors import LipscaleError
from lipscale.evaluation import calibration
from lipscale.report import draw, publish
from lipscale.store import checksums, files
from lipscale.tables import extend, falsifications, images, join
from lipscale.tables.claims import write_claims
from lipscale.tables.reader import Tables
from made_experiment import make, runs

MEASURED = ("runs", "history", "feedback", "sweep", "reliability_band", "certified")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A made experiment with all its tables, two seeds of each setting; no test changes it."""
    experiment = make(tmp_path_factory.mktemp("whole") / "made")
    join.write_tables(experiment, runs(experiment.config))
    falsifications.write_falsifications(experiment)
    return experiment


def part(whole, folder, keep, published=False):
    """A folder with the rows of some runs only: of `keep`, a function of the table with the columns of runs.csv."""
    folder.mkdir(parents=True)
    kept = set(keep(Tables(whole.tables).runs)["run"])
    for path in sorted(whole.tables.glob("*.csv*")):
        if path.name in ("robustness.csv", "claims.csv"):
            continue
        table = pd.read_csv(path)
        if path.name == "intervals.csv":
            settings = {run.rpartition("-seed")[0] for run in kept}
            table = table[table["setting"].isin(settings)]
        else:
            table = table[table["run"].isin(kept)]
        files.write_table(table, folder / path.name)
        if not published:
            checksums.record(folder / path.name)
    config = yaml.safe_load((whole.tables / "config.yaml").read_text())
    config["runs"]["seeds"] = sorted({int(run[-1]) for run in kept})
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if not published:
        checksums.record(folder / "config.yaml")
    return folder


def seed(number):
    return lambda table: table[table["seed"] == number]


@pytest.fixture
def published(whole, tmp_path):
    """A folder of published tables, of the second seed."""
    return part(whole, tmp_path / "published", seed(1), published=True)


@pytest.fixture
def new(whole, tmp_path):
    """The tables of an experiment with the first seed."""
    return part(whole, tmp_path / "new" / "tables", seed(0))


@pytest.fixture
def both(published, new, tmp_path):
    output = tmp_path / "both"
    output.mkdir()
    extend.write_extended(published, new, output)
    return output


def test_tables_are_those_of_all_runs_at_once(both, whole):
    for name in MEASURED:
        expected = pd.read_csv(whole.tables / f"{name}.csv")
        pd.testing.assert_frame_equal(pd.read_csv(both / f"{name}.csv"), expected, check_dtype=False)


def test_images_and_falsifications_are_those_of_all_runs(both, whole):
    for name in ("images.csv.gz", "falsification.csv"):
        expected = pd.read_csv(whole.tables / name).sort_values("run", kind="stable", ignore_index=True)
        found = pd.read_csv(both / name).sort_values("run", kind="stable", ignore_index=True)
        pd.testing.assert_frame_equal(found, expected, check_dtype=False)


def test_the_config_is_the_published_one_with_all_seeds(both, whole):
    assert yaml.safe_load((both / "config.yaml").read_text()) == yaml.safe_load((whole.tables / "config.yaml").read_text())


def test_verdicts_are_those_of_all_runs_at_once(both, whole):
    expected = write_claims(whole.tables)
    assert write_claims(both) == expected
    assert {row["seeds"] for row in expected} >= {2}


def test_intervals_are_over_all_seeds(both, whole):
    """Of accuracies and ECE, which images.csv.gz tells."""
    key = ["setting", "measure"]
    found, expected = (pd.read_csv(folder / "intervals.csv").set_index(key) for folder in (both, whole.tables))
    assert {"ece", "ece_scaled", "clean_accuracy", "certified_36", "robust_72"} <= set(found.index.get_level_values("measure"))
    assert (found["seeds"] == 2).all()
    expected = expected.loc[found.index, ["mean", "low", "high", "seeds", "images"]]
    np.testing.assert_allclose(found[list(expected)], expected, atol=5e-4)


def test_settings_with_new_runs_only_keep_all_their_intervals(whole, published, tmp_path):
    """And so do those that no run was added to."""
    shutil.rmtree(published)
    part(whole, published, lambda table: table[table["method"] == "list"], published=True)
    new = part(whole, tmp_path / "fixed" / "tables", lambda table: table[table["method"] != "list"])
    output = tmp_path / "output"
    output.mkdir()
    extend.write_extended(published, new, output)
    pd.testing.assert_frame_equal(pd.read_csv(output / "intervals.csv"), pd.read_csv(whole.tables / "intervals.csv"))


def test_reliability_diagrams_follow_from_the_images():
    """Bins have the same images; mean confidences have the digits that images.csv.gz has."""
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(0, 3, (2000, 4)), generator.integers(0, 4, 2000)
    expected = pd.DataFrame(calibration.reliability_rows(logits, labels, 1.7))
    scores = {name: calibration.top_label(logits, t) for name, t in (("confidence", 1.0), ("scaled_confidence", 1.7))}
    table = pd.DataFrame({name: found[0] for name, found in scores.items()} | {"index": range(2000), "radius": 0.0})
    table = table.assign(label=labels, prediction=scores["confidence"][1], pair_radius=0.0)
    found = extend._reliability_rows(pd.Series({"temperature": 1.7}), images.compact(table, [], "run"))
    assert list(found) == list(expected)
    columns = ["scaled", "temperature", "low", "high", "images", "accuracy"]
    np.testing.assert_allclose(found[columns], expected[columns], rtol=1e-12)
    np.testing.assert_allclose(found["confidence"], expected["confidence"], atol=5e-4)


def test_runs_that_are_published_already_are_refused(whole, published, tmp_path):
    again = part(whole, tmp_path / "again" / "tables", lambda table: table[table["seed"] == 1].head(2))
    names = "list-0.1-seed1, list-100-seed1"
    with pytest.raises(LipscaleError, match=f"has {names} already; allowed with --add: other runs"):
        extend.write_extended(published, again, tmp_path)


def test_other_settings_are_refused(published, new, tmp_path):
    path = published / "config.yaml"
    text = path.read_text()
    path.write_text(text.replace("learning_rate: 0.1", "learning_rate: 0.2"))
    with pytest.raises(LipscaleError, match=r"made with training\.learning_rate = 0\.2, the new ones with 0\.1; allowed"):
        extend.write_extended(published, new, tmp_path)
    config = yaml.safe_load(text)
    config["experiment"], config["dataset"]["path"], config["figures"] = "other", "elsewhere", {}
    config["evaluation"]["falsify_images"] = 50
    config["runs"] = {"seeds": [7]}
    path.write_text(yaml.safe_dump(config))
    extend.check_alike(published, Tables(published, check=False), Tables(new))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compute": {"precision": "bf16"}}, "compute.precision = 'float32', the new ones with 'bf16'"),
        ({"runs": {"unconstrained_learning_rate": 0.03}}, "unconstrained_learning_rate = 0.003, the new ones with 0.03"),
        ({"runs": {"variants": [{"objective": {"name": "brier"}, "unconstrained_learning_rate": 0.1}]}}, "= 0.2, the new ones"),
    ],
)
def test_runs_of_one_name_with_other_weights_are_refused(published, new, changes, message):
    """Their names do not tell what they were trained with."""
    config = yaml.safe_load((published / "config.yaml").read_text())
    config["compute"] = {"precision": "float32", "threads": 1}
    variants = [{"objective": {"name": "brier"}, "unconstrained_learning_rate": 0.2}]
    config["runs"] |= {"unconstrained_learning_rate": 0.003, "variants": variants}
    (published / "config.yaml").write_text(yaml.safe_dump(config))
    other = config | {key: config[key] | values for key, values in changes.items()} | {"figures": {}}
    other["compute"] = {"threads": 2} | {key: value for key, value in other["compute"].items() if key != "threads"}
    (new / "config.yaml").write_text(yaml.safe_dump(other))
    checksums.record(new / "config.yaml")
    with pytest.raises(LipscaleError, match=message):
        extend.check_alike(published, Tables(published, check=False), Tables(new))


def test_other_data_or_test_images_are_refused(published, new, tmp_path):
    path = published / "images.csv.gz"
    table = pd.read_csv(path)
    files.write_table(table[table["image"] != 3], path)
    with pytest.raises(LipscaleError, match="the runs have different test images"):
        extend.write_extended(published, new, tmp_path)
    path = published / "runs.csv"
    path.write_text(path.read_text().replace("d" * 64, "e" * 64))
    with pytest.raises(LipscaleError, match="the runs were trained on different data"):
        extend.write_extended(published, new, tmp_path)


def test_results_of_an_older_version_are_refused(published, new, tmp_path):
    (published / "feedback.csv").unlink()
    with pytest.raises(LipscaleError, match=r"feedback\.csv is missing; allowed: results that were published with all"):
        extend.write_extended(published, new, tmp_path)


def test_publish_adds_runs(whole, published, new, monkeypatch):
    """Figures, verdicts and page are of all runs; the published record stays."""
    results = new.parent
    for name in ("runs", "data"):
        shutil.copytree(whole.path / name, results / name)
    (results / "benchmarks").mkdir()
    (results / "benchmarks" / "prepare.tsv").write_text("s\tmax_rss\n12.4\t1\n")
    record = SimpleNamespace(model_dump=lambda mode: {"experiment": "made"})
    monkeypatch.setattr(publish.records, "measure", lambda results: record)
    monkeypatch.setattr(draw, "names", lambda: ["figure2", "figure3"])
    (published / "record.json").write_text("kept")
    publish.publish(results, published, "the command", add=True)
    page = (published / "README.md").read_text()
    assert "12 s, summed over 1 jobs, of the 5 runs added last: `list-0.1-seed0`" in page
    assert "| LiST, L0 = 0.1 | 9 |" in page
    assert len(pd.read_csv(published / "runs.csv")) == 10
    assert set(pd.read_csv(published / "claims.csv")["seeds"]) >= {2}
    assert (pd.read_csv(published / "figure2.csv")["seeds"] == 2).all()
    assert (published / "record.json").read_text() == "kept"
    assert not list(results.glob(".publish-*"))
    with pytest.raises(LipscaleError, match="already; allowed with --add: other runs"):
        publish.publish(results, published, "the command", add=True)

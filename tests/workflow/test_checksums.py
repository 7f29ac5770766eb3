"""Results that were altered, cut off, mixed up or made with other settings are named and refused."""

import itertools
import shutil
from pathlib import Path

import pandas as pd
import pytest

from conftest import SMALL, SMALL_TARGETS, snakemake
from lipscale import config as configs
from lipscale.cli import main
from lipscale.errors import LipscaleError
from lipscale.report import draw
from lipscale.store import files
from lipscale.store.checksums import FORMAT, checked, record
from lipscale.store.run_folder import ExperimentFolder
from lipscale.tables.origin import check_origin

pytestmark = pytest.mark.slow

RUN = "runs/fixed-20-seed0"
# what is damaged, and the step that would read it next
READERS = {
    f"{RUN}/config.yaml": "evaluate",
    f"{RUN}/history.csv": "evaluate",
    f"{RUN}/feedback.csv": "tabulate",
    f"{RUN}/model.safetensors": "evaluate",
    f"{RUN}/provenance.json": "evaluate",
    f"{RUN}/logits.npz": "attack",
    f"{RUN}/calibration.json": "attack",
    f"{RUN}/reliability.csv": "tabulate",
    f"{RUN}/sweep.csv": "tabulate",
    f"{RUN}/radii.csv": "attack",
    f"{RUN}/certificate.json": "tabulate",
    f"{RUN}/attack.csv": "attack-calibration",
    f"{RUN}/calibration_attack.csv": "tabulate",
    f"{RUN}/calibration_attack.json": "tabulate",
    f"{RUN}/reliability_band.csv": "tabulate",
    f"{RUN}/attack.json": "tabulate",
    "config.yaml": "tabulate",
    "data/train_images.npy": "train",
    "data/validation_labels.npy": "evaluate",
    "data/test_images.npy": "attack",
    "data/manifest.json": "evaluate",
    "tables/runs.csv": "draw",
    "tables/sweep.csv": "draw",
    "tables/history.csv": "summarise",
    "tables/reliability.csv": "draw",
    "tables/certified.csv": "draw",
    "tables/config.yaml": "page",
    "tables/intervals.csv": "publish",
    "tables/images.csv.gz": "claims",
}


@pytest.fixture
def copied(small_experiment, tmp_path) -> Path:
    """The results in a folder where Snakemake's records are not, so that nothing but the files themselves can tell."""
    shutil.copytree(small_experiment / "results", tmp_path / "results", copy_function=shutil.copy2)
    return tmp_path


@pytest.fixture
def refused(capsys):
    """`refused(results, step)` runs the step that reads a file, as the workflow does, and returns the sentence it ends with."""

    def run(results: Path, step: str) -> str:
        extra = {
            "page": ["provenance", results, "--launched", "x", "--output", results / "pages" / "provenance.html"],
            "publish": [results, "--folder", results / "published", "--command", "make figures"],
        }
        folders = [results / RUN] if step in ("train", "evaluate", "attack", "attack-calibration") else [results]
        if step == "publish":  # looks for all figures first, and the small experiment has one
            for name, suffix in itertools.product(draw.names(), draw.SUFFIXES):
                (results / "figures" / f"{name}.{suffix}").touch()
        assert main([step, *map(str, extra.get(step, folders))]) == 1
        return capsys.readouterr().err.splitlines()[-1]

    return run


@pytest.mark.parametrize("damage", ["altered", "cut off", "replaced"])
@pytest.mark.parametrize("name", READERS)
def test_damaged_file_is_named(copied, refused, name, damage):
    path = copied / "results" / "small" / name
    content = path.read_bytes()
    if damage == "altered":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "cut off":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.write_bytes(b"")
    sentence = refused(copied / "results" / "small", READERS[name])
    assert f"{name} was altered after it was written" in sentence
    assert "delete it and rerun the workflow" in sentence


def test_deleted_file_is_recomputed_as_it_was(small_experiment, tmp_path):
    """A damaged file stops the workflow, which names it, and leaves the tables; deleted, it is recomputed, without training."""
    folder = tmp_path / "again"
    shutil.copytree(small_experiment, folder)
    path, table = folder / "results/small" / RUN / "logits.npz", folder / "results/small/tables/runs.csv"
    content, before = path.read_bytes(), pd.read_csv(table)
    path.write_bytes(content[:-100])
    said = snakemake(folder, SMALL, "--cores", 2, "--", *SMALL_TARGETS, check=False)
    assert said.returncode != 0
    assert "logits.npz was altered after it was written" in said.stdout
    assert pd.read_csv(table).equals(before)
    path.unlink()
    table.unlink()
    (folder / "results/small/figures/figure1.png").unlink()  # Snakemake makes only what a figure is missing for
    said = snakemake(folder, SMALL, "--cores", 2, "--", *SMALL_TARGETS)
    assert "rule train:" not in said.stdout
    assert path.read_bytes() == content
    seconds = ["attack_seconds"]
    assert pd.read_csv(table).drop(columns=seconds).equals(before.drop(columns=seconds))


def test_files_of_another_run_are_refused(copied, refused):
    """Whole files with whole checksums, but of another run: a calibration that is not of these logits."""
    run, other = copied / "results" / "small" / RUN, copied / "results" / "small" / "runs/list-1-seed0"
    for name in ("calibration.json", ".checksums/calibration.json.json"):
        shutil.copyfile(other / name, run / name)
    assert "calibration.json was made from another version of logits.npz" in refused(copied / "results" / "small", "attack")


@pytest.mark.parametrize(
    ("section", "key", "value", "message"),
    [
        ("training", "epochs", 3, r"list-1-seed0.config\.yaml was made with training\.epochs = 2, and the config says 3"),
        ("evaluation", "attack_images", 9, r"attack\.json was made with images = 8, and the config says 9"),
        ("evaluation", "calibration_epsilons", [9], r"calibration_attack\.json was made with epsilons = \[72\], and the"),
        ("dataset", "split_seed", 1, r"manifest\.json was made with split_seed = 0, and the config says 1"),
        ("network", "bias", False, r"config\.yaml was made with network\.bias = True, and the config says False"),
    ],
)
def test_results_of_another_config_are_refused(copied, section, key, value, message):
    config = configs.check({**SMALL, section: {**SMALL[section], key: value}})
    experiment = ExperimentFolder(copied / "results" / "small")
    experiment.__dict__["config"] = config  # as if it had been configured again, and nothing else
    with pytest.raises(LipscaleError, match=message):
        check_origin(experiment, configs.runs(config))


def test_results_of_another_version_are_refused(copied, refused):
    path = copied / "results" / "small" / RUN / ".checksums" / "model.safetensors.json"
    files.write_json(path, files.read_json(path) | {"format": FORMAT + 1})
    sentence = refused(copied / "results" / "small", "evaluate")
    assert f"has format {FORMAT + 1}, and this lipscale reads format {FORMAT}" in sentence


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 1}', '{"format": 1, "sha256": 3, "made_from": {}}'])
def test_damaged_checksum_is_refused(tmp_path, content):
    (tmp_path / "a.txt").write_text("a")
    record(tmp_path / "a.txt")
    assert checked(tmp_path / "a.txt") == tmp_path / "a.txt"
    (tmp_path / ".checksums" / "a.txt.json").write_text(content)
    with pytest.raises(LipscaleError, match=r"a\.txt has no checksum"):
        checked(tmp_path / "a.txt")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(LipscaleError, match=r"a\.txt is missing"):
        checked(tmp_path / "a.txt")


def test_model_that_does_not_have_the_last_lipschitz_of_its_history_is_refused(copied, refused):
    """An L that was not updated after the last epoch: the history says one thing, the model another."""
    results = copied / "results" / "small"
    history = results / "runs/list-1-seed0/history.csv"
    rows = files.read_rows(history)
    rows[-1]["next_lipschitz"] = rows[-1]["lipschitz"]
    files.write_rows(history, list(rows[0]), rows)
    record(history)
    for name in ("calibration.json", "sweep.csv"):
        record(history.parent / name)
    assert "its model has L = " in refused(results, "tabulate")

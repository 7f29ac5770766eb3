"""What an experiment will take: known answers from a small record, and records that do not fit."""

import copy
from pathlib import Path

import pytest
import yaml

from conftest import TINY, lipscale
from lipscale import config as configs
from lipscale.errors import LipscaleError
from lipscale.planning import record as records
from lipscale.planning.estimate import fitting, plan, text
from lipscale.store import files

CONFIG = configs.check(copy.deepcopy(TINY))  # 6 epochs, 4 settings of 2 seeds and one unconstrained, 60 attacked images
RECORD = {
    "experiment": "small",
    "commit": "0" * 40,
    "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
    "like": records.likeness(next(configs.runs(CONFIG)), [1, 8, 8]),
    "epochs": 3,
    "images": {"train": 1197, "validation": 300, "test": 300},
    "train": {"seconds": {"list": [10.0, 14.0], "fixed": [8.0]}, "start_seconds": 5.0, "mem_mb": 900.0},
    "attack": {
        "batch_seconds": 2.0,
        "image_seconds": 0.1,
        "attacked": {"list": [0.4, 0.6], "fixed": [0.25], "unconstrained": [1.0]},
        "start_seconds": 4.0,
        "mem_mb": 700.0,
    },
    "run_seconds": 2.0,
    "once": {"jobs": 6, "seconds": 30.0},
    "data_bytes": 1000,
    "run_bytes": 500.0,
}


def written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, RECORD)
    return path


@pytest.mark.parametrize("pack", [True, False])
def test_known_answer(pack):
    config = configs.check({**TINY, "compute": {"pack": pack}})
    foretold = plan(config, RECORD)
    train, attack = foretold.stages["train"], foretold.stages["attack"]
    jobs = 5 if pack else 10
    assert (train.jobs, attack.jobs) == (jobs, jobs)
    # twice the steps; the unconstrained network as dear as the dearest
    assert train.total == pytest.approx(5 * jobs + 2 * (4 * 12 + 4 * 8 + 2 * 12))
    assert attack.total == pytest.approx(4 * jobs + 4 * (2 + 3) + 4 * (2 + 1.5) + 2 * (2 + 6))  # a batch of up to 60 images
    assert train.longest == pytest.approx(5 + (2 if pack else 1) * 2 * 12)
    assert foretold.seconds == pytest.approx(train.total + attack.total + 10 * 2 + 30)
    assert foretold.jobs == 2 * jobs + (3 if pack else 30) + 6
    assert (foretold.gpu_seconds, foretold.data_bytes) == (0, 1000 + 10 * 500)


def test_fewer_training_images_cost_less():
    config = configs.check({**TINY, "dataset": TINY["dataset"] | {"validation_images": 600, "test_images": 599}})
    assert plan(config, RECORD).stages["train"].total == pytest.approx(5 * 5 + 2 * 5 / 10 * (4 * 12 + 4 * 8 + 2 * 12))


def test_attacks_cost_by_batch_and_by_image():
    evaluation = TINY["evaluation"] | {"epsilons": [36, 72], "attack_batch_size": 20}
    attack = plan(configs.check({**TINY, "evaluation": evaluation}), RECORD).stages["attack"]
    assert attack.total == pytest.approx(4 * 5 + 2 * (4 * (2 * 2 + 3) + 4 * (2 + 1.5) + 2 * (3 * 2 + 6)))

    attacked = [[30, 130], [50, 99], [0, 101]]  # at two epsilons; in batches of 100
    seconds = [2 * 3 + 0.1 * 160, 2 * 2 + 0.1 * 149, 2 * 2 + 0.1 * 101]
    assert records.attack_costs(seconds, attacked, 100) == pytest.approx({"batch_seconds": 2, "image_seconds": 0.1})


def test_more_images_than_there_are_cannot_be_set_aside():
    config = configs.check({**TINY, "dataset": TINY["dataset"] | {"validation_images": 1600}})
    with pytest.raises(LipscaleError, match="leaves -103 images"):
        plan(config, RECORD)


def test_rehearsals_are_not_multiplied_by_epochs():
    """3 epochs are 30 steps, 6 are 60, and the two rehearsals of LiST alone another 128 in both."""
    config = configs.check({**TINY, "feedback": {"rehearsals": 2}})
    foretold = plan(config, RECORD)
    assert foretold.stages["train"].total == pytest.approx(5 * 5 + 4 * 12 * 188 / 158 + 2 * 4 * 8 + 2 * 16)


def test_jobs_on_a_gpu_count_as_gpu_hours():
    config = configs.check({**TINY, "compute": {"device": "cuda"}})
    foretold = plan(config, RECORD)
    assert foretold.gpu_seconds == foretold.stages["train"].total + foretold.stages["attack"].total


@pytest.mark.parametrize(("section", "key", "value"), [("network", "widths", [32]), ("compute", "device", "cuda")])
def test_record_of_other_costs_is_refused(tmp_path, section, key, value):
    config = configs.check({**TINY, section: TINY[section] | {key: value}})
    with pytest.raises(LipscaleError, match=r"no measured record fits tiny .*/record\.json has another (network|device)"):
        fitting(config, [written(tmp_path / "record.json")])


def test_too_little_time_and_memory_is_said(tmp_path):
    config = configs.check(
        {**TINY, "compute": {"mem_mb": 800, "train_runtime": 1}, "training": TINY["training"] | {"epochs": 60}}
    )
    said = text(config, tmp_path, RECORD, plan(config, RECORD))
    assert "a job of train will take longer than compute.train_runtime, 60 s" in said
    assert "a job of train will need more memory than compute.mem_mb, 800 MiB" in said
    assert "a job of attack" not in said


def test_verb(tmp_path):
    """It names the record that it rests on; values are overridden as Snakemake does; what is wrong is said in a sentence."""
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(TINY))
    arguments = ["plan", "--configfile", config, "--results", tmp_path]
    nothing = lipscale(*arguments, check=False)
    assert (nothing.returncode, nothing.stderr.count("\n")) == (1, 1)
    assert "no measured record fits tiny (there is none)" in nothing.stderr

    written(tmp_path / "published" / "small" / records.NAME)
    said = lipscale(*arguments, "--config", "runs={seeds: [4]}", "experiment=another").stdout
    assert "another: 5 runs of 6 epochs (2 list, 2 fixed, 1 unconstrained)" in said
    assert f"as measured in {tmp_path / 'published' / 'small' / 'record.json'}: 3 runs of 3 epochs" in said

    for wrong in ("runs", "runs={seeds: [", "runs={seed: 1}"):
        refused = lipscale(*arguments, "--config", wrong, check=False)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_damaged_records_are_named_and_passed_over(tmp_path):
    damaged = written(tmp_path / "published" / "damaged" / records.NAME)
    damaged.write_text('{"like": ')
    half = tmp_path / "half" / "tables" / "runs.csv"
    half.parent.mkdir(parents=True)
    half.write_text("run\nlist-1-seed0\n")
    with pytest.raises(LipscaleError, match=r"half does not say what it has cost .*damaged/record\.json is not a record"):
        fitting(CONFIG, records.find(tmp_path))
    good = written(tmp_path / "published" / "good" / records.NAME)
    assert fitting(CONFIG, records.find(tmp_path)) == (good, RECORD)

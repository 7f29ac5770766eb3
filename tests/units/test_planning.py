"""The estimate of what an experiment takes: known answers from a small record, measuring a finished experiment, bad records."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lipscale import config
from lipscale.errors import LipscaleError
from lipscale.planning import cluster
from lipscale.planning import record as records
from lipscale.planning.comparable import comparable
from lipscale.planning.costs import attack_costs
from lipscale.planning.estimate import comparable_record, estimate
from lipscale.planning.record import Record
from lipscale.planning.text import text
from lipscale.store import files

PUBLISHED = sorted((Path(__file__).resolve().parents[2] / "results" / "published").glob("*/record.json"))
TINY = {  # 6 epochs, 4 settings of 2 seeds and one unconstrained, 60 attacked images
    "experiment": "tiny",
    "dataset": {"name": "digits", "validation_images": 300, "test_images": 300},
    "network": {"architecture": "mlp", "widths": [16]},
    "training": {"epochs": 6, "batch_size": 128, "learning_rate": 0.02},
    "runs": {
        "seeds": [0, 1],
        "list_initial_lipschitz": [0.1, 100],
        "fixed_lipschitz": [1, 20],
        "unconstrained_learning_rate": 0.01,
    },
    "evaluation": {"epsilons": [72], "attack_images": 60, "spot_check_images": 10, "attack_batch_size": 60},
    "compute": {"pack": True},
}


def tiny(**sections: dict) -> config.Experiment:
    """The tiny experiment, with keys of its sections changed."""
    changed = {section: {**TINY.get(section, {}), **values} for section, values in sections.items()}
    return config.check(copy.deepcopy({**TINY, **changed}))


def record(warmups: int = 0) -> Record:
    """Of 3 epochs of runs like those of `tiny`."""
    run = next(iter(config.runs(tiny(feedback={"warmups": warmups}))))
    return Record.model_validate(
        {
            "experiment": "small",
            "commit": "0" * 40,
            "machine": {"system": "Linux", "processor": "x86_64", "cores": 2},
            "comparable": comparable(run.model_dump(mode="json"), [1, 8, 8]),
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
    )


def written(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(path, record().model_dump(mode="json"))
    return path


@pytest.mark.parametrize("pack", [True, False])
def test_known_answer(pack):
    found = estimate(tiny(compute={"pack": pack}), record())
    train, attack = found.stages["train"], found.stages["attack"]
    jobs = 5 if pack else 10
    assert (train.jobs, attack.jobs) == (jobs, jobs)
    # twice the steps; the unconstrained network costs as much as the dearest
    assert train.total == pytest.approx(5 * jobs + 2 * (4 * 12 + 4 * 8 + 2 * 12))
    assert attack.total == pytest.approx(4 * jobs + 4 * (2 + 3) + 4 * (2 + 1.5) + 2 * (2 + 6))  # a batch of up to 60 images
    assert train.longest == pytest.approx(5 + (2 if pack else 1) * 2 * 12)
    assert found.seconds == pytest.approx(train.total + attack.total + 10 * 2 + 30)
    calibration = 4 if pack else 8  # attacks on it, of networks with a constraint
    assert found.jobs == 2 * jobs + calibration + (1 if pack else 10) + 6
    assert (found.gpu_seconds, found.data_bytes) == (0, 1000 + 10 * 500)


def test_fewer_training_images_cost_less():
    experiment = tiny(dataset={"validation_images": 600, "test_images": 599})
    assert estimate(experiment, record()).stages["train"].total == pytest.approx(5 * 5 + 2 * 5 / 10 * (4 * 12 + 4 * 8 + 2 * 12))


def test_attacks_cost_by_batch_and_by_image():
    attack = estimate(tiny(evaluation={"epsilons": [36, 72], "attack_batch_size": 20}), record()).stages["attack"]
    assert attack.total == pytest.approx(4 * 5 + 2 * (4 * (2 * 2 + 3) + 4 * (2 + 1.5) + 2 * (3 * 2 + 6)))

    attacked = [[30, 130], [50, 99], [0, 101]]  # at two epsilons; in batches of 100
    seconds = [2 * 3 + 0.1 * 160, 2 * 2 + 0.1 * 149, 2 * 2 + 0.1 * 101]
    assert attack_costs(seconds, attacked, 100) == pytest.approx((2, 0.1))


def test_shards_start_more_jobs_of_the_same_work():
    evaluation = {"epsilons": [36, 72], "attack_batch_size": 20}
    stages = [
        estimate(tiny(evaluation=evaluation, compute={"pack": False, "shards": shards}), record()).stages for shards in (1, 3)
    ]
    whole, split = (of["attack"] for of in stages)
    assert (whole.jobs, split.jobs) == (10, 10 + 10 * 3 * 2)
    assert split.total == pytest.approx(whole.total + 4 * 60)
    assert split.longest == pytest.approx(4 + (whole.longest - 4) / 6)
    assert [of["evaluate"].jobs for of in stages] == [10 + 8, (10 + 8) * (3 + 1)]  # the last 8 attack calibration


def test_more_images_than_there_are_cannot_be_set_aside():
    with pytest.raises(LipscaleError, match="leaves -103 images"):
        estimate(tiny(dataset={"validation_images": 1600}), record())


@pytest.mark.parametrize(
    ("batch_size", "per_epoch", "warmup"),
    [(128, 10, 10), (10, 120, 64)],  # a warm-up is never longer than an epoch
)
def test_warmups_are_not_multiplied_by_epochs(batch_size, per_epoch, warmup):
    """Two warm-ups of LiST, in 6 epochs as in the 3 epochs of the record."""
    experiment = tiny(feedback={"warmups": 2}, training={"batch_size": batch_size})
    of_list = (2 * warmup + 6 * per_epoch) / (2 * warmup + 3 * per_epoch)
    total = estimate(experiment, record()).stages["train"].total
    assert total == pytest.approx(5 * 5 + 4 * 12 * of_list + 4 * 8 * 2 + 2 * max(12 * of_list, 8 * 2))


def test_jobs_on_a_gpu_count_as_gpu_hours():
    found = estimate(tiny(compute={"device": "cuda"}), record())
    assert found.gpu_seconds == found.stages["train"].total + found.stages["attack"].total


@pytest.mark.parametrize(
    ("section", "key", "value", "named"),
    [
        ("network", "widths", [32], "network"),
        ("compute", "device", "cuda", "device"),
        ("training", "batch_size", 64, "batch_size"),
        ("feedback", "warmups", 1, "warmups"),
    ],
)
def test_a_record_of_other_costs_is_refused(tmp_path, section, key, value, named):
    path = written(tmp_path / "record.json")
    with pytest.raises(
        LipscaleError, match=rf"no measured experiment is comparable with tiny .*record\.json has another {named}\b"
    ):
        comparable_record(tiny(**{section: {key: value}}), [path])


def test_too_little_time_and_memory_is_reported(tmp_path):
    experiment = tiny(compute={"mem_mb": 800, "train_runtime": 1}, training={"epochs": 60})
    said = text(experiment, tmp_path, record(), estimate(experiment, record()))
    assert "stage train: a job will take longer than compute.train_runtime, 60 s" in said
    assert "stage train: a job will need more memory than compute.mem_mb, 800 MiB" in said
    assert "stage attack" not in said
    assert "--group-components train=5 attack=5 evaluate=20" in said


def test_damaged_records_are_named_and_skipped(tmp_path):
    damaged = written(tmp_path / "published" / "damaged" / records.NAME)
    damaged.write_text('{"comparable": ')
    half = tmp_path / "half" / "tables" / "runs.csv"
    half.parent.mkdir(parents=True)
    half.write_text("run\nlist-1-seed0\n")
    with pytest.raises(LipscaleError, match=r"half: its cost cannot be measured .*damaged/record\.json is not a record"):
        comparable_record(tiny(), records.find(tmp_path))
    good = written(tmp_path / "published" / "good" / records.NAME)
    assert comparable_record(tiny(), records.find(tmp_path)) == (good, record())


@pytest.mark.parametrize("change", [{"epochs": 0}, {"epochs": None}, {"train": {}}, {"comparable": []}, {"run_seconds": -1.0}])
def test_records_with_impossible_values_are_refused(tmp_path, change):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(record().model_dump(mode="json") | change))
    with pytest.raises(LipscaleError, match="is not a record of what an experiment has cost"):
        records.read(path)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.parent.name)
def test_published_records_are_comparable_with_their_own_config(path):
    root = path.parents[3]
    name = {"digits": "config.yaml"}.get(path.parent.name, f"{path.parent.name}.yaml")
    experiment = config.check(files.read_yaml(root / "config" / name))
    assert comparable_record(experiment, [path])[1].experiment == experiment.experiment


def test_records_of_version_0_1_are_understood(tmp_path):
    new = record(warmups=2)
    old = new.model_dump(mode="json")
    like = old.pop("comparable")
    like["rehearsals"] = like.pop("warmups")
    del like["objective"], like["network"]["family"]
    path = tmp_path / "record.json"
    path.write_text(json.dumps(old | {"like": like}))
    assert records.read(path) == new


def finished(folder: Path, config_of: dict, stages: dict[str, float]) -> Path:
    """The files of a finished experiment with two runs from which its cost is measured: training took 10 and 20 s, attacks of 2
    and 4 images 5 and 9 s."""
    runs = {"list-0.1-seed0": (10.0, 5.0, "1100"), "unconstrained-seed0": (20.0, 9.0, "1111")}
    for run, (trained, attacked, images) in runs.items():
        path = folder / "runs" / run
        path.mkdir(parents=True)
        lipschitz = float("inf") if run.startswith("unconstrained") else 0.1
        settings = config_of | {"method": run.split("-")[0], "initial_lipschitz": lipschitz}
        (path / "config.yaml").write_text(yaml.safe_dump(settings))
        machine = {"system": "Linux", "processor": "x86_64", "cores": 2}
        files.write_json(path / "provenance.json", {"commit": "0" * 40, "machine": machine, "seconds": trained})
        files.write_json(path / "attack.json", {"seconds": attacked, "batch_size": 4})
        (path / "attack.csv").write_text("index,robust_72,attacked_72\n" + "".join(f"0,1,{image}\n" for image in images))
    (folder / "tables").mkdir()
    (folder / "tables" / "runs.csv").write_text("run\n" + "\n".join(runs) + "\n")
    counts = {split: {"images": count} for split, count in (("train", 1197), ("validation", 300), ("test", 300))}
    (folder / "data").mkdir()
    files.write_json(folder / "data" / "manifest.json", {"counts": counts, "image_shape": [1, 8, 8]})
    for name, seconds in {"train/a": 40, "attack/a": 16, "tabulate": 3, "draw/figure1": 4, "figures": 100, **stages}.items():
        path = folder / "benchmarks" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\tmax_rss\n{seconds}\tNA\n{0}\t500.5\n")
    return folder


def test_measure(tmp_path):
    run = next(iter(config.runs(tiny()))).model_dump(mode="json")
    found = records.measure(finished(tmp_path / "new", run, {"evaluate/all": 6, "falsify/a": 1000}))
    assert found.train.model_dump() == {
        "seconds": {"list": [10.0], "unconstrained": [20.0]}, "start_seconds": (40 - 30) / 2, "mem_mb": 500.5
    }  # fmt: skip
    assert found.attack.attacked == {"list": [0.5], "unconstrained": [1.0]}
    assert (found.attack.batch_seconds, found.attack.image_seconds) == pytest.approx((1, 2))
    assert (found.run_seconds, found.once.seconds, found.once.jobs) == (3, 7, 4)
    assert found.comparable == record().comparable
    path = tmp_path / "record.json"
    files.write_json(path, found.model_dump(mode="json"))
    assert records.read(path) == found == records.read(tmp_path / "new")


def test_results_of_version_0_1_are_measured(tmp_path):
    old = {
        "run": "list-0.1-seed0",
        "dataset": "digits",
        "network": {"architecture": "mlp", "widths": [16], "bias": True, "allocation": "softmax"},
        "training": {"epochs": 6, "batch_size": 128, "learning_rate": 0.02, "augmentation": "none"},
        "feedback": {"rehearsals": 0, "updates_per_epoch": 1},
        "device": "cpu",
        "threads": 1,
        "precision": "float32",
        "compile": False,
    }
    stages = {"predict/all": 1, "calibrate/all": 2, "certify/all": 3, "audit/a": 1000, "tabulate_audits": 50}
    found = records.measure(finished(tmp_path / "old", old, stages))
    assert (found.run_seconds, found.once.seconds) == (3, 7)
    assert found.comparable == record().comparable


def lipscale(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "lipscale", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_command(tmp_path):
    """It names the record behind the estimate; values are overridden as in Snakemake; errors are one sentence."""
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(TINY))
    arguments = ["plan", path, "--results", tmp_path]
    nothing = lipscale(*arguments)
    assert (nothing.returncode, nothing.stderr.count("\n")) == (1, 1)
    assert "no measured experiment is comparable with tiny (nothing was measured)" in nothing.stderr

    written(tmp_path / "published" / "small" / records.NAME)
    found = lipscale(*arguments, "--config", "runs={seeds: [4]}", "experiment=another")
    assert found.returncode == 0, found.stderr
    assert "another: 5 runs of 6 epochs (2 list, 2 fixed, 1 unconstrained)" in found.stdout
    assert f"estimated from {tmp_path / 'published' / 'small' / 'record.json'}: 3 runs of 3 epochs" in found.stdout

    for wrong in ("runs", "runs={seeds: [", "runs={seed: 1}"):
        refused = lipscale(*arguments, "--config", wrong)
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)


def test_allocations_that_no_node_can_hold_are_refused(tmp_path, monkeypatch):
    assert cluster.refusal(16, None) is None
    assert cluster.refusal(16, 16) is None
    assert "16 cores, but the largest node of this cluster has 2," in cluster.refusal(16, 2)
    sinfo = tmp_path / "sinfo"
    sinfo.write_text("#!/bin/sh\nprintf '2\\n64\\n8\\n'\n")
    sinfo.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert cluster.largest_node() == 64
    sinfo.write_text("#!/bin/sh\nexit 1\n")
    assert cluster.largest_node() is None

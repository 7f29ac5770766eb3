"""Evaluation and attacks that are split over jobs: the files of those that are not, resumption, refusals."""

import math
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from conftest import snakemake
from lipscale import config as configs
from lipscale.attacks import autoattack, on_calibration, robustness
from lipscale.cli import main
from lipscale.errors import LipscaleError
from lipscale.evaluation import logits
from lipscale.steps import attack_calibration, evaluate
from lipscale.steps.attack import partial
from lipscale.store import files
from lipscale.store.checksums import record
from lipscale.store.run_folder import CALIBRATION_SHARDS, PARTIAL, SHARDS, RunFolder
from short_experiment import OTHER, write_settings

EPSILONS = [72, 18, 36]
EVALUATION = {"epsilons": EPSILONS, "attack_images": 29, "spot_check_images": 3, "attack_batch_size": 3}


@pytest.fixture
def split(copied, monkeypatch):
    """`split(shards, ...)`: a run of the short experiment, with its AutoAttack split over so many jobs."""
    monkeypatch.setattr(autoattack, "STAGES", ("apgd-ce",))

    def make(shards: int, **evaluation: object) -> RunFolder:
        run = RunFolder(copied / "runs" / OTHER)
        sections = {name: getattr(run.settings, name).model_dump() for name in ("evaluation", "compute")}
        changed = {"evaluation": {**sections["evaluation"], **EVALUATION, **evaluation}}
        changed["compute"] = {**sections["compute"], "pack": False, "shards": shards}
        write_settings(configs.check_run({**run.settings.model_dump(), **changed}), copied)
        return RunFolder(run.path)

    return make


@pytest.fixture
def batches(monkeypatch) -> list[tuple[int, bytes]]:
    """Epsilon and images of each batch that is attacked."""
    attack, attacked = robustness.attack_batch, []

    def recorded(model, images, labels, epsilon, *others):
        attacked.append((epsilon, images.numpy().tobytes()))
        return attack(model, images, labels, epsilon, *others)

    monkeypatch.setattr(robustness, "attack_batch", recorded)
    return attacked


def attack_shard(run: RunFolder, epsilon: int, shard: int) -> int:
    return main(["attack-shard", str(run.path), str(epsilon), str(shard)])


def found(run: RunFolder) -> tuple[bytes, dict]:
    """attack.csv, and attack.json without times."""
    facts = files.read_json(run / "attack.json")
    assert facts.pop("seconds") > 0
    return (run / "attack.csv").read_bytes(), facts


def test_three_shards_find_what_one_job_finds(split, batches):
    """Bit for bit. Which images share a batch at the larger epsilons depends on what was broken in all shards."""
    run = split(1)
    assert main(["attack", str(run.path)]) == 0
    whole, of_one_job = found(run), list(batches)
    rows = files.read_rows(run / "attack.csv")
    survivors = [sum(int(row[f"robust_{epsilon}"]) for row in rows) for epsilon in sorted(EPSILONS)]
    assert survivors[0] > survivors[1] > survivors[2] > 0
    assert sum(int(row["attacked_72"]) for row in rows) > 3 * 3  # more than a batch for each shard

    run = split(3)
    for name in ("attack.csv", "attack.json", PARTIAL):
        (run / name).unlink()
    batches.clear()
    for epsilon in sorted(EPSILONS):
        for shard in (3, 1, 2):
            assert attack_shard(run, epsilon, shard) == 0
    assert sorted(batches) == sorted(of_one_job)
    batches.clear()
    assert main(["attack", str(run.path)]) == 0
    assert batches == []
    assert found(run) == whole
    verdicts = {f"{epsilon}-{shard}of3.json" for epsilon in EPSILONS for shard in (1, 2, 3)}
    assert {path.name for path in (run / SHARDS).glob("*.json")} == verdicts


def test_a_stopped_shard_resumes_and_a_finished_one_is_restored(split, batches, monkeypatch):
    """The first one in its third batch. Snakemake removes the output of a job that it has to start again."""
    run, survivors, started = split(2, epsilons=[72], attack_batch_size=1), robustness._Attack.survivors, []

    def stopping(*arguments):
        started.append(arguments)
        if len(started) == 3:
            raise KeyboardInterrupt
        return survivors(*arguments)

    monkeypatch.setattr(robustness._Attack, "survivors", stopping)
    with pytest.raises(KeyboardInterrupt):
        attack_shard(run, 72, 1)
    assert not run.shard(72, 1).exists()
    assert attack_shard(run, 72, 1) == 0
    resumed = files.read_json(run.shard(72, 1))["survived"]
    assert len(resumed) == len(batches) == len(set(batches)) > 3  # nothing was attacked twice
    run.shard(72, 1).unlink()
    assert attack_shard(run, 72, 1) == 0
    assert len(resumed) == len(batches)
    assert files.read_json(run.shard(72, 1))["survived"] == resumed


EVALUATED = ("logits.npz", "calibration.json", "sweep.csv", "reliability.csv", "radii.csv", "certificate.json")


@pytest.mark.parametrize("shards", [2, 5])
def test_shards_compute_the_logits_of_one_job(split, monkeypatch, shards):
    """Bit for bit, in 4 batches of test images and 4 of validation images; one of 5 shards has none."""
    monkeypatch.setattr(logits, "EVALUATION_BATCH", 90)
    whole = split(1)
    assert [math.ceil(len(whole.logits()[f"{name}_labels"]) / 90) for name in ("test", "validation")] == [4, 4]
    assert main(["evaluate", str(whole.path)]) == 0
    expected = [(whole / name).read_bytes() for name in EVALUATED]
    run = split(shards)
    for shard in range(shards, 0, -1):
        assert main(["evaluate-shard", str(run.path), str(shard)]) == 0
    for name in EVALUATED:
        (run / name).unlink()
    monkeypatch.setattr(evaluate, "exact_logits", None)  # nothing is computed again
    assert main(["evaluate", str(run.path)]) == 0
    assert [(run / name).read_bytes() for name in EVALUATED] == expected


def test_logits_that_are_missing_altered_or_of_another_network_are_named(split, capsys):
    run = split(2)
    assert main(["evaluate", str(run.path)]) == 1
    assert "logits-shards/1of2.npz is missing; run the workflow" in capsys.readouterr().err
    for shard in (1, 2):
        assert main(["evaluate-shard", str(run.path), str(shard)]) == 0
    assert main(["evaluate", str(run.path)]) == 0
    for shard in (1, 2):
        assert main(["evaluate-shard", str(run.path), str(shard)]) == 0
    shutil.copyfile(run.logits_shards()[1], run.logits_shards()[0])  # the second one has no image, as all are one batch
    record(run.logits_shards()[0], made_from=[run / "model.safetensors"])
    assert main(["evaluate", str(run.path)]) == 1
    assert "logits-shards/1of2.npz has logits of other validation images" in capsys.readouterr().err
    (run / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes() + b" ")  # as after another training
    record(run / "model.safetensors")
    assert main(["evaluate", str(run.path)]) == 1
    assert "logits-shards/1of2.npz was made from another version of ../model.safetensors" in capsys.readouterr().err
    run.logits_shards()[0].write_bytes(b"")
    assert main(["evaluate", str(run.path)]) == 1
    assert "logits-shards/1of2.npz was altered" in capsys.readouterr().err
    assert main(["evaluate-shard", str(run.path), "3"]) == 1
    assert capsys.readouterr().err == "lipscale: SHARD is 3; allowed: from 1 to compute.shards, 2\n"


def found_on_calibration(run: RunFolder) -> list:
    """The outputs of the attack on calibration, its summary without times."""
    facts = files.read_json(run / "calibration_attack.json")
    assert facts.pop("seconds") > 0
    return [facts, *((run / name).read_bytes() for name in ("calibration_attack.csv", "reliability_band.csv"))]


def test_three_shards_find_of_calibration_what_one_job_finds(split, monkeypatch):
    """Bit for bit: whole batches, and signs that rest on all images."""
    few = {"epsilons": [36], "attack_images": 11}
    whole = split(1, **few)
    assert main(["attack", str(whole.path)]) == main(["attack-calibration", str(whole.path)]) == 0
    expected = found_on_calibration(whole)
    run = split(3, **few)
    for shard in (3, 1, 2):
        assert main(["attack-calibration-shard", str(run.path), str(shard)]) == 0
    for name in attack_calibration.OUTPUTS:
        (run / name).unlink()
    monkeypatch.setattr(on_calibration._Attack, "batch", None)  # nothing is attacked again
    assert main(["attack-calibration", str(run.path)]) == 0
    assert found_on_calibration(run) == expected
    names = {path.name for path in (run / CALIBRATION_SHARDS).iterdir() if path.is_file()}
    assert names == {"1of3.npz", "2of3.npz", "3of3.npz"}


def test_calibration_shards_that_are_missing_altered_or_of_other_settings_are_named(split, capsys):
    few = {"epsilons": [36], "attack_images": 4}
    assert main(["attack", str(split(1, **few).path)]) == 0
    run = split(2, **few)
    assert main(["attack-calibration", str(run.path)]) == 1
    assert "calibration-attack-shards/1of2.npz is missing; run the workflow" in capsys.readouterr().err
    for shard in (1, 2):
        assert main(["attack-calibration-shard", str(run.path), str(shard)]) == 0
    run = split(2, **few, attack_batch_size=5)
    assert main(["attack-calibration", str(run.path)]) == 1
    assert "1of2.npz was made with other settings; delete it and rerun" in capsys.readouterr().err
    run.calibration_shard(1).write_bytes(b"")
    assert main(["attack-calibration", str(run.path)]) == 1
    assert "1of2.npz was altered" in capsys.readouterr().err
    assert main(["attack-calibration-shard", str(run.path), "3"]) == 1
    assert capsys.readouterr().err == "lipscale: SHARD is 3; allowed: from 1 to compute.shards, 2\n"


@pytest.mark.slow
@pytest.mark.parametrize("step", ["attack-shard", "attack-calibration-shard"])
def test_a_killed_shard_resumes(split, step):
    """kill -9 after the first finished batch; what is found is what a shard finds that was not killed."""
    few = {"epsilons": [72], "attack_images": 6, "attack_batch_size": 1}
    assert main(["attack", str(split(1, **few).path)]) == 0
    run = split(2, **few)
    epsilon, path = ([], run.calibration_shard(1)) if "calibration" in step else (["72"], run.shard(72, 1))
    command = [sys.executable, "-m", "lipscale", step, str(run.path), *epsilon, "1"]
    subprocess.run(command, check=True, capture_output=True)
    whole, kept = contents(path), partial(path)
    path.unlink()
    kept.unlink()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not kept.exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not path.exists()
    subprocess.run(command, check=True, capture_output=True)
    assert contents(path) == whole


def contents(shard: Path) -> dict:
    """What a shard found, without the time that it took."""
    if shard.suffix == ".json":
        return {name: value for name, value in files.read_json(shard).items() if name != "seconds"}
    with np.load(shard) as arrays:
        return {name: arrays[name].tobytes() for name in arrays.files if name != "seconds"}


def test_shards_that_are_missing_altered_or_of_other_settings_are_named(split, capsys):
    run = split(2, epsilons=[18, 36])
    assert attack_shard(run, 36, 1) == 1
    assert "attack-shards/18-1of2.json is missing; run the workflow" in capsys.readouterr().err
    for shard in (1, 2):
        assert attack_shard(run, 18, shard) == 0
    assert main(["attack", str(run.path)]) == 1
    assert "attack-shards/36-1of2.json is missing" in capsys.readouterr().err
    run = split(2, epsilons=[18, 36], attack_seed=5)
    assert attack_shard(run, 36, 1) == 1
    assert "attack-shards/18-1of2.json was made with other settings; delete it and rerun" in capsys.readouterr().err
    run.shard(18, 1).write_text("{}")
    assert attack_shard(run, 36, 1) == 1
    assert "attack-shards/18-1of2.json was altered" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("epsilon", "shard", "sentence"),
    [
        (37, 1, "EPSILON is 37; allowed: one of evaluation.epsilons, [18, 36, 72]"),
        (36, 3, "SHARD is 3; allowed: from 1 to compute.shards, 2"),
        (36, 0, "SHARD is 0; allowed: from 1 to compute.shards, 2"),
    ],
)
def test_no_such_shard(split, capsys, epsilon, shard, sentence):
    assert attack_shard(split(2), epsilon, shard) == 1
    assert capsys.readouterr().err == f"lipscale: {sentence}\n"


def test_shards_are_not_part_of_a_run_and_do_not_go_with_packed_jobs(tiny):
    tiny["compute"] = {"pack": False}
    one = configs.runs(configs.check(tiny))[0].identity()
    tiny["compute"]["shards"] = 4
    assert configs.runs(configs.check(tiny))[0].identity() == one
    tiny["compute"]["pack"] = True
    with pytest.raises(LipscaleError, match=r"^config: compute\.pack is True; allowed: false where compute\.shards is 4$"):
        configs.check(tiny)


def test_the_workflow_plans_a_job_for_each_epsilon_and_shard(tmp_path: Path, tiny):
    tiny["compute"] = {"shards": 3, "device": "cuda"}
    tiny["evaluation"]["epsilons"] = [72, 36]
    target = "results/tiny/runs/list-0.1-seed0/attack.csv"
    said = snakemake(tmp_path, tiny, "--dry-run", "--cores", 2, "--", target).stdout
    assert said.count("rule attack_shard:") == 6
    jobs = said.split("rule ")
    (second,) = (job for job in jobs if "output: results/tiny/runs/list-0.1-seed0/attack-shards/72-2of3.json" in job)
    inputs = second.partition("output:")[0]
    assert [f"attack-shards/36-{shard}of3.json" in inputs for shard in (1, 2, 3)] == [True] * 3
    assert "attack-shards/72" not in inputs
    (joined,) = (job for job in jobs if job.startswith("attack:"))
    assert joined.count("attack-shards/") >= 6
    assert ("gres=gpu:1" in second, "gres=gpu:1" in joined) == (True, False)


def test_the_workflow_plans_a_job_for_each_shard_of_the_evaluation(tmp_path: Path, tiny):
    tiny["compute"] = {"shards": 3, "device": "cuda"}
    target = "results/tiny/runs/list-0.1-seed0/logits.npz"
    said = snakemake(tmp_path, tiny, "--dry-run", "--cores", 2, "--", target).stdout
    parts = said.split("rule ")
    shards, (joined,) = ([job for job in parts if job.startswith(name)] for name in ("evaluate_shard:", "evaluate:"))
    assert all(f"logits-shards/{shard}of3.npz" in joined for shard in (1, 2, 3))
    assert (len(shards), ["gres=gpu:1" in job for job in (*shards, joined)]) == (3, [True] * 3 + [False])


def test_the_workflow_plans_a_job_for_each_shard_of_the_attack_on_calibration(tmp_path: Path, tiny):
    tiny["compute"] = {"shards": 3, "device": "cuda"}
    target = "results/tiny/runs/list-0.1-seed0/calibration_attack.csv"
    said = snakemake(tmp_path, tiny, "--dry-run", "--cores", 2, "--", target).stdout
    assert said.count("rule attack_calibration_shard:") == 3
    (joined,) = (job for job in said.split("rule ") if job.startswith("attack_calibration:"))
    assert all(f"calibration-attack-shards/{shard}of3.npz" in joined for shard in (1, 2, 3))
    assert "gres=gpu:1" not in joined

"""Several processes, connected by gloo, that train one network: the history of one process, and how they end."""

import copy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import TINY, lipscale, snakemake
from lipscale import config as configs
from lipscale import launch
from lipscale.cli import main
from lipscale.data.prepare import prepare
from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.store.configs import write_configs
from lipscale.store.dataset import write_dataset
from lipscale.training.devices import select_device
from lipscale.training.shares import drawn_for, normal_like, shares, uniform_for
from training_stand_ins import without_seconds

pytestmark = pytest.mark.slow

IMAGES = {"train": 590, "validation": 2300, "test": 20}  # validation: three parts, of which two processes have two and one
FILES = ("history.csv", "feedback.csv")
OBJECTIVES = ("trades", "caat")


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Path:
    """A folder with prepared images: noise, of which a part is that of the class."""
    arrays, manifest = prepare(configs.check(copy.deepcopy(TINY)).dataset)
    draw = np.random.default_rng(0)
    of_class = draw.integers(0, 128, (10, 1, 8, 8), dtype=np.uint8)
    for split, count in IMAGES.items():
        labels = draw.integers(0, 10, count)
        arrays[f"{split}_images"] = draw.integers(0, 128, (count, 1, 8, 8), dtype=np.uint8) + of_class[labels]
        arrays[f"{split}_labels"] = labels
    folder = tmp_path_factory.mktemp("noise")
    counts = {split: {"images": count, "per_class": []} for split, count in IMAGES.items()}
    write_dataset(folder, arrays, manifest | {"counts": counts})
    return folder


def experiment(folder: Path, noise: Path, epochs: int = 2, compute: dict | None = None, **training: object) -> Path:
    """A new experiment, with configs and data; returns the folder of its first run. The last batch has odd size."""
    settings = copy.deepcopy(TINY) | {"compute": compute or {}}
    settings["training"] = {"epochs": epochs, "batch_size": 97, "learning_rate": 0.02, "augmentation": "crop-flip", **training}
    settings["feedback"] = {"warmups": 1, "updates_per_epoch": 2}
    write_configs(configs.check(settings), folder)
    shutil.copytree(noise, folder / "data")
    return next((folder / "runs").glob("list-0.1-*seed0"))  # the objective is part of the name


def table(path: Path) -> list[dict[str, float]]:
    rows = files.read_rows(path)
    return [{name: float(value or "nan") for name, value in row.items() if name != "seconds"} for row in rows]


def trained(run: Path) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """History and measurements of T*."""
    said = lipscale("train", run)
    assert said.stdout == ""
    return table(run / "history.csv"), table(run / "feedback.csv")


@pytest.mark.parametrize("objective", ["cross_entropy", {"name": "pgd", "epsilon": 36, "steps": 2}], ids=["plain", "pgd"])
def test_two_processes_train_as_one(tmp_path, noise, objective):
    """Bit for bit as one process that sums the gradients of two parts; as one that does not, within the rounding of sums.

    Two terms have the same sum in any order, and the mean over two processes divides by a power of two. Float32 has a relative
    rounding of 6e-8, which 14 steps of Adam enlarge: here T*, L and the losses differ by less than 1e-4 of their size.
    """
    whole, parts, two = (
        trained(experiment(tmp_path / name, noise, compute=compute, objective=objective))
        for name, compute in (("whole", {}), ("parts", {"accumulate": 2}), ("two", {"gpus": 2}))
    )
    losses = [[row.pop("train_loss") for row in history] for history, _ in (whole, parts, two)]
    assert losses[2] == pytest.approx(losses[1], rel=1e-6)  # summed over steps first, then over parts
    assert losses[2] == pytest.approx(losses[0], rel=1e-4)
    assert two == parts
    for tables in zip(whole, two, strict=True):
        for one, other in zip(*tables, strict=True):
            for name in ("lipschitz", "temperature", "next_lipschitz", "validation_nll"):
                if name in one:
                    assert other[name] == pytest.approx(one[name], rel=1e-4), name


def test_two_processes_train_runs_of_other_kinds_as_one(tmp_path, noise):
    """Bit for bit as one process that sums two parts. All runs in one start of the processes, whose imports take longest."""
    adversarial = [
        {"objective": {"name": name, "epsilon": 36, "steps": 2}, "list_initial_lipschitz": [0.1]} for name in OBJECTIVES
    ]
    returned = {"calibration_data": "continue", "fixed_lipschitz": [1]}
    source, names = "list-0.1-seed1", [f"list-0.1-{name}36_steps2-seed0" for name in OBJECTIVES]
    names += ["replay-0.1-seed0", "fixed-1-continue-seed0"]
    for folder, compute in (("parts", {"accumulate": 2}), ("two", {"gpus": 2})):
        settings = {**TINY, "compute": compute, "training": {"epochs": 4, "batch_size": 97, "learning_rate": 0.02}}
        settings["runs"] = {"seeds": [0, 1], "list_initial_lipschitz": [0.1], "replay_initial_lipschitz": [0.1]}
        settings["runs"] |= {"fixed_lipschitz": [1], "variants": [*adversarial, returned]}
        write_configs(configs.check(settings), tmp_path / folder)
        shutil.copytree(noise, tmp_path / folder / "data")
    parts, two = (tmp_path / folder / "runs" for folder in ("parts", "two"))
    assert main(["train", *(str(parts / name) for name in (source, *names))]) == 0
    shutil.copytree(parts / source, two / source, dirs_exist_ok=True)  # what the replay repeats
    lipscale("train", *(two / name for name in names))
    for name in names:
        one, other = ([without_seconds(files.read_rows(runs / name / file)) for file in FILES] for runs in (parts, two))
        losses = [[float(row.pop("train_loss")) for row in history] for history, _ in (one, other)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-6), name  # summed over steps first, then over parts
        assert other == one, name
    assert [row["returned"] for row in files.read_rows(two / names[-1] / "history.csv")] == ["0", "0", "0", "1"]


def test_a_killed_process_ends_the_training_which_resumes(tmp_path, noise):
    unbroken = trained(experiment(tmp_path / "unbroken", noise, 60, {"gpus": 2}))
    run = experiment(tmp_path / "killed", noise, 60, {"gpus": 2})
    process = subprocess.Popen(
        [sys.executable, "-m", "lipscale", "train", run], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while not (run / "checkpoint.pt").exists():
        assert process.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (second,) = (pid for pid in children if b"LOCAL_RANK=1\0" in Path(f"/proc/{pid}/environ").read_bytes())
    subprocess.run(["kill", "-9", second], check=True)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    (sentence,) = (line for line in said.splitlines() if line.startswith("lipscale: "))
    assert sentence.startswith("lipscale: process 2 of 2 was killed (SIGKILL), as happens when memory runs out;")
    assert "Traceback" not in said
    assert not (run / "history.csv").exists()
    assert trained(run) == unbroken


def test_an_error_is_told_once(tmp_path, noise):
    run = experiment(tmp_path, noise, compute={"gpus": 2}, learning_rate=1e18)
    said = lipscale("train", run, check=False)
    assert said.returncode == 1
    assert said.stderr.count("lipscale: ") == 1
    assert "lipscale: run list-0.1-seed0: " in said.stderr
    assert "Traceback" not in said.stderr


def test_data_that_are_missing_are_named_once(tmp_path, noise):
    run = experiment(tmp_path, noise, compute={"gpus": 2})
    shutil.rmtree(tmp_path / "data")
    said = lipscale("train", run, check=False)
    assert (said.returncode, said.stderr.count("lipscale: "), "Traceback" in said.stderr) == (1, 1, False)


@pytest.mark.parametrize(("size", "parts"), [(97, 2), (97, 4), (8, 8), (3, 4), (1, 2), (5, 1)])
def test_shares_cover_a_batch(size, parts):
    found = shares(size, parts)
    assert len(found) == parts
    assert sum(share.weight for share in found) == pytest.approx(1)
    counted = [image for share in found if share.weight for image in range(share.start, share.stop)]
    assert counted == list(range(size))
    assert all(share.stop - share.start >= 1 for share in found)
    assert max(share.weight for share in found) - min(share.weight for share in found if share.weight) <= 1.001 / size


def test_a_share_draws_the_numbers_of_the_whole_batch():
    images = torch.zeros(9, 1, 8, 8)
    for draw in (normal_like, uniform_for):
        torch.manual_seed(0)
        whole, found = draw(images), []
        for share in shares(9, 2):
            torch.manual_seed(0)
            with drawn_for(share):
                found.append(draw(images[share.start : share.stop]))
        assert torch.equal(torch.cat(found), whole)


def test_fewer_gpus_than_asked_for_are_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert select_device("cuda", 2, 1) == torch.device("cuda", 1)
    with pytest.raises(LipscaleError, match=r"compute\.gpus is 4, but torch finds 2 here; allowed: at most 2, or"):
        select_device("cuda", 4)


@pytest.mark.parametrize(
    ("compute", "training", "sentence"),
    [
        ({"gpus": 0}, {}, "compute.gpus is 0; allowed: 1 or more"),
        ({"gpus": 1.5}, {}, "compute.gpus is 1.5; allowed: an integer"),
        ({"gpus": 2, "pack": True}, {}, "compute.pack is True; allowed: false where compute.gpus is 2"),
        ({"gpus": 2, "jobs_per_gpu": 2}, {}, "compute.jobs_per_gpu is 2; allowed: 1 where compute.gpus is 2"),
        ({"gpus": 2, "accumulate": 3}, {"batch_size": 5}, "training.batch_size is 5; allowed: at least 6, compute.gpus times"),
    ],
)
def test_configs_that_contradict_several_gpus(tiny, compute, training, sentence):
    tiny["compute"] = compute
    tiny["training"] |= training
    with pytest.raises(LipscaleError) as raised:
        configs.check(tiny)
    assert str(raised.value).startswith(f"config: {sentence}")


def test_fewer_cores_than_a_training_takes_are_refused(tmp_path, tiny):
    """Before any work starts. Snakemake would lower the threads of the training without a word."""
    tiny["compute"] = {"gpus": 2, "threads": 2}
    target = "results/tiny/runs/list-0.1-seed0/model.safetensors"
    said = snakemake(tmp_path, tiny, "--cores", 3, "--", target, check=False)
    assert said.returncode == 1
    assert "a training takes 4 cores (compute.gpus is 2, compute.threads is 2), but Snakemake may use 3; give" in said.stdout
    assert "Traceback" not in said.stdout
    assert not list((tmp_path / "results").rglob("*.*"))


def test_identity_changes_only_with_several_parts(tiny):
    def identity(compute: dict) -> dict:
        return configs.runs(configs.check(tiny | {"compute": compute}))[0].identity()["compute"]

    before = {"device": "cpu", "threads": 1, "precision": "float32", "compile": False}
    assert identity({}) == identity({"gpus": 1, "accumulate": 1}) == before
    assert identity({"gpus": 2}) == before | {"gpus": 2}
    assert identity({"accumulate": 3}) == before | {"accumulate": 3}


def test_a_signal_comes_before_an_error():
    class Failure:
        def __init__(self, exitcode: int, message: str = ""):
            self.exitcode, self.error_file_data = exitcode, {"message": message}

    killed = Failure(-signal.SIGSEGV)
    assert launch.reason({0: Failure(1, "lost"), 1: killed}, 2).startswith("process 2 of 2 was killed (SIGSEGV); the others")
    assert launch.reason({0: Failure(1), 1: Failure(1, "no memory")}, 2) == "no memory"
    assert "process 1, 2 of 2 failed for an unknown reason" in launch.reason({0: Failure(1), 1: Failure(-signal.SIGTERM)}, 2)

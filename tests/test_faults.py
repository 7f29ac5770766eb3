"""What may go wrong around the program: each fault ends in one sentence, and what was finished before stays."""

import errno
import hashlib
import io
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml

from conftest import TINY, lipscale, snakemake
from lipscale import config as configs
from lipscale.cli import main
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError
from lipscale.store import files, locks
from lipscale.training import loop as training

pytestmark = pytest.mark.slow

DONE, NEW = "list-0.1-seed0", "list-0.1-seed1"


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder but locks."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != ".locks"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def steps(folder: Path) -> dict[str, list[str]]:
    """The arguments of each verb that takes a step with the runs, the data and the tables below a folder."""
    run, data = folder / "runs" / DONE, ["--data", folder / "data"]
    arguments = {
        "prepare": ["--settings", folder / "dataset.yaml", "--folder", folder / "data"],
        "train": ["--settings", folder / f"{NEW}.yaml", *data, "--runs", folder / "runs"],
        "predict": [run, *data],
        "calibrate": [run],
        "certify": [run],
        "attack": [
            run,
            *data,
            "--epsilons",
            1,
            "--images",
            4,
            "--audit",
            0,
            "--batch-size",
            4,
        ],  # so small that all is certified
        "tabulate": [run, "--config", folder / "config.yaml", *data, "--tables", folder / "tables"],
        "draw": ["figure2", "--tables", folder / "tables", "--folder", folder / "figures"],
    }
    return {verb: [verb, *map(str, rest)] for verb, rest in arguments.items()}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    """A run that has been taken to the figures, and the settings of another that has not begun."""
    folder = tmp_path_factory.mktemp("experiment")
    evaluation = {"epsilons": [1], "attack_images": 4, "audit_images": 0, "attack_batch_size": 4}
    checked = configs.check({**TINY, "training": {**TINY["training"], "epochs": 2}, "evaluation": evaluation})
    (folder / "config.yaml").write_text(yaml.safe_dump(checked))
    (folder / "dataset.yaml").write_text(yaml.safe_dump(checked["dataset"]))
    for run in configs.runs(checked):
        if run["run"] in (DONE, NEW):
            (folder / f"{run['run']}.yaml").write_text(yaml.safe_dump(run))
    commands = steps(folder)
    commands["train"][2] = str(folder / f"{DONE}.yaml")
    for command in commands.values():
        assert main(command) == 0
    return folder


@pytest.fixture
def copied(experiment, tmp_path) -> Path:
    shutil.copytree(experiment, tmp_path / "copied")
    return tmp_path / "copied"


def on_a_disk(source: Path, folder: Path, fault: str, commands: Iterable[list[str]]) -> list[str]:
    """Call `main` with each of the commands on a disk with a fault that holds a copy of `source`; returns what each one says.

    The disk is at `folder`/disk, in a mount namespace that ends with the commands; its files are then in `folder`/after.
    """
    script = """
        mount -t tmpfs -o size=4m none disk || exit 77
        cp -r "$1/." disk
        case $2 in
            full) dd if=/dev/zero of=disk/filler bs=4k 2> /dev/null ;;
            nearly-full) dd if=/dev/zero of=disk/filler bs=4k 2> /dev/null; truncate --size=-12K disk/filler ;;
            read-only) mount -o remount,ro disk ;;
        esac
        "$3" -c "$4"
        code=$?
        rm -f disk/filler
        cp -r disk/. after
        exit $code
    """
    code = f"""if True:
        import sys
        from lipscale.cli import main
        for command in {list(commands)!r}:
            print("exit code", main(command), "\\n# ", file=sys.stderr)
    """
    for name in ("disk", "after"):
        (folder / name).mkdir()
    shell = ["unshare", "--map-root-user", "--mount", "bash", "-c", script, "bash"]
    result = subprocess.run(
        [*shell, str(source), fault, sys.executable, code], cwd=folder, capture_output=True, text=True, check=False
    )
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip(f"no disk can be mounted here: {result.stderr.strip()}")
    assert result.returncode == 0, result.stderr
    return result.stderr.split("\n# ")[:-1]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("full", "No space left on device; make room there"),
        ("read-only", "Read-only file system; allowed: a place that can be written to"),
    ],
)
def test_disk_that_cannot_be_written_to(experiment, tmp_path, fault, reason):
    commands = steps(tmp_path / "disk")
    said = on_a_disk(experiment, tmp_path, fault, commands.values())
    for heard in said:
        sentence, code = heard.splitlines()[-2:]
        assert code.strip() == "exit code 1"
        assert sentence.startswith("lipscale: ")
        assert str(tmp_path / "disk") in sentence
        assert reason in sentence
        assert "Traceback" not in heard
    assert len(said) == len(commands)
    assert contents(tmp_path / "after") == contents(experiment)


def test_disk_that_is_full_before_the_first_checkpoint(experiment, tmp_path):
    said = on_a_disk(experiment, tmp_path, "nearly-full", [steps(tmp_path / "disk")["train"]])
    assert f"{NEW}/checkpoint.pt cannot be written: No space left on device; make room there" in said[0]
    assert "Traceback" not in said[0]
    assert set(contents(tmp_path / "after")) - set(contents(experiment)) == {f"runs/{NEW}/config.yaml"}


def test_killed_while_writing(tmp_path):
    """The file stays as it was, and the next attempt takes the place of what is left."""
    path = tmp_path / "table.csv"
    path.write_text("whole")
    code = (
        "import os, sys; from lipscale import files\n"
        "with files.atomic(sys.argv[1]) as temporary: temporary.write_text('ha'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == -signal.SIGKILL
    assert path.read_text() == "whole"
    assert [left.name for left in tmp_path.iterdir() if left != path] == [".partial-table.csv"]
    files.write_text(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_leaves_is_overwritten(copied):
    commands = steps(copied)
    commands["train"][2] = str(copied / f"{DONE}.yaml")
    before = contents(copied)
    for path in [path for name in ("runs", "tables") for path in (copied / name).rglob("*.*") if path.is_file()]:
        if not path.name.startswith((".", "attack")):
            path.with_name(f".partial-{path.name}").write_bytes(b"PK half a file")
    (copied / "runs" / DONE / f".partial-{training.CHECKPOINT}").write_bytes(b"PK half a file")
    for verb in ("train", "predict", "calibrate", "certify", "tabulate"):
        assert main(commands[verb]) == 0
    after = contents(copied)
    assert set(after) == set(before)
    for name in ("model.safetensors", "logits.npz", "calibration.json", "sweep.csv", "radii.csv", "images.csv"):
        assert after[f"runs/{DONE}/{name}"] == before[f"runs/{DONE}/{name}"]


# ---------------------------------------------------------------------------------------------------------------- locks


def test_second_process_waits_for_the_first(experiment, tmp_path):
    folder = tmp_path / "data"
    command = [sys.executable, "-m", "lipscale", "prepare", "--settings", experiment / "dataset.yaml", "--folder", folder]
    with locks.writing("prepare", [folder]):
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == f"waiting for process {os.getpid()}, which is still writing {folder}\n"
        assert process.poll() is None
        assert not folder.exists()
    with process:
        assert process.wait() == 0
    assert Dataset(folder).classes == 10


def test_lock_ends_with_a_killed_process(tmp_path, capsys):
    code = (
        "import os, sys; from pathlib import Path; from lipscale import locks\n"
        "with locks.writing('train', [Path(sys.argv[1])]): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False).returncode
    with locks.writing("train", [tmp_path / "run"]):
        assert "waiting" not in capsys.readouterr().out


def test_what_an_orphan_has_finished_is_not_done_again(copied, monkeypatch):
    """A job that outlived Snakemake has ended; the next Snakemake, which cannot know, removes its outputs and runs it again."""
    run, commands = copied / "runs" / NEW, steps(copied)
    evaluation = {verb: [argument.replace(DONE, NEW) for argument in command] for verb, command in commands.items()}
    evaluation["attack"][evaluation["attack"].index("--epsilons") + 1] = "72"
    config = yaml.safe_load((copied / "config.yaml").read_text())
    config["evaluation"]["epsilons"] = [72]
    (copied / "config.yaml").write_text(yaml.safe_dump(config))

    def again(command: list[str], step: str, outputs: list[str]) -> None:
        """Twice, where the second time the dear part would fail."""
        assert main(command) == 0
        before = [(run / name).read_bytes() for name in outputs]
        for path in run.iterdir():
            if path.name in (*outputs, "attack.json"):
                path.unlink()
        with monkeypatch.context() as patch:
            patch.delattr(step)
            assert main(command) == 0
        assert [(run / name).read_bytes() for name in outputs] == before

    again(commands["train"], "lipscale.training.loop.Training.epoch", ["config.yaml", "history.csv", "model.safetensors"])
    for verb in ("predict", "calibrate", "certify"):
        assert main(evaluation[verb]) == 0
    assert not (run / training.CHECKPOINT).exists()
    again(evaluation["attack"], "lipscale.attacks.autoattack._attacked", ["attack.csv"])
    assert (run / "attack-partial.json").exists()
    assert main(evaluation["tabulate"]) == 0
    assert not (run / "attack-partial.json").exists()


def test_calibration_does_not_wait_for_an_attack(experiment, capsys):
    with locks.writing("attack", [experiment / "runs" / DONE]):
        assert main(steps(experiment)["certify"]) == 0
    assert "waiting" not in capsys.readouterr().out


def test_folders_in_any_order_are_no_deadlock(tmp_path):
    folders = [tmp_path / name for name in ("a", "b", "c")]

    def lock_often(order: list[Path]) -> None:
        for _ in range(100):
            with locks.writing("train", order):
                pass

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lock_often, (folders, folders[::-1], [*folders[1:], folders[0]]), timeout=60)) == [None] * 3


@pytest.fixture
def left_locks(tmp_path, monkeypatch) -> Path:
    """What a Snakemake that was killed leaves of two experiments; its host is this one."""
    monkeypatch.chdir(tmp_path)
    locks.hold_experiment(Path("results/tiny"), Path(".snakemake/locks")).close()
    folder = Path(".snakemake/locks")
    folder.mkdir(parents=True)
    (folder / "0.output.lock").write_text("results/tiny/data/arrays.npz\nresults/tiny/tables/runs.csv\n")
    (folder / "1.output.lock").write_text("results/tiny2/data/arrays.npz\n")
    return folder


def test_locks_of_a_killed_snakemake_are_removed(left_locks, capsys):
    with locks.hold_experiment(Path("results/tiny"), left_locks):
        assert [path.name for path in left_locks.iterdir()] == ["1.output.lock"]  # that of another experiment stays
        assert "the Snakemake that made results/tiny was killed" in capsys.readouterr().err
        with pytest.raises(LipscaleError, match=f"already being made, by process {os.getpid()}; wait"):
            locks.hold_experiment(Path("results/tiny"), left_locks)
        locks.hold_experiment(Path("results/other"), left_locks).close()


@pytest.mark.parametrize("signature", ["17 another-host", "", "17"])
def test_locks_of_another_host_are_left_alone(left_locks, signature):
    """Twice, as the first attempt must not make them look like this host's."""
    Path("results/.locks/tiny").write_text(signature)
    for _ in range(2):
        locks.hold_experiment(Path("results/tiny"), left_locks).close()
    assert len(list(left_locks.iterdir())) == 2


def test_file_system_without_locks(left_locks, monkeypatch):
    def flock(file: object, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    locks.hold_experiment(Path("results/tiny"), left_locks).close()
    assert len(list(left_locks.iterdir())) == 2
    with locks.writing("train", [Path("results/tiny/runs/one")]):
        pass
    assert Path("results/tiny/runs/.locks/one.train").read_text() == f"{os.getpid()} {platform.node()}"


# --------------------------------------------------------------------------------------------------------------- memory


def test_memory_that_runs_out_is_named(experiment, tmp_path):
    """For real, on the CPU: the process may have half a GiB more than its imports take."""
    run = yaml.safe_load((experiment / f"{NEW}.yaml").read_text())
    run["network"]["widths"] = [20000, 20000]
    (tmp_path / "large.yaml").write_text(json.dumps(run))
    code = """if True:
        import resource, sys
        from pathlib import Path
        import lipscale.attacks.autoattack
        from lipscale.cli import main
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 2**29, size + 2**29))
        sys.exit(main(sys.argv[1:]))
    """
    command = ["train", "--settings", tmp_path / "large.yaml", "--data", experiment / "data", "--runs", tmp_path]
    result = subprocess.run([sys.executable, "-c", code, *map(str, command)], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"lipscale: run {NEW}: memory ran out (" in result.stderr
    assert "lower training.batch_size, which is 128" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("verb", "what", "advice"),
    [
        ("train", f"run {NEW}", "lower training.batch_size, which is 128, or compute.jobs_per_gpu"),
        ("attack", f"the attack on run {DONE}", "lower evaluation.attack_batch_size, which is 4"),
        ("predict", "predict", "run fewer jobs at once, or give it more memory"),
    ],
)
def test_memory_of_a_gpu_that_runs_out_is_named(experiment, monkeypatch, capsys, verb, what, advice):
    """With the exception that torch raises put in the place of the step, as there need not be a GPU here."""

    def run_out(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB.")

    monkeypatch.setattr(f"lipscale.{'training' if verb == 'train' else verb}.{verb}", run_out)
    assert main(steps(experiment)[verb]) == 1
    sentence = f"lipscale: {what}: memory ran out (CUDA out of memory. Tried to allocate 2.00 GiB); {advice}\n"
    assert sentence in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_workflow_without_the_gpu_that_it_asks_for(tmp_path, tiny):
    tiny["compute"] |= {"device": "cuda"}
    result = snakemake(tmp_path, tiny, "--cores", 1, "--", "results/tiny/runs/fixed-20-seed0/model.safetensors", check=False)
    assert result.returncode == 1
    sentence = "lipscale: compute.device is cuda, but torch finds no GPU here; allowed: a machine with a GPU, or cpu\n"
    assert sentence in result.stdout
    assert sentence == (tmp_path / "results" / "tiny" / "logs" / "train" / "fixed-20.txt").read_text()
    assert "Error in rule train_fixed" in result.stdout


def test_failing_rule_is_not_hidden_by_its_log(copied, tmp_path, tiny):
    """`figures` has no outputs whose absence would betray it, only its exit code."""
    (tmp_path / "results" / "tiny").mkdir(parents=True)
    shutil.copytree(copied / "tables", tmp_path / "results" / "tiny" / "tables")
    (tmp_path / "results" / "tiny" / "tables" / "runs.csv").write_text("no table\n")
    result = snakemake(tmp_path, tiny, "--cores", 1, "--", "figures", check=False)
    assert result.returncode == 1
    assert "Error in rule figures" in result.stdout


# ---------------------------------------------------------------------------------------------- losses that are not finite

CONVOLUTIONS = {"architecture": "convnet", "patch": 1, "depth": 1, "channels": [4], "widths": [16]}


@pytest.mark.parametrize(
    ("method", "network", "batch_size", "sentence", "finished"),
    [
        ("list", {"widths": [16]}, 128, "the training loss became nan in epoch 1 at L = 0.1", 0),  # in the middle of the epoch
        ("fixed", CONVOLUTIONS, 5000, "the weights are no longer finite in epoch 1 at L = 1", 0),  # after its only step
        ("unconstrained", CONVOLUTIONS, 5000, "the validation logits are no longer finite in epoch 1 at L = inf", 0),
        ("unconstrained", {"widths": [16]}, 5000, "the training loss became inf in epoch 2 at L = inf", 1),
    ],
)
def test_training_that_diverges(settings, tiny, experiment, tmp_path, capsys, method, network, batch_size, sentence, finished):
    tiny["network"] = {}
    tiny["runs"]["unconstrained_learning_rate"] = 1e18
    network = {"architecture": "mlp", **network}
    run = settings(method, network=network, training={"learning_rate": 1e18, "batch_size": batch_size})
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(run))
    command = ["train", "--settings", tmp_path / "settings.yaml", "--data", experiment / "data", "--runs", tmp_path]
    assert main([*map(str, command)]) == 1
    error = capsys.readouterr().err
    assert f"lipscale: run {run['run']}: {sentence}; a smaller training.learning_rate may help\n" in error
    checkpoint = tmp_path / run["run"] / training.CHECKPOINT
    assert checkpoint.exists() == bool(finished)
    if finished:
        state = training.read_checkpoint(checkpoint)
        assert len(state["history"]) == finished
        assert all(tensor.isfinite().all() for tensor in state["network"].values() if isinstance(tensor, torch.Tensor))
    assert {path.name for path in checkpoint.parent.iterdir()} <= {"config.yaml", training.CHECKPOINT}


def test_checkpoint_of_the_last_good_epoch_stays(settings, experiment, tmp_path, monkeypatch):
    """Weights become NaN in the middle of the third epoch."""
    epoch, path = training.Training.epoch, tmp_path / training.CHECKPOINT
    seen = []

    def poisoned(self: training.Training, after_step: object) -> dict:
        def poison() -> None:
            if len(self.history) == 2:
                seen.append(path.read_bytes())
                next(self.network.layers.parameters()).data.fill_(float("nan"))

        return epoch(self, poison)

    monkeypatch.setattr(training.Training, "epoch", poisoned)
    with pytest.raises(LipscaleError, match="the training loss became nan in epoch 3"):
        training.train(settings(), Dataset(experiment / "data"), tmp_path)
    assert path.read_bytes() == seen[0]
    assert len(training.read_checkpoint(path)["history"]) == 2


# ---------------------------------------------------------------------------------------------------------- checkpoints


@pytest.fixture(scope="module")
def saved(experiment, tmp_path_factory) -> tuple[dict, Dataset, bytes]:
    """Settings, data and the checkpoint of one epoch."""
    run, dataset = yaml.safe_load((experiment / f"{NEW}.yaml").read_text()), Dataset(experiment / "data")
    state = training.Training(run, dataset, torch.device("cpu"))
    state.epoch()
    path = tmp_path_factory.mktemp("saved") / training.CHECKPOINT
    state.save(path)
    return run, dataset, path.read_bytes()


def assert_passed_over(saved: tuple[dict, Dataset, bytes], path: Path, contents: Iterable[bytes], capsys) -> None:
    """Each content is passed over with a sentence, and leaves the initial weights and an unused optimiser."""
    state = training.Training(*saved[:2], torch.device("cpu"))
    before = {name: value.clone() for name, value in state.network.named_parameters()}
    lipschitz = state.network.lipschitz
    for content in contents:
        path.write_bytes(content)
        state.resume(path)
        said = capsys.readouterr().out
        assert said.startswith(f"{path} cannot be read (")
        assert said.endswith("); training starts anew\n")
        assert state.history == state.measurements == []
    assert all(torch.equal(before[name], value) for name, value in state.network.named_parameters())
    assert state.network.lipschitz == lipschitz
    assert not state.optimizer.state_dict()["state"]


def test_altered_and_truncated_checkpoints_are_passed_over(saved, tmp_path, capsys):
    whole, chance = saved[2], random.Random(0)
    places = [0, 31, 32, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(200))]
    flipped = (whole[:place] + bytes([whole[place] ^ 1 << chance.randrange(8)]) + whole[place + 1 :] for place in places)
    assert_passed_over(saved, tmp_path / "checkpoint.pt", flipped, capsys)
    assert_passed_over(saved, tmp_path / "checkpoint.pt", (whole[:place] for place in places), capsys)
    assert_passed_over(saved, tmp_path / "checkpoint.pt", (whole + b"\0", whole * 2), capsys)


def test_checkpoints_of_other_versions_are_passed_over(saved, tmp_path, capsys):
    """The format before checksums; keys that are missing or unknown; weights of another shape, of which some fit."""

    def written(state: object) -> bytes:
        payload = io.BytesIO()
        torch.save(state, payload)
        return hashlib.sha256(payload.getvalue()).digest() + payload.getvalue()

    (tmp_path / "whole.pt").write_bytes(saved[2])
    state = training.read_checkpoint(tmp_path / "whole.pt")
    network = {name: value + 1 if isinstance(value, torch.Tensor) else value for name, value in state["network"].items()}
    last = list(network)[-1]
    others = [
        saved[2][32:],
        written([1]),
        *(written({name: value for name, value in state.items() if name != key}) for key in state),
        written(state | {"network": network | {last: torch.zeros(3, 5, 7)}}),
        written(state | {"network": network, "optimizer": {"state": {}, "param_groups": []}}),
    ]
    assert_passed_over(saved, tmp_path / "checkpoint.pt", others, capsys)


@pytest.mark.parametrize("error", [PermissionError, MemoryError, torch.OutOfMemoryError])
def test_checkpoint_that_cannot_be_looked_at_is_left_alone(experiment, tmp_path, monkeypatch, error):
    """Training does not start anew, which would overwrite what may be whole. Errors are raised by hand."""

    def fail(*_):
        raise error("not now")

    settings = yaml.safe_load((experiment / f"{NEW}.yaml").read_text())
    run, path = training.Training(settings, Dataset(experiment / "data"), torch.device("cpu")), tmp_path / training.CHECKPOINT
    run.epoch()
    run.save(path)
    content = path.read_bytes()
    monkeypatch.setattr(training, "read_checkpoint", fail)
    with pytest.raises(error):
        training.train(settings, Dataset(experiment / "data"), tmp_path)
    assert path.read_bytes() == content


def test_whole_checkpoint_is_used(saved, tmp_path, capsys):
    (tmp_path / "checkpoint.pt").write_bytes(saved[2])
    state = training.Training(*saved[:2], torch.device("cpu"))
    state.resume(tmp_path / "checkpoint.pt")
    assert len(state.history) == 1
    assert not capsys.readouterr().out


def test_missing_files_are_named(experiment, tmp_path):
    result = lipscale("certify", tmp_path / "run", check=False)
    assert result.returncode == 1
    assert result.stderr == f"lipscale: {tmp_path / 'run' / 'model.safetensors'} is missing; the workflow makes it\n"

"""What may go wrong around the program: each fault ends in one sentence, and what was finished before stays."""

import os
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
from filelock import FileLock

from conftest import TINY, lipscale, snakemake
from lipscale import config as configs
from lipscale.cli import main
from lipscale.steps.train import CHECKPOINT, OUTPUTS
from lipscale.store import files, locks, state
from lipscale.store.configs import write_config
from lipscale.store.dataset import read_dataset
from lipscale.store.run_folder import PARTIAL, PARTIAL_CALIBRATION, RunFolder
from lipscale.training import loop

pytestmark = pytest.mark.slow

EVALUATED = ("logits.npz", "calibration.json", "sweep.csv", "reliability.csv", "radii.csv", "certificate.json")
DONE, OTHER, NEW = "list-0.1-seed0", "fixed-20-seed0", "list-0.1-seed1"


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder but locks."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != ".locks"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def steps(folder: Path) -> dict[str, list[str]]:
    """The arguments of each step that the workflow takes with an experiment's folder."""
    arguments = {
        "prepare": [folder / "config.yaml", "--folder", folder / "data"],
        "train": [folder / "runs" / NEW],
        "evaluate": [folder / "runs" / DONE],
        "attack": [folder / "runs" / DONE],
        "attack-calibration": [folder / "runs" / DONE],
        "tabulate": [folder],
        "draw": [folder, "--figures", "figure2"],
    }
    return {step: [step, *map(str, rest)] for step, rest in arguments.items()}


def write_settings(run: configs.Run, experiment: Path) -> None:
    """The config of a run in the experiment's folder, as the workflow writes it."""
    write_config(run, experiment / "runs" / run.run / "config.yaml")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory) -> Path:
    """An experiment of two runs that has been taken to a figure, and the settings of a third run that has not begun."""
    folder = tmp_path_factory.mktemp("experiment") / "tiny"
    evaluation = {
        "epsilons": [1],
        "attack_images": 4,
        "spot_check_images": 0,
        "attack_batch_size": 4,
    }  # so small that all is certified
    config = {**TINY, "training": {**TINY["training"], "epochs": 2}, "evaluation": evaluation}
    config["runs"] = {"seeds": [0], "list_initial_lipschitz": [0.1], "fixed_lipschitz": [20]}
    assert lipscale("configure", folder, stdin=config).returncode == 0
    commands = steps(folder)
    for step in ("train", "evaluate", "attack", "attack-calibration"):
        commands[step][1:] = [str(folder / "runs" / name) for name in (DONE, OTHER)]
    for command in commands.values():
        assert main(command) == 0
    config["runs"]["seeds"] = [1]
    write_settings(next(run for run in configs.runs(configs.check(config)) if run.run == NEW), folder)
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
        ("full", "No space left on device; free some space there"),
        ("read-only", "Read-only file system; allowed: a folder that can be written to"),
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
    assert f"{NEW}/checkpoint.pt cannot be written: No space left on device; free some space there" in said[0]
    assert "Traceback" not in said[0]
    assert contents(tmp_path / "after") == contents(experiment)


def test_killed_while_writing(tmp_path):
    """The file stays as it was, and the next attempt takes the place of what is left."""
    path = tmp_path / "table.csv"
    path.write_text("whole")
    code = (
        "import os, sys; from lipscale.store import files\n"
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
    commands["train"][1] = str(copied / "runs" / DONE)
    before = contents(copied)
    of_run = [copied / "runs" / DONE / name for name in (*OUTPUTS, *EVALUATED, CHECKPOINT)]
    for path in [*(copied / "tables").iterdir(), *of_run]:
        if path.is_file() or path.name == CHECKPOINT:
            path.with_name(f".partial-{path.name}").write_bytes(b"PK half a file")
    for step in ("train", "evaluate", "attack", "attack-calibration", "tabulate"):
        assert main(commands[step]) == 0
    after = contents(copied)
    assert set(after) == set(before)
    for name in ("model.safetensors", *EVALUATED, "images.csv"):
        assert after[f"runs/{DONE}/{name}"] == before[f"runs/{DONE}/{name}"]


# ---------------------------------------------------------------------------------------------------------------- locks


def test_second_process_waits_for_the_first(experiment, tmp_path):
    folder = tmp_path / "data"
    command = [sys.executable, "-m", "lipscale", "prepare", experiment / "config.yaml", "--folder", folder]
    with locks.writing("prepare", [folder]):
        process = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == f"waiting for process {os.getpid()}, which is still writing {folder}\n"
        assert process.poll() is None
        assert not folder.exists()
    with process:
        assert process.wait() == 0
    assert len(read_dataset(folder).classes) == 10


def test_lock_ends_with_a_killed_process(tmp_path, capsys):
    code = (
        "import os, sys; from pathlib import Path; from lipscale.store import locks\n"
        "with locks.writing('train', [Path(sys.argv[1])]): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False).returncode
    with locks.writing("train", [tmp_path / "run"]):
        assert "waiting" not in capsys.readouterr().out


def test_what_an_orphan_has_finished_is_not_done_again(copied, monkeypatch):
    """A job that outlived Snakemake has ended; the next Snakemake, which cannot know, removes its outputs and reruns it."""
    run = RunFolder(copied / "runs" / NEW)
    evaluation = {**run.settings.evaluation.model_dump(), "epsilons": [72]}
    write_settings(configs.check_run({**run.settings.model_dump(), "evaluation": evaluation}), copied)

    def repeat(step: str, expensive: str, outputs: list[str]) -> None:
        """Twice, where the second time the expensive part would fail."""
        assert main([step, str(run.path)]) == 0
        before = [(run / name).read_bytes() for name in outputs]
        for name in (*outputs, "attack.json"):
            (run / name).unlink(missing_ok=True)
        with monkeypatch.context() as patch:
            patch.delattr(expensive)
            assert main([step, str(run.path)]) == 0
        assert [(run / name).read_bytes() for name in outputs] == before

    repeat("train", "lipscale.training.loop.Training.epoch", ["history.csv", "model.safetensors"])
    assert main(["evaluate", str(run.path)]) == 0
    assert not (run / CHECKPOINT).exists()
    repeat("attack", "lipscale.attacks.robustness.attack_batch", ["attack.csv"])
    assert (run / PARTIAL).exists()
    repeat(
        "attack-calibration",
        "lipscale.attacks.on_calibration.gradient_and_logits",
        ["calibration_attack.csv"],
    )
    for name in (PARTIAL, PARTIAL_CALIBRATION):
        (copied / "runs" / DONE / name).write_text("left over")
    assert main(["tabulate", str(copied)]) == 0
    assert not {PARTIAL, PARTIAL_CALIBRATION} & {path.name for path in (copied / "runs" / DONE).iterdir()}


def test_evaluation_does_not_wait_for_an_attack(experiment, capsys):
    with locks.writing("attack", [experiment / "runs" / DONE]):
        assert main(steps(experiment)["evaluate"]) == 0
    assert "waiting" not in capsys.readouterr().out


def test_folders_in_any_order_are_no_deadlock(tmp_path):
    folders = [tmp_path / name for name in ("a", "b", "c")]

    def lock_often(order: list[Path]) -> None:
        for _ in range(100):
            with locks.writing("train", order):
                pass

    with ThreadPoolExecutor() as pool:
        assert list(pool.map(lock_often, (folders, folders[::-1], [*folders[1:], folders[0]]), timeout=60)) == [None] * 3


def test_file_system_without_locks(tmp_path, monkeypatch):
    def acquire(self: FileLock, *_: object, **__: object) -> None:
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with locks.writing("train", [tmp_path / "run"]):
        pass


# --------------------------------------------------------------------------------------------------------------- memory


def test_memory_that_runs_out_is_named(copied):
    """For real, on the CPU: the process may have half a GiB more than its imports take."""
    run = RunFolder(copied / "runs" / NEW)
    network = {**run.settings.network.model_dump(), "widths": [20000, 20000]}
    write_settings(configs.check_run({**run.settings.model_dump(), "network": network}), copied)
    code = """if True:
        import resource, sys
        from pathlib import Path
        import lipscale.attacks.autoattack, lipscale.steps.train
        from lipscale.cli import main
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + 2**29, size + 2**29))
        sys.exit(main(sys.argv[1:]))
    """
    result = subprocess.run([sys.executable, "-c", code, "train", run.path], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert f"lipscale: run {NEW}: memory ran out (" in result.stderr
    assert "lower training.batch_size, which is 128" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("step", "function", "what", "advice"),
    [
        ("train", "train.train", f"run {NEW}", "lower training.batch_size, which is 128, or compute.jobs_per_gpu"),
        (
            "attack",
            "attack.evaluate_robustness",
            f"the attack on run {DONE}",
            "lower evaluation.attack_batch_size, which is 4",
        ),
        ("evaluate", "evaluate.exact_logits", "evaluate", "run fewer jobs at once, or give it more memory"),
    ],
)
def test_memory_of_a_gpu_that_runs_out_is_named(experiment, monkeypatch, capsys, step, function, what, advice):
    """Simulated: there is no GPU here. The words are those of torch."""

    def run_out(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB.")

    monkeypatch.setattr(f"lipscale.steps.{function}", run_out)
    assert main(steps(experiment)[step]) == 1
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
    assert "Error in rule train:" in result.stdout


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
def test_training_that_diverges(settings, tiny, copied, capsys, method, network, batch_size, sentence, finished):
    tiny["network"] = {}
    tiny["runs"]["unconstrained_learning_rate"] = 1e18
    network = {"architecture": "mlp", **network}
    run = settings(method, network=network, training={"learning_rate": 1e18, "batch_size": batch_size})
    run = run.model_copy(update={"run": "diverging"})
    write_settings(run, copied)
    assert main(["train", str(copied / "runs" / "diverging")]) == 1
    error = capsys.readouterr().err
    assert f"lipscale: run diverging: {sentence}; a smaller training.learning_rate may help\n" in error
    folder = copied / "runs" / "diverging"
    assert (folder / CHECKPOINT).exists() == bool(finished)
    assert {path.name for path in folder.iterdir()} <= {"config.yaml", ".checksums", CHECKPOINT}


def test_checkpoint_of_the_last_good_epoch_stays(settings, copied, monkeypatch):
    """Weights become NaN in the middle of the third epoch."""
    epoch = loop.Training.epoch
    run = settings()
    write_settings(run, copied)
    path, seen = copied / "runs" / run.run / CHECKPOINT, []

    def poisoned(self: loop.Training, *arguments: object, **named: object) -> object:
        if len(self.history) == 2:
            seen.append(path.read_bytes())
            next(self.network.layers.parameters()).data.fill_(float("nan"))
        return epoch(self, *arguments, **named)

    monkeypatch.setattr(loop.Training, "epoch", poisoned)
    assert main(["train", str(copied / "runs" / run.run)]) == 1
    assert path.read_bytes() == seen[0]


# --------------------------------------------------------------------------------------------------------------- states


def assert_passed_over(path: Path, contents: Iterable[bytes], capsys) -> None:
    for content in contents:
        path.write_bytes(content)
        assert state.load(path, {"run": 1}) is None
        assert capsys.readouterr().out == f"{path} is damaged (its checksum differs); this step starts from the beginning\n"


def test_altered_and_truncated_states_are_passed_over(tmp_path, capsys):
    path, chance = tmp_path / "state", random.Random(0)
    state.save(path, {"run": 1}, bytes(range(256)) * 40)
    whole = path.read_bytes()
    assert state.load(path, {"run": 1}) == bytes(range(256)) * 40
    start = whole.index(b"\n") + 1
    positions = [start, len(whole) - 1, *(chance.randrange(start, len(whole)) for _ in range(200))]
    flipped = (whole[:k] + bytes([whole[k] ^ 1 << chance.randrange(8)]) + whole[k + 1 :] for k in positions)
    assert_passed_over(path, flipped, capsys)
    assert_passed_over(path, (whole[:k] for k in positions), capsys)
    assert_passed_over(path, (b"", b"{}", b"[1]\n", b"null\n\0", whole + b"\0", whole * 2), capsys)


def test_state_of_other_work_is_passed_over(tmp_path, capsys):
    path = tmp_path / "state"
    state.save(path, {"run": 1}, b"content")
    assert state.load(path, {"run": 2}) is None
    assert capsys.readouterr().out == f"{path} is from other settings or data; this step starts from the beginning\n"
    assert state.load(path, {"run": 1}) == b"content"


def test_checkpoint_of_another_version_is_passed_over(copied, capsys):
    """Its checksum is right, its content is not what this version writes."""
    run = RunFolder(copied / "runs" / NEW)
    identity = {"config_hash": configs.digest(run.settings.identity()), "data_sha256": read_dataset(run.data).sha256}
    state.save(run / CHECKPOINT, identity, b"of another version")
    assert main(["train", str(run.path)]) == 0
    assert "start" in capsys.readouterr().out
    assert (run / "model.safetensors").exists()


def test_checkpoint_that_cannot_be_read_now_is_left_alone(copied, monkeypatch):
    """Training does not start from the beginning, which would overwrite what may be whole."""
    run = RunFolder(copied / "runs" / NEW)
    (run / CHECKPOINT).write_bytes(b"perhaps whole")

    def fail(*_: object) -> None:
        raise PermissionError(13, "not now", "checkpoint.pt")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        assert main(["train", str(run.path)]) == 1
    assert (run / CHECKPOINT).read_bytes() == b"perhaps whole"


def test_missing_files_are_named(copied, capsys):
    (copied / "runs" / DONE / "model.safetensors").unlink()
    assert main(["evaluate", str(copied / "runs" / DONE)]) == 1
    path = copied / "runs" / DONE / "model.safetensors"
    assert capsys.readouterr().err.endswith(f"lipscale: {path} is missing; run the workflow to create it\n")

"""What may go wrong with disks and memory: each fault ends in one sentence, and what was finished before stays."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from conftest import snakemake
from lipscale import config as configs
from lipscale.cli import main
from lipscale.steps.train import CHECKPOINT, OUTPUTS
from lipscale.store import files
from lipscale.store.run_folder import RunFolder
from short_experiment import DONE, NEW, steps, write_settings

pytestmark = pytest.mark.slow

EVALUATED = ("logits.npz", "calibration.json", "sweep.csv", "reliability.csv", "radii.csv", "certificate.json")


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder but locks."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != ".locks"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


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
def test_memory_of_a_gpu_that_runs_out_is_named(copied, monkeypatch, capsys, step, function, what, advice):
    """Simulated: there is no GPU here. The words are those of torch."""

    def run_out(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79 GiB.")

    monkeypatch.setattr(f"lipscale.steps.{function}", run_out)
    assert main(steps(copied)[step]) == 1
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
    """What a rule pipes into `tee`. `figures` has no outputs whose absence would betray it, only its exit code."""
    (tmp_path / "results" / "tiny").mkdir(parents=True)
    shutil.copytree(copied / "tables", tmp_path / "results" / "tiny" / "tables")
    (tmp_path / "results" / "tiny" / "tables" / "runs.csv").write_text("no table\n")
    result = snakemake(tmp_path, tiny, "--cores", 1, "--", "figures", check=False)
    assert result.returncode == 1
    assert "Error in rule figures" in result.stdout

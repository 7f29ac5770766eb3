"""Processes that meet in one folder: one waits for the other, and what one has finished the other does not do again."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from filelock import FileLock

from lipscale import config as configs
from lipscale.cli import main
from lipscale.steps.train import CHECKPOINT
from lipscale.store import locks
from lipscale.store.dataset import read_dataset
from lipscale.store.run_folder import PARTIAL, PARTIAL_CALIBRATION, RunFolder
from short_experiment import DONE, NEW, steps, write_settings

pytestmark = pytest.mark.slow


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
        ["calibration_attack.csv", "reliability_band.csv"],
    )
    for name in (PARTIAL, PARTIAL_CALIBRATION):
        (copied / "runs" / DONE / name).write_text("left over")
    assert main(["tabulate", str(copied)]) == 0
    assert not {PARTIAL, PARTIAL_CALIBRATION} & {path.name for path in (copied / "runs" / DONE).iterdir()}


def test_evaluation_does_not_wait_for_an_attack(copied, capsys):
    with locks.writing("attack", [copied / "runs" / DONE]):
        assert main(steps(copied)["evaluate"]) == 0
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

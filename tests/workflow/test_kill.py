"""kill -9 at any moment, of anything, and the same command again: the tables are those of an unbroken run, bit for bit."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import TINY, assert_same_tables, snakemake, snakemake_command
from fuzzing import TIMES
from lipscale.store import locks

pytestmark = pytest.mark.slow

CONFIG = {
    **TINY,
    "training": {"epochs": 30, "batch_size": 128, "learning_rate": 0.02},
    "runs": {"seeds": [0], "list_initial_lipschitz": [0.1], "fixed_lipschitz": [20]},
    "figures": {"posthoc_lipschitz": 20},
    "evaluation": {"epsilons": [72], "attack_images": 6, "spot_check_images": 2, "attack_batch_size": 3},
}
TARGET = "results/tiny/tables/runs.csv"
KILLS = [  # which job must have begun, and what is killed; Snakemake alone leaves orphans, which the next start meets
    ("train", "job"), ("train", "group"), ("train", "main"), ("evaluate", "main"), ("attack", "group"), ("attack", "job"),
]  # fmt: skip
LATEST = {"train": 5.0, "evaluate": 4.0, "attack": 6.0}  # seconds after the job's start; 2 go into importing
MADE = {"train": "model.safetensors", "evaluate": "calibration.json", "attack": "attack.csv"}


def jobs(folder: Path, verb: str = "") -> list[int]:
    """The processes that run `python -m lipscale VERB`, or any verb, in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"\0lipscale\0{verb}".encode() in (process / "cmdline").read_bytes() and (process / "cwd").samefile(folder):
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found


def wait_until(condition: Callable[[], object], process: subprocess.Popen, output: Path) -> None:
    """Wait for a condition that comes true while a process runs."""
    while not condition():
        assert process.poll() is None, output.read_text()
        time.sleep(0.01)


def start(folder: Path, output: Path) -> subprocess.Popen:
    """Snakemake in a process group of its own."""
    with output.open("w") as file:
        return subprocess.Popen(
            snakemake_command(folder, CONFIG, "--cores", 2, "--", TARGET),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken")
    snakemake(folder, CONFIG, "--cores", 2, "--", TARGET)
    return folder


def kill(folder: Path, verb: str, victim: str, delay: float) -> str | None:
    """Start Snakemake and kill -9 the whole process group, Snakemake alone, or the jobs alone, so long after a job has begun.

    Returns what Snakemake had said by then; None if there was nothing left to kill.
    """
    for path in (folder / "results" / "tiny" / "runs").glob(f"*/{MADE[verb]}"):
        path.unlink()  # where orphans or the last start have got further than this job
    (folder / TARGET).unlink(missing_ok=True)
    output = folder / "output.txt"
    if (folder / ".snakemake" / "locks").exists() and any((folder / ".snakemake" / "locks").iterdir()):
        snakemake(folder, CONFIG, "--cores", 1, "--unlock")  # Snakemake itself was killed
    process = start(folder, output)
    wait_until(lambda: jobs(folder, verb), process, output)
    time.sleep(delay)  # the moment is random: there is nothing to wait for
    victims = {"group": [-process.pid], "main": [process.pid], "job": jobs(folder)}[victim]
    alive = process.poll() is None and victims
    for number in victims:
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    return output.read_text() if process.wait() and alive else None


def test_killed_again_and_again(unbroken, tmp_path):
    """Each time, Snakemake starts again with the same command, after --unlock where it was killed itself."""
    chance, said = random.Random(0), []
    for verb, victim in KILLS * TIMES:
        heard = None
        while heard is None:
            heard = kill(tmp_path, verb, victim, chance.uniform(0, LATEST[verb]))
        said.append(heard)
        if victim == "job":
            assert re.search(r"Error in rule \w+:(.*\n)+ +log: results/tiny/logs/", heard)
            assert "lipscale: the process was killed (SIGKILL)" in heard
    snakemake(tmp_path, CONFIG, "--cores", 1, "--unlock")
    snakemake(tmp_path, CONFIG, "--cores", 2, "--", TARGET)
    assert_same_tables(tmp_path / "results" / "tiny", unbroken / "results" / "tiny")
    left = [path.name for path in (tmp_path / "results" / "tiny").rglob("*") if path.is_file()]
    assert not [name for name in left if "partial" in name or "checkpoint" in name]
    assert "Nothing to be done" in snakemake(tmp_path, CONFIG, "--dry-run", "--", TARGET).stdout


def test_second_workflow_in_the_same_folder_is_refused(unbroken, tmp_path):
    """By Snakemake's own locks; the first one goes on undisturbed."""
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    for path in (tmp_path / "results").rglob("*.csv"):
        if path.parent.name == "tables" or path.name == "radii.csv":
            path.unlink()
    output = tmp_path / "output.txt"
    with locks.writing("evaluate", [tmp_path / "results" / "tiny" / "runs" / "fixed-20-seed0"]):  # which the first waits for
        process = start(tmp_path, output)
        wait_until(lambda: jobs(tmp_path, "evaluate"), process, output)
        second = snakemake(tmp_path, CONFIG, "--cores", 1, "--", TARGET, check=False)
    assert second.returncode == 1
    assert "Directory cannot be locked" in second.stdout
    assert process.wait() == 0, output.read_text()
    assert_same_tables(tmp_path / "results" / "tiny", unbroken / "results" / "tiny")

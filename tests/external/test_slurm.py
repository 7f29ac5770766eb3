"""The workflow on a real SLURM, which the script named by LIPSCALE_SLURM_UP starts (and slurm_down.sh beside it stops)."""

import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import ROOT, SMALL, SMALL_TARGETS, TINY, assert_same_tables, snakemake, snakemake_command
from lipscale.store import locks

START = os.environ.get("LIPSCALE_SLURM_UP")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not START, reason="LIPSCALE_SLURM_UP names no script that starts SLURM"),
]
PROFILE = [
    *("--workflow-profile", ROOT / "workflow" / "profiles" / "slurm"),
    *("--slurm-init-seconds-before-status-checks", 6, "--cores", os.cpu_count()),
]
RUN = "results/tiny/runs/list-0.1-seed0"
COLUMNS = ("JobIDRaw", "State", "Partition", "AllocTRES", "Timelimit", "Comment", "WorkDir")


@pytest.fixture(scope="module")
def slurm() -> Iterator[dict[str, str]]:
    """The environment of processes that talk to the cluster."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)  # its daemons refuse pytest's own folders, which nobody else may enter
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own = {"SLURM_LAB_PORT": str(free.getsockname()[1]), "SLURM_LAB_CPUS": str(os.cpu_count()), "SLURM_LAB_GPUS": "2"}
    command = [START, folder, "--dbd"]
    started = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env={**os.environ, **own})
    said = dict(re.findall(r"^export (\w+)=(.*)$", started.stdout, re.MULTILINE))
    yield {**os.environ, **said, "PATH": said["PATH"].replace("$PATH", os.environ["PATH"])}
    subprocess.run([Path(START).with_name("slurm_down.sh"), folder], check=True)
    shutil.rmtree(folder)


class Workflow:
    """Snakemake with the profile, in a process group of its own."""

    def __init__(self, slurm: dict[str, str], folder: Path, config: dict, *arguments: object):
        self.slurm, self.folder, self.output = slurm, folder, folder / "output.txt"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                snakemake_command(folder, config, *PROFILE, *arguments),
                stdout=file,
                stderr=subprocess.STDOUT,
                env=slurm,
                start_new_session=True,
            )

    def jobs(self) -> list[dict[str, str]]:
        """SLURM's own records of the jobs that were submitted for the folder, in the order of submission."""
        command = ["sacct", "-X", "--parsable2", "--noheader", f"--format={','.join(COLUMNS)}"]
        lines = subprocess.run(command, env=self.slurm, capture_output=True, text=True, check=True).stdout.splitlines()
        records = [dict(zip(COLUMNS, line.split("|"), strict=True)) for line in lines]
        return [record for record in records if record["WorkDir"] == str(self.folder)]

    def wait_for(self, state: str, rule: str = "train", seconds: float = 300) -> str:
        """The id of the first job of a rule that is in a state; asked of squeue, as accounting hears of the rule in the end."""
        command = ["squeue", "--states=all", "--noheader", "--format=%i|%T|%Z|%k"]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            lines = subprocess.run(command, env=self.slurm, capture_output=True, text=True, check=True).stdout.splitlines()
            for number, *job in (line.split("|") for line in lines):
                if job[:2] == [state, str(self.folder)] and job[2].startswith(f"rule_{rule}"):
                    return number
            assert self.process.poll() is None, self.output.read_text()
            time.sleep(0.5)
        raise AssertionError(f"no {state}: {lines}")

    def said(self, code: int = 0) -> str:
        """All that it has said, once it has ended."""
        ended, said = self.process.wait(timeout=900), self.output.read_text()
        assert ended == code, said
        return said


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with the data of the tiny experiment."""
    folder = tmp_path_factory.mktemp("prepared")
    snakemake(folder, TINY, "--cores", 1, "--", "prepare_data")
    return folder


@pytest.fixture(scope="module")
def train_one(slurm, prepared, tmp_path_factory) -> Callable[..., Workflow]:
    """`train_one(retries, key=value)`: a workflow that trains one run, with these values in the section `compute`."""

    def make(retries: int, **compute: object) -> Workflow:
        folder = tmp_path_factory.mktemp("train")
        shutil.copytree(prepared / "results", folder / "results")
        config = {**TINY, "compute": compute}
        return Workflow(slurm, folder, config, "--retries", retries, "--", f"{RUN}/model.safetensors")

    return make


def test_cancelled_job_is_submitted_again(train_one):
    workflow = train_one(2)
    with locks.writing("train", [workflow.folder / RUN]):
        subprocess.run(["scancel", workflow.wait_for("RUNNING")], env=workflow.slurm, check=True)
        workflow.wait_for("CANCELLED")
    workflow.said()
    assert [job["State"].split()[0] for job in workflow.jobs()] == ["CANCELLED", "COMPLETED"]


def test_job_out_of_memory_gets_more(train_one):
    """PyTorch alone takes more than 400 MB; the third attempt has more than enough."""
    workflow = train_one(2, mem_mb=400, train_runtime=5)
    said = workflow.said()
    jobs = workflow.jobs()
    assert jobs[0]["State"] in ("OUT_OF_MEMORY", "FAILED")  # the latter where SLURM watches the memory without cgroups
    assert "memory limit" in said or "out-of-memory" in said.lower()  # SLURM's words, in the log that is shown
    assert jobs[-1]["State"] == "COMPLETED"
    for attempt, job in enumerate(jobs, start=1):
        assert f"mem={400 * attempt}M" in job["AllocTRES"]
        assert job["Timelimit"] == f"00:{5 * attempt:02}:00"


def test_job_that_fails_is_named(train_one):
    """With its rule, its reason and its logs. This one gets the two GPUs that it asks for, but PyTorch cannot use them."""
    workflow = train_one(0, device="cuda", gpus=2, mem_mb=1000, train_runtime=20)
    said = workflow.said(code=1)
    (job,) = workflow.jobs()
    assert (job["State"], job["Partition"], job["Timelimit"]) == ("FAILED", "gpu", "00:20:00")
    assert {"cpu=2", "mem=2000M", "gres/gpu=2"} <= set(job["AllocTRES"].split(","))
    assert "Error in rule train:" in said
    assert "lipscale: compute.device is cuda, but torch finds no GPU here" in said
    assert "log: results/tiny/logs/train/list-0.1-seed0.txt" in said
    (log,) = set(re.findall(r"log: (\S+/slurm_logs/\S+\.log)", said))
    assert "torch finds no GPU here" in Path(log).read_text()


def test_job_out_of_time_gets_more(train_one):
    workflow = train_one(2, train_runtime=1)
    with locks.writing("train", [workflow.folder / RUN]):  # for which the job waits longer than it may
        workflow.wait_for("TIMEOUT")
    assert "DUE TO TIME LIMIT" in workflow.said()
    jobs = workflow.jobs()
    assert (jobs[0]["State"], jobs[-1]["State"]) == ("TIMEOUT", "COMPLETED")
    assert [job["Timelimit"] for job in jobs] == [f"00:{attempt + 1:02}:00" for attempt in range(len(jobs))]


def test_allocation_larger_than_any_node_is_refused(slurm, prepared):
    workflow = Workflow(slurm, prepared, TINY, "--cores", os.cpu_count() + 1, "--", f"{RUN}/model.safetensors")
    said = workflow.said(code=1)
    assert f"cores, but the largest node of this cluster has {os.cpu_count()}" in said
    assert "Traceback" not in said
    assert workflow.jobs() == []


def test_tables_are_the_same_even_if_the_submitting_process_is_killed(slurm, small_experiment, tmp_path):
    """Both trainings share an allocation of two cores, both attacks another one."""
    shared = ["--cores", 2, "--group-components", "train=2", "attack=2", "evaluate=2", "--", *SMALL_TARGETS]
    workflow = Workflow(slurm, tmp_path, SMALL, *shared)
    workflow.wait_for("RUNNING", "attack", seconds=1200)  # all trainings come first
    os.killpg(workflow.process.pid, signal.SIGKILL)
    workflow.process.wait()
    results = tmp_path / "results" / "small"
    models = {path: path.stat().st_mtime_ns for path in results.glob("runs/*/model.safetensors")}
    assert len(models) == 2

    snakemake(tmp_path, SMALL, "--cores", 1, "--unlock")
    workflow = Workflow(slurm, tmp_path, SMALL, *shared)
    workflow.said()
    assert {path: path.stat().st_mtime_ns for path in models} == models
    jobs = workflow.jobs()
    rules = [re.match("rule_([a-z]+)", job["Comment"])[1] for job in jobs]
    assert rules == ["prepare", "train", "evaluate", "attack", "attack", "figures"]
    assert (jobs[1]["Partition"], jobs[1]["Timelimit"]) == ("cpu", "00:10:00")  # two trainings of 10 minutes, side by side
    assert {"cpu=2", "mem=3000M"} <= set(jobs[1]["AllocTRES"].split(","))
    assert_same_tables(results, small_experiment / "results" / "small")

"""What several tests share: small data, small settings, a trained run."""

import copy
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
import yaml

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side, and their matrices are small

from lipscale import config as configs

os.fsync = lambda descriptor: None  # tests kill processes, not the computer; waiting for the disk was most of their time
ROOT = Path(__file__).resolve().parent.parent

tried = Counter()  # examples that tests/fuzz has fed in, by kind


LONGEST = (
    "test_conda", "test_slurm", "test_workflow", "test_kill", "test_extensions", "test_published_networks", "test_processes",
    "test_checksums", "test_examples", "test_report", "test_security", "test_config_workflow", "test_faults", "test_shards",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files that take longest come first, so that at the end no process of pytest-xdist is alone with one of them."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


def pytest_sessionfinish(session) -> None:
    """Hands the counts of a process of pytest-xdist to the one that reports."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["tried"] = dict(tried)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node) -> None:
    tried.update(getattr(node, "workeroutput", {}).get("tried", {}))


def pytest_terminal_summary(terminalreporter) -> None:
    """Says how many examples were tried."""
    kinds = [kind for kind in sorted(tried) if not kind.endswith(" refused")]
    if kinds:
        counts = (f"{tried[kind]} {kind} ({tried[f'{kind} refused']} refused)" for kind in kinds)
        terminalreporter.write_line(f"properties: {', '.join(counts)}")


TINY = {
    "experiment": "tiny",
    "dataset": {"name": "digits", "validation_images": 300, "test_images": 300},
    "network": {"architecture": "mlp", "widths": [16]},
    "training": {"epochs": 6, "batch_size": 128, "learning_rate": 0.02},
    "runs": {
        "seeds": [0, 1],
        "list_initial_lipschitz": [0.1, 100],
        "fixed_lipschitz": [20],
        "unconstrained_learning_rate": 0.01,
    },
    "evaluation": {"epsilons": [72], "attack_images": 60, "spot_check_images": 10, "attack_batch_size": 60},
    "compute": {"pack": True},
}


SMALL = TINY | {  # for tests that need an experiment, and not what it shows
    "experiment": "small",
    "training": {"epochs": 2, "batch_size": 128, "learning_rate": 0.02},
    "runs": {"seeds": [0], "list_initial_lipschitz": [1], "fixed_lipschitz": [20]},
    "evaluation": {
        "epsilons": [72], "attack_images": 8, "spot_check_images": 2, "attack_batch_size": 8, "falsify_images": 2
    },
    "compute": {"pack": True, "mem_mb": 1500, "train_runtime": 10, "attack_runtime": 20},
}  # fmt: skip
SMALL_TARGETS = ("results/small/tables/claims.csv", "results/small/figures/figure1.png")  # all tables, one figure


@pytest.fixture
def tiny() -> dict:
    """A small valid config, to be changed freely."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """The folder of the prepared digits of the tiny config."""
    from lipscale.data.prepare import prepare
    from lipscale.store.dataset import write_dataset

    folder = tmp_path_factory.mktemp("digits")
    write_dataset(folder, *prepare(configs.check(copy.deepcopy(TINY)).dataset))
    return folder


@pytest.fixture
def settings(tiny):
    """`settings(...)`: the settings of the tiny config's first run of a method, with keys of its sections changed."""

    def make(method: str = "list", **changes: dict) -> configs.Run:
        for section, values in changes.items():
            tiny.setdefault(section, {}).update(values)
        return next(run for run in configs.runs(configs.check(tiny)) if run.method == method)

    return make


def lipscale(*arguments: object, stdin: object = None, check: bool = True) -> subprocess.CompletedProcess:
    """`python -m lipscale ...`, with `stdin` sent as JSON."""
    return subprocess.run(
        [sys.executable, "-m", "lipscale", *map(str, arguments)],
        input=None if stdin is None else json.dumps(stdin),
        capture_output=True,
        text=True,
        check=check,
    )


def snakemake_command(folder: Path, config: dict, *arguments: object, root: Path = ROOT) -> list[str]:
    """Snakemake with the workflow in `root`, writing below `folder`."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "snakemake", "--snakefile", root / "Snakefile"]
    return [*map(str, [*command, "--directory", folder, "--configfile", path, *arguments])]


def snakemake(
    folder: Path, config: dict, *arguments: object, check: bool = True, root: Path = ROOT
) -> subprocess.CompletedProcess:
    """Run `snakemake_command`; stdout holds all that it says."""
    command = snakemake_command(folder, config, *arguments, root=root)
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    assert result.returncode == 0 or not check, result.stdout
    return result


@contextmanager
def shared_folder(tmp_path_factory, name: str) -> Iterator[Path]:
    """A folder that all processes of pytest-xdist have, one of them at a time."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder


@pytest.fixture(scope="session")
def tiny_experiment(tmp_path_factory) -> Path:
    """A folder with the finished tiny experiment twice, run once for all processes of pytest-xdist.

    `made` has a copy of the sources that it was run from, which test_workflow.py changes; `kept` stays as it was.
    """
    with shared_folder(tmp_path_factory, "tiny experiment with spaces") as folder:
        if not (folder / "kept").exists():
            for name in ("src", "workflow", "envs", "profiles"):
                shutil.copytree(ROOT / name, folder / "made" / name)
            shutil.copy(ROOT / "Snakefile", folder / "made")
            snakemake(folder / "made", TINY, "--cores", 2, root=folder / "made")
            shutil.copytree(folder / "made", folder / "copying", symlinks=True)
            (folder / "copying").rename(folder / "kept")
    return folder


@pytest.fixture(scope="session")
def small_experiment(tmp_path_factory) -> Path:
    """A folder with the finished small experiment, run once for all processes of pytest-xdist; tests copy what they change."""
    with shared_folder(tmp_path_factory, "small experiment") as folder:
        if not (folder / "finished").exists():
            (folder / "begun").mkdir()
            snakemake(folder / "begun", SMALL, "--cores", 2, "--", *SMALL_TARGETS)
            (folder / "begun").rename(folder / "finished")
    return folder / "finished"


@pytest.fixture(scope="session")
def experiment(tmp_path_factory) -> Path:
    """The experiment of short_experiment.py, made once for all processes of pytest-xdist; tests copy what they change."""
    from short_experiment import make

    with shared_folder(tmp_path_factory, "short experiment") as folder:
        if not (folder / "finished").exists():
            make(folder / "begun" / "tiny")
            (folder / "begun").rename(folder / "finished")
    return folder / "finished" / "tiny"


@pytest.fixture
def copied(experiment, tmp_path) -> Path:
    """A copy of that experiment, to be changed freely."""
    shutil.copytree(experiment, tmp_path / "copied")
    return tmp_path / "copied"


def tables(results: Path) -> dict[str, pd.DataFrame]:
    """The tables of an experiment, each cell as it is written, without measured times."""
    names = ["runs", "robustness", "history", "feedback", "sweep", "reliability", "certified"]
    read = {name: pd.read_csv(results / "tables" / f"{name}.csv", dtype=str) for name in names}
    return {name: table.drop(columns=[column for column in table if "seconds" in column]) for name, table in read.items()}


def assert_same_tables(first: Path, second: Path) -> None:
    """Of two folders of one experiment, bit for bit but for measured times."""
    for one, other in zip(tables(first).values(), tables(second).values(), strict=True):
        pd.testing.assert_frame_equal(one, other)

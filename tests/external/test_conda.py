"""`snakemake --use-conda`, as in docs/conda.md: the tables of a run without conda, from nothing but the environments."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from conftest import ROOT, SMALL, assert_same_tables

CONDA_UP = os.environ.get("LIPSCALE_CONDA_UP")
reason = "LIPSCALE_CONDA_UP does not name a script that prints how to put a conda on the PATH"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CONDA_UP, reason=reason)]

VERBS_OF = {
    "envs/compute.yaml": {"prepare", "train", "evaluate", "attack", "attack-calibration", "falsify"},
    "envs/figures.yaml": {"tabulate", "tabulate-falsifications", "claims", "draw", "summarise", "page"},
}
RECORDER = '''
"""Python imports this as it starts in a rule; as it ends, what was loaded is written down."""

import atexit, json, os, sys
from pathlib import Path


def record():
    files = {str(getattr(module, "__file__", None)) for module in list(sys.modules.values())}
    files = sorted(filter(os.path.isfile, files))  # torch has modules that name a file without being one
    record = {"command": sys.orig_argv, "prefix": sys.prefix, "files": files}
    Path(__file__).with_name("loaded").joinpath(f"{os.getpid()}.json").write_text(json.dumps(record))


atexit.register(record)
'''


def of_docs(command: str) -> str:
    """The line of docs/conda.md that begins with a command, without its comment."""
    return re.search(rf"^    ({re.escape(command)}.*?)(  +#.*)?$", (ROOT / "docs" / "conda.md").read_text(), re.MULTILINE)[1]


def clone(folder: Path) -> Path:
    """A clone of the repository as it lies here, with what is not committed yet."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    changes = subprocess.run(["git", "diff", "--binary", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["git", "apply", "--allow-empty"], cwd=folder, input=changes, check=True)
    (folder / "src" / "sitecustomize.py").write_text(RECORDER)
    (folder / "src" / "loaded").mkdir()
    return folder


def packages_of_a_user(folder: Path) -> Path:
    """What `pip install --user` leaves, as it should not: a torch and a matplotlib that cannot be imported."""
    site = folder / "lib" / "python3.11" / "site-packages"
    for name in ("torch", "matplotlib"):
        version = versions("envs/compute.yaml")[name]
        information = site / f"{name}-{version}.dist-info"
        information.mkdir(parents=True)
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (site / f"{name}.py").write_text("raise ImportError('borrowed from the user')\n")
    return folder


def versions(environment: str) -> dict[str, str]:
    """What a file pins for this machine."""
    dependencies = yaml.safe_load((ROOT / environment).read_text())["dependencies"]
    pins = map(Requirement, dependencies[-1]["pip"])
    return {pin.name: str(pin.specifier)[2:] for pin in pins if pin.marker is None or pin.marker.evaluate()}


class User:
    """Somebody who has conda and a clone, and nothing of what this process has installed."""

    def __init__(self, folder: Path) -> None:
        self.clone = clone(folder / "a clone")  # with a space in its path
        self.conda = folder / "conda"
        hook = 'eval "$(conda shell.bash hook)"'  # what `conda init` adds to a user's .bashrc
        self.activate = f'eval "$({shlex.quote(CONDA_UP)} {self.conda})"; {hook}'
        foreign = ("CONDA", "PYTEST", "PYTHON", "VIRTUAL_ENV")
        self.variables = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        path = [entry for entry in os.environ["PATH"].split(os.pathsep) if Path(entry) != Path(sys.executable).parent]
        self.variables["PATH"] = os.pathsep.join(path)
        self.variables["PIP_NO_COMPILE"] = "1"  # a minute for each environment; Python compiles what is imported
        self.variables["PYTHONUSERBASE"] = str(packages_of_a_user(folder / "user"))

    def types(self, *lines: str) -> str:
        """Bash commands, in the clone. Returns what they say."""
        result = subprocess.run(
            ["bash", "-c", "\n".join(["set -e", self.activate, *lines])],
            cwd=self.clone,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout
        return result.stdout

    def environment(self, name: str) -> Path:
        """Where the environment made from a file lies."""
        if name == "environment.yml":
            return self.conda / "base" / "envs" / "lipscale"
        copies = (self.clone / ".snakemake" / "conda").glob("*.yaml")
        return next(copy for copy in copies if copy.read_text() == (self.clone / name).read_text()).with_suffix("")


@pytest.fixture(scope="module")
def user(tmp_path_factory):
    """Has followed docs/conda.md with a small experiment, and falsified it too, so that every rule has run."""
    user = User(tmp_path_factory.mktemp("conda"))
    (user.clone / "small.yaml").write_text(yaml.safe_dump(SMALL))
    launch = f"{of_docs('snakemake --cores all --use-conda')} --configfile small.yaml"
    try:
        user.types(of_docs("conda env create"), f"{launch} -- all falsify")
        yield user
    finally:
        for folder in (user.conda, user.clone / ".snakemake"):  # gigabytes, which pytest would keep
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def jobs(user) -> list[dict]:
    """What each process of a rule has loaded."""
    return [json.loads(path.read_text()) for path in (user.clone / "src" / "loaded").iterdir()]


def test_tables_are_those_of_a_run_without_conda(user, small_experiment):
    assert_same_tables(user.clone / "results" / "small", small_experiment / "results" / "small")


def test_every_rule_was_run(jobs):
    rules = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    verbs = set(re.findall(r"python -m lipscale ([a-z-]+)", rules))
    verbs -= {"evaluate-shard", "attack-shard", "attack-calibration-shard"}  # only where compute.shards is above 1
    assert verbs == set.union(*VERBS_OF.values()) == {job["command"][3] for job in jobs}


@pytest.mark.parametrize("name", VERBS_OF)
def test_rules_load_nothing_from_outside_their_environment(user, jobs, name):
    environment = user.environment(name)
    for job in jobs:
        if job["command"][3] in VERBS_OF[name]:
            assert Path(job["prefix"]) == environment
            inside = (f"{environment}/", f"{user.clone}/src/")
            assert not [file for file in job["files"] if not file.startswith(inside)], job["command"]


@pytest.mark.parametrize("name", ["environment.yml", *VERBS_OF])
def test_environments_hold_what_is_pinned_and_nothing_else(user, name):
    """But for pip, and what some channels install with it."""
    command = [user.environment(name) / "bin" / "python", "-Im", "pip", "list", "--format", "json"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    installed = {canonicalize_name(package["name"]): package["version"] for package in listed}
    pinned = versions(name)
    for extra in {"pip", "setuptools", "wheel", "packaging"} - set(pinned):
        installed.pop(extra, None)
    assert installed == pinned

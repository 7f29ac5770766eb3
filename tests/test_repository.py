"""The repository itself: pins that agree, sources that are formatted."""

import re
import subprocess
import sys
import tomllib

import pytest
import yaml

from conftest import ROOT

LOCK = dict(
    re.match(r"([a-z0-9._-]+)==([^ ;]+)", line).groups()
    for line in reversed((ROOT / "requirements.lock").read_text().splitlines())
    if line and not line.startswith("#")
)  # where a package has a pin for each version of Python, the first is that of Python 3.11


def pip_section(path: str) -> list[str]:
    dependencies = yaml.safe_load((ROOT / path).read_text())["dependencies"]
    return next(entry["pip"] for entry in dependencies if isinstance(entry, dict))


@pytest.mark.parametrize("path", ["environment.yml", "envs/compute.yaml", "envs/figures.yaml"])
def test_conda_environments_pin_what_the_lock_pins(path):
    for requirement in pip_section(path):
        name, version = requirement.split("==")
        assert LOCK[name] == version


def test_conda_environments_have_every_dependency():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.match(r"[a-z0-9-]+", requirement)[0] for requirement in project["dependencies"]}
    pinned = {line.split("==")[0] for path in ("envs/compute.yaml", "envs/figures.yaml") for line in pip_section(path)}
    assert pinned == needed


@pytest.mark.parametrize("arguments", [["check"], ["format", "--check"]])
def test_python_is_formatted(arguments):
    result = subprocess.run([sys.executable, "-m", "ruff", *arguments, str(ROOT)], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr

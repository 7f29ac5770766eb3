"""benchmarks/training_step.py: each layer family, of a convolutional network, makes a step."""

import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
FAMILIES = ["orthogonal", "cayley", "bro", "aol", "sll"]


def run(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, ROOT / "benchmarks" / "training_step.py", *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


def test_families_are_compared(tmp_path):
    config = yaml.safe_load((ROOT / "config" / "mnist5k.yaml").read_text())
    config["network"] |= {"channels": [4], "widths": [8]}
    config["training"]["batch_size"] = 8
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    result = run("--config", tmp_path / "config.yaml", "--rounds", 1, "--steps", 1, "--families", *FAMILIES)
    assert result.returncode == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()[2:]]
    assert [name for name, *_ in rows] == [*FAMILIES, "unconstrained"]
    assert all(float(number) > 0 for _, *numbers in rows for number in numbers)


def test_an_unknown_family_is_refused_in_one_sentence():
    result = run("--families", "lazy")
    assert result.returncode == 2
    assert "invalid choice: 'lazy'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_config_that_is_wrong_is_refused_in_one_sentence():
    result = run("--config", ROOT / "config" / "mnist5k.yaml", "--precision", "float8")
    assert result.returncode == 1
    assert result.stderr.startswith("training_step: config: compute.precision is 'float8'; allowed: one of float32, bf16")
    assert result.stderr.count("\n") == 1

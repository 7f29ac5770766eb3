"""The scripts in examples/ run as they stand and reach what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_example(script, tmp_path):
    for library in re.findall(r"^from (deel|mlxtend|orthogonium|sklearn)\b", (EXAMPLES / script).read_text(), re.MULTILINE):
        pytest.importorskip(library)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(EXAMPLES.parent / "src")}
    said = subprocess.run(
        [sys.executable, EXAMPLES / script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    enforced, certified = map(float, re.search(r"enforced L (\S+), certified L (\S+)", said.stdout).groups())
    accuracy, ece = re.search(r"test accuracy (\S+)%, ECE (\S+)", said.stdout).groups()
    assert certified == pytest.approx(enforced, rel=1e-3)
    assert float(accuracy) > 90
    assert float(ece) < 0.04
    shares = [float(share) for share in re.findall(r"certified accuracy at \d+/255: (\S+)%", said.stdout)]
    assert float(accuracy) >= shares[0] > shares[1] > shares[2]
    assert shares[0] > 70
    assert "25 certificates attacked, 0 broken" in said.stdout
    assert not list(tmp_path.iterdir())


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 95, path

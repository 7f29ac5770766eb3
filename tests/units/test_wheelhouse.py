"""Which wheels a computer without internet needs. Collecting them needs a package index and is not tested here."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCK = """# a comment
contourpy==1.3.3 ; python_full_version < '3.12'  # via matplotlib
contourpy==1.4.0 ; python_full_version >= '3.12'  # via matplotlib
cffi==2.1.1 ; implementation_name != 'pypy' and os_name == 'nt'  # via trio
pymdown-extensions==12.3 ; python_full_version < '3.11.5'
pymdown-extensions==13.1.2 ; python_full_version >= '3.11.5'
Connection_Pool==0.0.3  # via snakemake
"""


@pytest.fixture
def wheelhouse(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "envs")
    import wheelhouse

    return wheelhouse


def test_markers_are_evaluated_for_the_other_python(wheelhouse):
    both = ["pymdown-extensions==12.3", "pymdown-extensions==13.1.2"]  # which of them depends on the release of 3.11
    assert wheelhouse.pins(LOCK, "3.11", "x86_64") == ["contourpy==1.3.3", *both, "connection-pool==0.0.3"]
    assert wheelhouse.pins(LOCK, "3.13", "x86_64") == ["contourpy==1.4.0", both[1], "connection-pool==0.0.3"]


def test_wheels_for_older_systems_are_accepted(wheelhouse):
    tags = wheelhouse.platforms(17, "x86_64")
    assert tags[:3] == ["manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_16_x86_64"]
    assert tags[-2:] == ["manylinux1_x86_64", "linux_x86_64"]


def test_present_wheels_are_not_downloaded_again(wheelhouse, tmp_path):
    (tmp_path / "connection_pool-0.0.3-py3-none-any.whl").touch()
    assert wheelhouse.present(tmp_path) == {"connection-pool==0.0.3"}


def test_wheels_compiled_for_this_computer_are_refused(wheelhouse, tmp_path):
    wheel = tmp_path / "fast-1.0-cp311-cp311-linux_x86_64.whl"
    wheel.touch()
    with pytest.raises(SystemExit, match=r"fast==1\.0 has no wheel"):
        wheelhouse.refuse_compiled("fast==1.0", tmp_path)
    assert not wheel.exists()


def test_wrong_version_is_one_sentence():
    command = [sys.executable, ROOT / "envs" / "wheelhouse.py", "--python", "2.7"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "allowed: such as --python 3.12" in result.stderr


def test_make_installs_from_the_wheelhouse_alone():
    command = ["make", "--dry-run", "--always-make", ".venv/complete", "WHEELHOUSE=/wheels"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    installs = [line for line in said.splitlines() if "pip install" in line]
    assert installs
    assert all("--no-index --find-links /wheels" in line for line in installs)

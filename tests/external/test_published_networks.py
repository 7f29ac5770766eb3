"""The published networks: their data can be made again, they certify what the tables say, and the checker proves it."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT, lipscale
from lipscale.cli import main
from lipscale.store.published import published

PUBLISHED = ROOT / "results" / "published"
NETWORKS = published(PUBLISHED)
IMAGES = 20  # whose radii are proven, of all test images


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """`data(experiment)`: the prepared data of a published experiment."""
    made = {}

    def prepared(experiment: str) -> Path:
        if experiment not in made:
            made[experiment] = tmp_path_factory.mktemp(experiment)
            lipscale("prepare", PUBLISHED / experiment / "config.yaml", "--folder", made[experiment])
        return made[experiment]

    return prepared


def test_there_are_some():
    assert {name.partition("/")[0] for name in NETWORKS} >= {"digits", "mnist5k"}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_checker_proves_the_certificate(name, data, tmp_path, capsys):
    experiment, _, run = name.partition("/")
    folder, certificate = data(experiment), tmp_path / "certificate.json"
    described = json.loads((PUBLISHED / experiment / "networks" / "networks.json").read_text())
    assert json.loads((folder / "manifest.json").read_text())["arrays_sha256"] == described["data"]["arrays_sha256"]
    assert main(["certify", name, str(folder), "--epsilons", "72", "--certificate", str(certificate)]) == 0
    found = dict(csv.reader(capsys.readouterr().out.splitlines()))
    with (PUBLISHED / experiment / "runs.csv").open(encoding="utf-8") as file:
        row = next(row for row in csv.DictReader(file) if row["run"] == run)
    for column in ("images", "clean_accuracy", "certified_72"):
        assert float(found[column]) == pytest.approx(float(row[column]), abs=0.003), (
            column
        )  # an image or two may be on the edge
    check = [sys.executable, "-S", "-E", ROOT / "checker" / "check.py", certificate, NETWORKS[name], folder, "--images", IMAGES]
    proven = subprocess.run([*map(str, check)], capture_output=True, text=True, check=False)
    assert proven.returncode == 0, proven.stderr
    assert f"{IMAGES} of {found['images']} images, confidences at 72" in proven.stdout

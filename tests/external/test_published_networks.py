"""The published networks: their data can be made again, they certify what the tables say, and the checker proves it."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, lipscale
from lipscale.cli import main
from lipscale.store.published import published

pytestmark = pytest.mark.slow

PUBLISHED = ROOT / "results" / "published"
NETWORKS = published(PUBLISHED)
IMAGES = {"imagefolder": 1}  # whose radii are proven, of all test images; a colour image takes seconds
ARCHIVE = os.environ.get("LIPSCALE_CIFAR10_JPEG")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """`data(experiment)`: the prepared data of a published experiment, and their source."""
    made = {}

    def prepared(experiment: str) -> tuple[Path, str]:
        folder = made.get(experiment)
        config = yaml.safe_load((PUBLISHED / experiment / "config.yaml").read_text(encoding="utf-8"))
        source = config["dataset"]["name"]
        if source == "imagefolder" and not ARCHIVE:
            pytest.skip("LIPSCALE_CIFAR10_JPEG is not set to an archive of CIFAR-10 as JPEG files")
        if not folder:
            folder = made[experiment] = tmp_path_factory.mktemp(experiment)
            if source == "imagefolder":
                config["dataset"]["path"] = ARCHIVE
            path = folder.with_suffix(".yaml")
            path.write_text(yaml.safe_dump(config), encoding="utf-8")
            lipscale("prepare", path, "--folder", folder)
        return folder, source

    return prepared


def test_there_are_some():
    assert {name.partition("/")[0] for name in NETWORKS} >= {"digits", "mnist5k"}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_checker_proves_the_certificate(name, data, tmp_path, capsys):
    experiment, _, run = name.partition("/")
    folder, source = data(experiment)
    certificate, count = tmp_path / "certificate.json", IMAGES.get(source, 20)
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
    check = [sys.executable, "-S", "-E", ROOT / "checker" / "check.py", certificate, NETWORKS[name], folder, "--images", count]
    proven = subprocess.run([*map(str, check)], capture_output=True, text=True, check=False)
    assert proven.returncode == 0, proven.stderr
    assert f"{count} of {found['images']} images, confidences at 72" in proven.stdout

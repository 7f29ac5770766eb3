"""Logits of many images and classes are handled in parts: the same numbers, in little more memory than the logits take."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lipscale import parts
from lipscale.certification.certificate import Certificate, certified_radii
from lipscale.evaluation import calibration, metrics
from lipscale.evaluation.calibration import calibrate
from lipscale.method.temperature import fit_temperature, nll


@pytest.mark.parametrize("size", [1, 7, 60, 10**6])
def test_parts_give_the_same_numbers(size, monkeypatch):
    generator = np.random.default_rng(0)
    labels = generator.integers(12, size=500)
    logits = generator.normal(size=(500, 12)) + 2 * np.eye(12)[labels]
    promise = Certificate(2.0, 2.0, generator.uniform(1, 2, (12, 12)), 1e-9)

    def found() -> list:
        values = [metrics.probabilities(logits, 1.3), *metrics.top_label(logits, 1.3), metrics.log_losses(logits, labels)]
        values += [metrics.brier_scores(logits, labels, 1.3), *certified_radii(logits, labels, promise)]
        values += [np.array(metrics.reliability(logits, labels, 1.3))]
        return [value.tobytes() for value in values] + [fit_temperature(logits, labels), metrics.adaptive_ece(logits, labels)]

    def sums() -> list[float]:
        return [nll(logits, labels), metrics.classwise_ece(logits, labels)]

    whole, whole_sums = found(), sums()
    monkeypatch.setattr(parts, "LARGEST", size)
    assert found() == whole
    assert sums() == pytest.approx(whole_sums, rel=1e-14)


def test_parts_cover_all_rows_once():
    for rows, columns in ((1, 1), (10, 2**17), (10, 2**25), (50_000, 1000)):
        slices = list(parts.parts(rows, columns))
        assert [part.start for part in slices] == [0, *(part.stop for part in slices[:-1])]
        assert slices[-1].stop == rows
        assert all((part.stop - part.start) * columns <= max(parts.LARGEST, columns) for part in slices)


def test_netcal_confirms_a_part_of_a_large_split(monkeypatch):
    generator = np.random.default_rng(0)
    labels = generator.integers(5, size=3000)
    logits = generator.normal(size=(3000, 5)) + 1.5 * np.eye(5)[labels]
    given = (logits[:2000], labels[:2000], logits[2000:], labels[2000:], 1.0)
    whole = calibrate(*given)
    monkeypatch.setattr(parts, "LARGEST", 5000)
    monkeypatch.setattr(calibration, "LARGEST_CONFIRMED", 5000)
    in_parts = calibrate(*given)
    assert in_parts.temperature == whole.temperature
    assert in_parts.sweep == whole.sweep
    assert in_parts.netcal_temperature == pytest.approx(whole.netcal_temperature, rel=0.2)
    assert in_parts.netcal_temperature != whole.netcal_temperature


ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_many_classes_take_little_more_memory_than_their_logits(tmp_path):
    """5,000 images and 1,000 classes: two tables of logits of 38 MiB each, and parts of 2 MiB."""
    options = ["--images", "5000", "--temperatures", "3", "--output", str(tmp_path / "peaks.csv")]
    script = [sys.executable, str(ROOT / "benchmarks" / "many_classes.py"), *options]
    said = subprocess.run(script, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    with (tmp_path / "peaks.csv").open() as file:
        peaks = {row["step"]: float(row["peak_mib"]) for row in csv.DictReader(file)}
    assert list(peaks) == ["logits", "calibration", "pairs of classes", "radii"]
    assert peaks["radii"] - peaks["logits"] < 250

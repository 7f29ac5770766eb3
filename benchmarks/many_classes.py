"""Peak memory and time of evaluation with many images and classes, on random logits.

    python benchmarks/many_classes.py --images 50000 --classes 1000 --output many_classes.csv

Temperature, sweep, calibration and reliability of `evaluate`, for a validation and a test split. Then the constants of all
pairs of classes of a last layer with 512 inputs, and the radii of all images. Peak memory is that of the process so far, as the
operating system counts it.
"""

import argparse
import csv
import resource
import sys
import time
from pathlib import Path

import numpy as np

from lipscale.certification.certificate import certificate, certified_radii
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.evaluation import calibration

COLUMNS = ("images", "classes", "step", "seconds", "peak_mib")
WIDTH = 512


def network(classes: int) -> PlainNetwork:
    """One dense layer of norm 1 at most."""
    layers = [
        {"layer": "flatten"},
        {"layer": "dense", "in_features": WIDTH, "out_features": classes},
        {"layer": "scale", "scale": 1.0},
    ]
    made = PlainNetwork(layers, 1.0, (WIDTH, 1, 1))
    made[1].weight /= 2 * made[1].weight.norm()
    return made


def split(options: argparse.Namespace, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels of images of which some are right."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(options.classes, size=options.images)
    logits = generator.standard_normal((options.images, options.classes))
    logits[np.arange(options.images), labels] += 3
    return logits, labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--temperatures", type=int, default=len(calibration.SWEEP), help="of the sweep")
    parser.add_argument("--output", type=Path, help="CSV file; default: standard output")
    options = parser.parse_args()
    calibration.SWEEP = np.geomspace(1e-5, 1e7, options.temperatures)
    rows, start = [], time.perf_counter()

    def done(step: str) -> None:
        nonlocal start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rows.append((options.images, options.classes, step, round(time.perf_counter() - start, 1), round(peak)))
        print(*rows[-1], file=sys.stderr, flush=True)
        start = time.perf_counter()

    validation, test = split(options, 0), split(options, 1)
    done("logits")
    calibration.calibrate(*validation, *test, 1.0)
    done("calibration")
    promise = certificate(network(options.classes))
    done("pairs of classes")
    certified_radii(*test, promise)
    done("radii")
    with options.output.open("w", newline="") if options.output else sys.stdout as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()

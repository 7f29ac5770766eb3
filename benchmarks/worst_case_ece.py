"""Time of the largest ECE over intervals of confidences, and of all bounds of certified calibration, on one core.

The intervals are random and independent, so that nearly all groups of the solver occur. The logits are random as well, with a
certificate of L = 4, at 36/255.

    OMP_NUM_THREADS=1 python benchmarks/worst_case_ece.py
"""

import argparse
import math
import time

import numpy as np

from lipscale.certification.certificate import Certificate
from lipscale.certification.certified_calibration import certified_calibration
from lipscale.certification.worst_case_ece import worst_case_ece

CLASSES = 10


def intervals(generator: np.random.Generator, images: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Low, high if wrong, high if right, independent: every group of bins occurs."""
    low, *highs = generator.random((3, images)) * 0.999 + 0.001
    return low * np.minimum(*highs), *highs


def seconds(function, *arguments) -> float:
    """The least of three runs."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, nargs="+", default=[1000, 10_000, 100_000, 1_000_000])
    options = parser.parse_args()
    certificate = Certificate(4.0, 4.0, np.full((CLASSES, CLASSES), 4 * math.sqrt(2)), 0.0)
    generator = np.random.default_rng(0)
    print("   images    largest ECE    all bounds from logits of 10 classes")
    for images in options.images:
        labels = generator.integers(CLASSES, size=images)
        logits = generator.normal(size=(images, CLASSES))
        logits[np.arange(images), labels] += 2.5
        solver = seconds(worst_case_ece, *intervals(generator, images))
        whole = seconds(certified_calibration, logits, labels, certificate, 36)
        print(f"{images:9,d} {solver:12.2f} s {whole:12.2f} s", flush=True)


if __name__ == "__main__":
    main()

"""Peak memory and time of each step on data that are never in memory: generated JPEG files, prepared, trained on, evaluated.

    python benchmarks/large_data.py --images 5000 10000 20000 --output large_data.csv

For each number of images: a folder of JPEG files is generated, prepared, trained on for an epoch by a small network, evaluated
and certified, each by its own command, with `compute.in_memory_gib: 0`, so that images are read from the disk batch by batch.
A tenth of the images is the validation split, another the test split. Peak memory is that of the largest process of a step, as
the operating system counts it (`ru_maxrss`). `cpu_seconds` are those on a core, which depend little on what else runs. `import`
is Python with torch and nothing else.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = 10
COLUMNS = ("images", "step", "seconds", "cpu_seconds", "peak_mib")
RUN = "list-1-seed0"


def generate(folder: Path, count: int, side: int) -> None:
    """`count` JPEG files of coloured blobs, a tenth of them under test/, the class told by the mean colour."""
    generator = np.random.default_rng(0)
    for number in range(count):
        split, label = ("test" if number % 10 == 0 else "train"), number // 10 % CLASSES
        path = folder / split / f"class{label}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        blobs = generator.integers(0, 128, (4, 4, 3)) + np.array([12, 9, 6]) * label
        Image.fromarray(blobs.astype(np.uint8)).resize((side, side), Image.Resampling.BICUBIC).save(path, quality=90)


def config(images: Path, count: int, side: int) -> dict:
    return {
        "experiment": "large",
        "dataset": {"name": "imagefolder", "path": str(images), "validation_images": count // 10, "image_size": side},
        "network": {"architecture": "convnet", "patch": 8, "channels": [16], "depth": 1, "widths": [32]},
        "training": {"epochs": 1, "batch_size": 256, "learning_rate": 0.01, "augmentation": "crop-flip"},
        "runs": {
            "seeds": [0],
            "list_initial_lipschitz": [1],
            "fixed_lipschitz": [4],
            "unconstrained_learning_rate": 0.001,
        },
        "evaluation": {"epsilons": [36], "attack_images": 1, "spot_check_images": 0, "attack_batch_size": 1},
        "compute": {"in_memory_gib": 0},
    }


def measure(*command: object) -> tuple[float, float, float]:
    """Seconds, of these on a core, and peak memory in MiB of a command and the processes that it starts.

    Raises:
        CalledProcessError: it fails.
    """
    start = time.perf_counter()
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def steps(folder: Path, count: int, side: int, jobs: int) -> dict[str, tuple[float, float, float]]:
    """What `measure` gives, by step."""
    lipscale = (sys.executable, "-m", "lipscale")
    results = folder / "results" / "large"
    generate(folder / "images", count, side)
    settings = json.dumps(config(folder / "images", count, side))
    subprocess.run([*lipscale, "configure", results], input=settings, text=True, check=True)
    run = results / "runs" / RUN
    return {
        "import": measure(sys.executable, "-c", "import torch"),
        "prepare": measure(*lipscale, "prepare", results / "config.yaml", "--folder", results / "data", "--jobs", jobs),
        "train": measure(*lipscale, "train", run),
        "evaluate": measure(*lipscale, "evaluate", run),
        "certify": measure(*lipscale, "certify", run / "model.safetensors", results / "data"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[5000, 10000, 20000], help="numbers of images")
    parser.add_argument("--side", type=int, default=64, help="of the images, pixels")
    parser.add_argument("--jobs", type=int, default=2, help="processes that decode images")
    parser.add_argument("--folder", type=Path, help="where the images and data are written; default: a temporary folder")
    parser.add_argument("--output", type=Path, help="CSV file; default: standard output")
    options = parser.parse_args()
    rows = []
    for count in options.images:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            for step, (seconds, on_cores, peak) in steps(Path(folder), count, options.side, options.jobs).items():
                rows.append((count, step, round(seconds, 1), round(on_cores, 1), round(peak)))
                print(*rows[-1], file=sys.stderr, flush=True)
    with options.output.open("w", newline="") if options.output else sys.stdout as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()

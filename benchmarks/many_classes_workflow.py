"""Peak memory and time of each step of the workflow, with many images and classes.

    python benchmarks/many_classes_workflow.py --folder many_classes --output many_classes_workflow.csv

A small network learns to tell noisy patterns of 8 x 8 pixels apart: twice as many training as validation images, and as many
validation as test images. Two runs, LiST and fixed L, go through the whole workflow, to figures and pages; one epoch, eight
attacked images. Seconds and peak memory are those of the benchmark files that Snakemake writes. Repeat the command to resume.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("images", "classes", "step", "seconds", "cpu_seconds", "peak_mib")
SOURCE = '''"""Noise around a random pattern of each class."""

from typing import Literal

from lipscale.settings import Count, NonNegative, Settings as Section


class Settings(Section):
    name: Literal["patterns"] = "patterns"
    path: str | None = None
    classes: Count
    validation_images: Count
    split_seed: NonNegative = 0

    def image_shape(self):
        return (1, 8, 8)


def load(settings):
    import numpy as np

    from lipscale.data.dataset import Split
    from lipscale.data.source import Source

    generator = np.random.default_rng(0)
    patterns = generator.integers(0, 128, (settings.classes, 1, 8, 8))

    def split(images):
        labels = np.arange(images, dtype=np.int64) % settings.classes
        return Split((patterns[labels] + generator.integers(0, 128, (images, 1, 8, 8))).astype(np.uint8), labels)

    names, images = [str(number) for number in range(settings.classes)], settings.validation_images
    return Source(names, split(3 * images), split(images), {"noise": 0})
'''


def config(images: int, classes: int) -> dict:
    return {
        "experiment": "many_classes",
        "dataset": {"name": "patterns", "classes": classes, "validation_images": images},
        "network": {"architecture": "mlp", "widths": [128]},
        "training": {"epochs": 1, "batch_size": 256, "learning_rate": 0.001},
        "runs": {"seeds": [0], "list_initial_lipschitz": [1], "fixed_lipschitz": [10]},
        "evaluation": {"epsilons": [36], "attack_images": 8, "spot_check_images": 2, "attack_batch_size": 8},
        "figures": {"posthoc_lipschitz": 10},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000, help="in the validation and in the test split")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--cores", default="all")
    parser.add_argument("--folder", type=Path, required=True, help="where everything is written")
    parser.add_argument("--output", type=Path, help="CSV file; default: standard output")
    options = parser.parse_args()
    folder = options.folder.resolve()
    (folder / "extensions" / "sources").mkdir(parents=True, exist_ok=True)
    (folder / "extensions" / "sources" / "patterns.py").write_text(SOURCE)
    (folder / "config.json").write_text(json.dumps(config(options.images, options.classes)))
    workflow = ["--snakefile", ROOT / "Snakefile", "--directory", folder, "--configfile", folder / "config.json"]
    variables = os.environ | {"LIPSCALE_EXTENSIONS": str(folder / "extensions")}
    command = [sys.executable, "-m", "snakemake", "--cores", options.cores, "--quiet", "rules", "host", *workflow]
    subprocess.run(command, env=variables, stdout=sys.stderr, check=True)
    benchmarks, rows = folder / "results" / "many_classes" / "benchmarks", []
    for path in sorted(benchmarks.rglob("*.tsv"), key=lambda path: path.stat().st_mtime):
        with path.open(newline="") as file:
            (measured,) = csv.DictReader(file, delimiter="\t")
        times = (round(float(measured[name]), 1) for name in ("s", "cpu_time"))
        step = path.relative_to(benchmarks).with_suffix("").as_posix()
        rows.append((options.images, options.classes, step, *times, round(float(measured["max_rss"]))))
    with options.output.open("w", newline="") if options.output else sys.stdout as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *rows])


if __name__ == "__main__":
    main()

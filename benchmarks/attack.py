"""Attack only images that are right and not certified, or all of them: the same robust accuracy, at which cost?

    python benchmarks/attack.py results/cifar10-cpu/runs/list-1-seed0 --data results/cifar10-cpu/data --images 64

Attacks one trained run twice, by the workflow's own code: as the workflow does, without audit, and with every certified image
audited, which leaves out nothing but misclassified images (AutoAttack leaves them out itself). Both seeds are the same.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import pandas as pd

from lipscale.attacks.autoattack import Options, attack
from lipscale.data.dataset import Dataset
from lipscale.store.files import read_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a trained run with logits, results/EXPERIMENT/runs/RUN")
    parser.add_argument("--data", required=True, type=Path, help="folder of the prepared data set")
    parser.add_argument("--images", type=int, default=64, help="test images, default: 64")
    parser.add_argument("--epsilons", type=int, nargs="+", default=[36, 72, 108], help="in 1/255, default: 36 72 108")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="default: cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, default: 1")
    options = parser.parse_args()

    dataset, found, seconds = Dataset(options.data), {}, {}
    for name, audit in (("the rest", 0), ("all", options.images)):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / options.run.name
            shutil.copytree(options.run, copy)
            chosen = Options(tuple(options.epsilons), options.images, audit, options.images, seed=0)
            attack(copy, dataset, chosen, options.device, options.threads)
            found[name], seconds[name] = pd.read_csv(copy / "attack.csv"), read_json(copy / "attack.json")["seconds"]

    print(f"{options.run.name}, {options.images} test images, {options.device}")
    for epsilon in options.epsilons:
        rest, everything = (table[f"robust_{epsilon}"] for table in (found["the rest"], found["all"]))
        attacked = [int(table[f"attacked_{epsilon}"].sum()) for table in found.values()]
        print(
            f"eps = {epsilon}/255: robust {100 * rest.mean():.1f} % and {100 * everything.mean():.1f} %, "
            f"{(rest != everything).sum()} images differ; attacked {attacked[0]} and {attacked[1]}"
        )
    print(f"{seconds['the rest']:.0f} s and {seconds['all']:.0f} s: {seconds['all'] / seconds['the rest']:.1f} times faster")


if __name__ == "__main__":
    main()

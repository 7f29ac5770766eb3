"""Attack only images that are right and not certified, or all that are right: the same robust accuracy, at which cost?

    python benchmarks/attack.py results/cifar10-cpu/runs/list-1-seed0 --images 64

Attacks one evaluated run twice, with the code of the workflow and the same seeds: as the workflow does, without spot checks;
and with a spot check of every certified image, which leaves out only misclassified images, as AutoAttack itself does.
"""

import argparse
from pathlib import Path

import torch

from lipscale.attacks.robustness import evaluate_robustness
from lipscale.attacks.sample import Options, Robustness
from lipscale.certification import model_file
from lipscale.store.checksums import checked
from lipscale.store.dataset import read_dataset
from lipscale.store.run_folder import RunFolder
from lipscale.training.devices import select_device


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of an evaluated run, results/EXPERIMENT/runs/RUN")
    parser.add_argument("--images", type=int, default=64, help="test images, default: 64")
    parser.add_argument("--epsilons", type=int, nargs="+", default=[36, 72, 108], help="in 1/255, default: 36 72 108")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="default: cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads, default: 1")
    options = parser.parse_args()

    torch.set_num_threads(options.threads)
    run = RunFolder(options.run)

    def attack(spot_checks: int) -> Robustness:
        chosen = Options(tuple(options.epsilons), options.images, spot_checks, options.images, seed=0)
        return evaluate_robustness(
            model_file.load(checked(run / "model.safetensors"), options.device),
            read_dataset(run.data).splits["test"],
            run.logits()["test_logits"],
            *run.radii(),
            run.json("calibration.json")["temperature"],
            chosen,
            select_device(options.device),
            name=run.name,
        )

    needed, everything = attack(spot_checks=0), attack(spot_checks=options.images)
    print(f"{run.name}, {options.images} test images, {options.device}")
    for epsilon in options.epsilons:
        one, other = needed.robust[epsilon], everything.robust[epsilon]
        print(
            f"eps = {epsilon}/255: robust {100 * one.mean():.1f} % and {100 * other.mean():.1f} %, "
            f"{(one != other).sum()} images differ; "
            f"attacked {needed.attacked[epsilon].sum()} and {everything.attacked[epsilon].sum()}"
        )
    ratio = everything.seconds / needed.seconds
    print(f"{needed.seconds:.0f} s and {everything.seconds:.0f} s: {ratio:.1f} times faster")


if __name__ == "__main__":
    main()

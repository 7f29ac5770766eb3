"""Attack the calibration of several networks on the same test images, at several epsilons, and compare with the bounds.

    python benchmarks/calibration_attack.py results/mnist5k/data mnist5k/list-1-seed0 mnist5k/list-1-xi72-seed0 > table.csv

The first argument is a prepared data set, the others are .safetensors files or names of published networks. The attack is the
step `attack_calibration` of the workflow, on logits as they are. It ends with an error that names the images where one is above
its bound.
"""

import argparse
import csv
import sys
from pathlib import Path

import numpy as np

import lipscale
from lipscale.attacks.on_calibration import Options, Target, attack_calibration
from lipscale.certification.binding import check_fits
from lipscale.store.dataset import read_dataset

MEASURES = {  # bound, attacked, both over the attacked images
    "nll": ("evaluated_certified_nll", "attacked_nll"),
    "brier": ("evaluated_certified_brier", "attacked_brier"),
    "ece": ("evaluated_worst_case_ece", "attacked_ece"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="prepared data set, whose test split is taken")
    parser.add_argument("networks", nargs="+", metavar="NETWORK", help=".safetensors file, or name of a published network")
    parser.add_argument("--images", type=int, default=1000, help="at most, the first ones of the test split")
    parser.add_argument("--epsilons", type=int, nargs="+", default=[36, 72, 108], help="in 1/255")
    options = parser.parse_args()
    dataset = read_dataset(options.data, ["test"])
    split = dataset.splits["test"]
    chosen = np.arange(min(options.images, len(split.labels)))
    columns = [f"{kind}_{measure}" for measure in MEASURES for kind in ("clean", "attacked", "certified")]
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(["network", "epsilon", "images", *columns, "above_bound", "seconds"])
    for name in options.networks:
        network = lipscale.load(name)
        check_fits(network.binding, dataset)
        proven = lipscale.certify(network, split.images, split.labels)
        given = (network, split, proven.logits, proven.certificate, chosen, {"": 1.0})
        found = attack_calibration(Target(*given, Options(tuple(options.epsilons), 256), name=name))
        clean = lipscale.certified_calibration(proven.logits[chosen], split.labels[chosen], proven.certificate, 0)
        values = {"nll": clean.certified_nll, "brier": clean.certified_brier, "ece": clean.worst_case_ece}
        for row in found.summary():
            numbers = [(values[measure], row[reached], row[bound]) for measure, (bound, reached) in MEASURES.items()]
            flat = [f"{number:.6g}" for three in numbers for number in three]
            label = Path(name).parent.name if Path(name).exists() else name
            table.writerow([label, row["epsilon"], len(chosen), *flat, 0, f"{found.seconds:.0f}"])
        sys.stdout.flush()


if __name__ == "__main__":
    main()

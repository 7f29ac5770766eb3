"""How much could Lipschitz constants that hold near an image only, instead of everywhere, gain?

    python benchmarks/local_constants.py results/digits/data digits/list-1-seed0 digits/list-1-xi72-seed0 > table.csv

The first argument is a prepared data set, the others are .safetensors files or names of published networks. Only images that
are classified correctly count. Two numbers for each network and epsilon:

- `slope_used`: |grad (f_y - f_j)| at the image over the certified constant of f_y - f_j, j the class that limits the radius.
  A constant that holds in any ball around the image is at least this gradient, so no such constant makes the radius more than
  1 / slope_used times as large.
- `may_switch`, for each MaxMin: the share of its pairs (a, b) whose order is not proven to stay the same within epsilon. With K
  the certified constant of the layers before, a - b changes by at most sqrt(2) K epsilon. Where no pair of a MaxMin may switch,
  it is one permutation of coordinates in that ball, and the layers on both sides can be bounded by the norm of their product;
  `fixed_images` counts the images for which this is so for at least one MaxMin.
"""

import argparse
import csv
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import lipscale
from lipscale.certification.binding import check_fits
from lipscale.certification.bounds import bounds
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.certification.plain_modules import Centre, Scale
from lipscale.errors import LipscaleError
from lipscale.networks.maxmin import MaxMin
from lipscale.store.dataset import read_dataset
from lipscale.units import distance, exact_pixels

LINEAR = (Centre, Scale, nn.Linear, nn.Conv2d, nn.Flatten, nn.AvgPool2d)


def slopes(network: PlainNetwork, images: torch.Tensor, labels, logits, pairs) -> np.ndarray:
    """`slope_used` of images (B, C, H, W) with logits (B, classes) and certified constants (classes, classes), shape (B,)."""
    rows = np.arange(len(labels))
    constants = pairs[labels]
    constants[rows, labels] = np.nan  # no rival of itself
    rivals = np.nanargmin((logits[rows, labels][:, None] - logits) / constants, axis=1)
    images = images.clone().requires_grad_()
    found = network(images)
    (found[rows, labels] - found[rows, rivals]).sum().backward()
    return images.grad.flatten(1).norm(dim=1).numpy() / constants[rows, rivals]


def gaps(network: PlainNetwork, images: torch.Tensor) -> list[np.ndarray]:
    """For each MaxMin |a - b| / (sqrt(2) K), shape (B, pairs): no l2 perturbation of the image below this switches the pair.

    Raises:
        LipscaleError: a layer is neither MaxMin nor linear.
    """
    hidden, found = images, []
    for position, layer in enumerate(network):
        if type(layer) not in (*LINEAR, MaxMin):
            raise LipscaleError(f"layer {position} is {type(layer).__name__}; allowed: MaxMin and linear layers")
        if isinstance(layer, MaxMin):
            constant = math.sqrt(2) * bounds(nn.Sequential(*list(network)[:position]), network.image_shape).slope
            first, second = hidden.chunk(2, 1)
            found.append(((first - second).abs() / constant).flatten(1).numpy())
        hidden = layer(hidden)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="prepared data set, whose test split is taken")
    parser.add_argument("networks", nargs="+", metavar="NETWORK", help=".safetensors file, or name of a published network")
    parser.add_argument("--images", type=int, default=500, help="at most, the first ones of the test split")
    parser.add_argument("--epsilons", type=int, nargs="+", default=[9, 36, 72], help="in 1/255")
    options = parser.parse_args()
    dataset = read_dataset(options.data, ["test"])
    table = csv.writer(sys.stdout, lineterminator="\n")
    names = ("slope_used_low", "slope_used_median", "slope_used_high")
    table.writerow(["network", "epsilon", "images", *names, "may_switch", "fixed_images"])
    for name in options.networks:
        network = lipscale.load(name)
        check_fits(network.binding, dataset)
        split = dataset.splits["test"]
        proven = lipscale.certify(network, split.images[: options.images], split.labels[: options.images])
        correct = np.flatnonzero(proven.logits.argmax(1) == split.labels[: options.images])
        images = exact_pixels(torch.from_numpy(split.images[correct]))
        labels, logits = split.labels[correct], proven.logits[correct]
        network = network.double()
        used = np.percentile(slopes(network, images, labels, logits, proven.certificate.pairs), [10, 50, 90])
        with torch.no_grad():
            switching = gaps(network, images)
        for epsilon in options.epsilons:
            may = [gap <= distance(epsilon) for gap in switching]
            fixed = np.any([~one.any(1) for one in may], axis=0).sum()
            shares = " ".join(f"{one.mean():.3f}" for one in may)
            table.writerow([name, epsilon, len(correct), *(f"{number:.3f}" for number in used), shares, fixed])
        sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Certified radii and certified calibration of images, for a network of your own.

MODEL is a .safetensors file that `lipscale.save` wrote, or the name of a published network, EXPERIMENT/RUN. IMAGES is a
prepared data set, whose test split is taken, or an .npz file with the array `images` (uint8, or in [0, 1]) and, if there are
any, `labels`. Without labels, the column `label` is empty, and the printed share is that of the images whose prediction is
certified not to change; it is no accuracy.

What the model file says of its images is printed too: shape, class names, pixels, and the checksum of their preparation. A
prepared data set must fit it.

With --certificate, what was found is also written for `checker/check.py`, which proves it without lipscale:
constants, radii, and at each epsilon the confidences and, with labels, the measures of calibration below.

With labels, three rows for each epsilon say how large measures of calibration can become under attack: `certified_nll_EPS`,
`certified_brier_EPS` (all classes, 0 to 2) and `worst_case_ece_EPS` (15 bins). Without a constraint the NLL is `inf`.

examples:
  lipscale certify model.safetensors images.npz --output radii.csv
  lipscale certify model.safetensors images.npz --certificate certificate.json
  lipscale certify digits/list-1-seed0 results/digits/data
"""

import argparse
import csv
import sys
from pathlib import Path

from lipscale.certification.certificate import RADII_COLUMNS, radii_rows
from lipscale.certification.certificate_file import certificate_file
from lipscale.certification.certified_calibration import certified_calibration
from lipscale.certification.certify import Certification, certify
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.errors import LipscaleError
from lipscale.published import load
from lipscale.steps.common import add_device, check_outputs
from lipscale.steps.images import arrays_file, read_images
from lipscale.store import files
from lipscale.store.published import find
from lipscale.training.devices import select_device

MEASURES = ("certified_nll", "certified_brier", "worst_case_ece")


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=".safetensors file of a network, or name of a published one")
    parser.add_argument("images", type=Path, metavar="IMAGES", help="prepared data set, or .npz file")
    parser.add_argument("--output", type=Path, help="CSV file for the radii, a row per image")
    parser.add_argument("--certificate", type=Path, help="JSON file for the certificate, which checker/check.py proves")
    parser.add_argument(
        "--epsilons", type=int, nargs="+", default=[36, 72, 108], help="l2 budgets in 1/255, default: 36 72 108"
    )
    add_device(parser)


def run(options: argparse.Namespace) -> None:
    if min(options.epsilons) < 1:
        raise LipscaleError(f"certify: --epsilons is {min(options.epsilons)}; allowed: 1 or more, in 1/255")
    outputs = {"--output": options.output, "--certificate": options.certificate}
    inputs = {"MODEL": find(options.model), "IMAGES": arrays_file(options.images)}
    check_outputs(inputs, {name: path for name, path in outputs.items() if path})
    network = load(options.model, select_device(options.device))
    images, labels = read_images(options.images, network.binding)
    found = certify(network, images, labels)
    if options.output:
        files.write_rows(options.output, RADII_COLUMNS, radii_rows(found.logits, found.labels, found.certificate))
    if options.certificate:
        checksums = files.sha256(find(options.model)), files.sha256(arrays_file(options.images))
        files.write_json(options.certificate, certificate_file(network, found, *checksums, options.epsilons))
    _print(found, network, options.epsilons)


def _print(found: Certification, network: PlainNetwork, epsilons: list[int]) -> None:
    """What is certified, as CSV. Without labels, only the share of images whose prediction is certified not to change."""
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("quantity", "value"))
    table.writerow(("images", len(found.predictions)))
    table.writerow(("image_shape", " ".join(map(str, network.image_shape))))
    table.writerows(network.binding.described().items())
    table.writerow(("lipschitz", found.certificate.lipschitz))
    table.writerow(("lipschitz_certified", found.certificate.lipschitz_certified))
    if found.labels is None:
        name, share = "decided", found.share_decided
    else:
        name, share = "certified", found.accuracy
        table.writerow(("clean_accuracy", found.accuracy()))
    for epsilon in epsilons:
        table.writerow((f"{name}_{epsilon}", share(epsilon)))
        table.writerow((f"pair_{name}_{epsilon}", share(epsilon, pairs=True)))
    for epsilon in epsilons if found.labels is not None else ():
        bounds = certified_calibration(found.logits, found.labels, found.certificate, epsilon)
        for measure in MEASURES:
            table.writerow((f"{measure}_{epsilon}", getattr(bounds, measure)))

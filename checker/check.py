"""Check a certificate that `lipscale certify --certificate` wrote, against the network and the images.

Nothing of lipscale is used, no package, and no floating point in any decision: whole numbers and fractions only.

    python checker/check.py CERTIFICATE MODEL IMAGES [--images N]
"""

import argparse
import hashlib
import math
import sys
from fractions import Fraction
from pathlib import Path

from calibration import Calibration
from layers import Layer, layers, run
from norms import constants
from reading import Refused, exact, number, parsed, read_images, read_model

FORMAT = "lipscale certificate 1"


def check(certificate_path: Path, model: Path, images_path: Path, at_most: int | None) -> str:
    """What was proven, in one sentence. Raises Refused, or whatever a broken file makes Python raise."""
    certificate = parsed(certificate_path.read_bytes())
    if certificate["format"] != FORMAT:
        raise Refused(f"the format is {certificate['format']!r}, not {FORMAT!r}")
    arrays = images_path / "test_images.npy" if images_path.is_dir() else images_path
    for name, path in (("model", model), ("images", arrays)):
        if hashlib.sha256(path.read_bytes()).hexdigest() != certificate[f"{name}_sha256"]:
            raise Refused(f"the certificate is of another file than {path}")
    description, tensors = read_model(model)
    shape = tuple(description["image_shape"])
    if tuple(certificate["image_shape"]) != shape:
        raise Refused(f"the certificate is for images of shape {certificate['image_shape']}, the model for {list(shape)}")
    network = layers(description["specification"], shape, tensors)
    if tensors:
        raise Refused(f"the model holds {', '.join(tensors)}, which no layer uses")
    product = constants(network, certificate["layers"])
    lipschitz = number(certificate["lipschitz"], "L")
    if lipschitz < product:
        raise Refused(f"L is {certificate['lipschitz']}, which is below the product of the constants")
    pairs = Pairs(network, certificate["layers"], product)
    claims, parts = certificate["images"], certificate.get("calibration", [])  # earlier versions have no calibration
    squares = pairs.squares(network[-1].output[0]) if parts else []
    calibration = [Calibration(part, len(claims), squares, product) for part in parts]
    checked, there = check_images(network, shape, lipschitz, pairs, claims, calibration, arrays, at_most)
    if checked == there:
        for part in calibration:
            part.check_all()
    proven = f"accepted: {len(network)} layers, L = {float(lipschitz)}, the radii of {checked} of {there} images"
    return proven + described(calibration, checked == there)


def described(calibration: list[Calibration], whole: bool) -> str:
    """What was proven beside radii: of the calibration of all images nothing, unless they all were checked."""
    kinds = {"calibration": [], "confidences": []}
    for part in calibration:
        kinds["calibration" if part.labelled and whole else "confidences"].append(f"{part.epsilon}")
    words = ""
    for kind, (*others, last) in ((kind, epsilons) for kind, epsilons in kinds.items() if epsilons):
        words += f", {kind} at {', '.join(others)}{' and ' if others else ''}{last}"
    return words + (", not the calibration of all images" if not whole and any(part.labelled for part in calibration) else "")


class Pairs:
    """Lemma 8: bounds on the squares of the Lipschitz constants of f_i - f_j.

    Attributes:
        rows: of the last layer but for scales, where that is dense, over the denominator of its weights; else None.
        rest: the square of the product of the constants of all other layers, over the square of that denominator.
        whole: what holds for all pairs.
    """

    def __init__(self, network: list[Layer], claims: list[dict], product: Fraction):
        self.whole, self.rows = 2 * product**2, None
        last = max((i for i, layer in enumerate(network) if layer.kind != "scale"), default=None)
        if last is not None and network[last].kind == "dense":
            others = math.prod((Fraction(claim["lipschitz"]) for i, claim in enumerate(claims) if i != last), start=Fraction(1))
            self.rows, self.rest = network[last].rows, (others / network[last].weight.denominator) ** 2

    def __call__(self, i: int, j: int) -> Fraction:
        if self.rows is None:
            return self.whole
        return min(self.whole, self.rest * sum((a - b) ** 2 for a, b in zip(self.rows[i], self.rows[j], strict=True)))

    def squares(self, classes: int) -> list[list[Fraction]]:
        """Of all pairs."""
        return [[self(i, j) for j in range(classes)] for i in range(classes)]


def check_images(
    network: list[Layer],
    shape: tuple,
    lipschitz: Fraction,
    pairs: Pairs,
    claims: list[dict],
    calibration: list[Calibration],
    path: Path,
    at_most: int | None,
) -> tuple[int, int]:
    """The numbers of images of which all was proven, evenly spread over all, and of all images."""
    (count, *image_shape), pixels, denominator, labels = read_images(path)
    if tuple(image_shape) != shape or len(network[-1].output) != 1:
        raise Refused(f"the images have shape {image_shape}, or the network has no logits for them")
    if len(claims) != count or (labels is not None and labels != [claim["label"] for claim in claims]):
        raise Refused("the certificate has other labels, or another number of images, than the file of images")
    if labels is None and any(part.labelled for part in calibration):
        raise Refused("the certificate claims calibration, and the file of images has no labels")
    chosen = range(count) if at_most is None else sorted({count * i // at_most for i in range(at_most)})
    size = math.prod(shape)
    for index in chosen:
        values = pixels[index * size : (index + 1) * size]
        image = (values, denominator) if denominator else exact(shape, values)[1:]
        logits = run(network, *image)
        check_image(index, claims[index], *logits, lipschitz, pairs)
        for part in calibration:
            part.check_image(index, claims[index]["label"], *logits)
    return len(chosen), count


def check_image(index: int, claim: dict, logits: list[int], denominator: int, lipschitz: Fraction, pairs: Pairs) -> None:
    """Lemmas 1 and 8, for logits / denominator of an image."""
    label = claim["label"]
    if not isinstance(label, int) or not 0 <= label < len(logits):
        raise Refused(f"image {index} has the label {label!r}, which is no class")
    margin, radius = (number(claim[name], f"the {name} of image {index}") for name in ("margin", "radius"))
    exact_margin = Fraction(logits[label] - max(logits[:label] + logits[label + 1 :]), denominator)
    if margin > exact_margin:
        raise Refused(f"the margin {claim['margin']} of image {index} is above its exact margin, {float(exact_margin)}")
    if radius < 0 or (radius > 0 and (margin <= 0 or 2 * (lipschitz * radius) ** 2 > margin**2)):
        raise Refused(f"the radius {claim['radius']} of image {index} is above margin / (sqrt(2) L), or negative")
    if "pair_radius" not in claim:  # of earlier versions
        return
    pair_radius = number(claim["pair_radius"], f"the pair radius of image {index}")
    lead = [Fraction(logits[label] - logit, denominator) for logit in logits]
    for j in range(len(logits)):
        if j != label and pair_radius != 0 and (lead[j] <= 0 or pairs(label, j) * pair_radius**2 > lead[j] ** 2):
            raise Refused(f"the pair radius {claim['pair_radius']} of image {index} is not proven for class {j}")
    if pair_radius < 0:
        raise Refused(f"the pair radius of image {index} is negative")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("certificate", type=Path, metavar="CERTIFICATE", help="file that lipscale certify wrote")
    parser.add_argument("model", type=Path, metavar="MODEL", help=".safetensors file")
    parser.add_argument("images", type=Path, metavar="IMAGES", help=".npz file, or folder of a prepared data set")
    parser.add_argument("--images", type=int, dest="at_most", metavar="N", help="check N radii, evenly spread; default: all")
    options = parser.parse_args()
    if options.at_most is not None and options.at_most < 1:
        parser.error(f"--images is {options.at_most}; allowed: 1 or more")
    try:
        print(check(options.certificate, options.model, options.images, options.at_most))
    except Refused as error:
        print(f"refused: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # broken files make Python raise whatever its readers run into; nothing is accepted then
        print(f"refused: a file cannot be read ({type(error).__name__}: {error})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

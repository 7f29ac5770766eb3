"""Certified radii: what is guaranteed of an exported network, from its weights alone.

1. Each layer's Lipschitz constant is bounded from its weights (`bounds.py`), and constants multiply along the network:
   L_certified, their product. A radius rests on the larger of that and the enforced L.
2. For classes i != j the functional f_i - f_j is sqrt(2) L-Lipschitz, as e_i - e_j has norm sqrt(2). So no perturbation of l2
   norm below margin / (sqrt(2) L) changes the class of an image (Tsuzuku, Sato and Sugiyama, NeurIPS 2018). That is the radius.
3. Where the last layer is dense, with rows w_i, f_i - f_j is |w_i - w_j| K-Lipschitz, K the constant of everything else. The
   smallest (f_y - f_j) / (|w_y - w_j| K) over j is the pair radius (the same paper, section 4), never below what L_certified
   alone gives.
4. Rounding. The float64 logits of any image in [0, 1] are off by at most E in the l2 norm (`Bounds.relative` and `absolute`,
   for images no longer than sqrt(their number of values), with the rounding of k / 255), a margin thus by at most sqrt(2) E, at
   the image and at its perturbation alike. Margins are lowered by 2 sqrt(2) E: then the exact network keeps its class within
   the radius, and so does its float64 evaluation at each perturbed image that is again in [0, 1]. Subtraction, division and the
   square root that follow are rounded down by gamma_16.

5. Float32. In plain float32 (`arithmetic.py` says what that is) logits of such images are off by at most E', the same bound
   with u = 2^-24; pixels may have been rounded to float32. With margins lowered by sqrt(2) (E + E') instead, the float32
   evaluation too keeps its class at each perturbed image. That gives `radius_float32`, which is 0 where overflow is not
   excluded.

Not guaranteed: any other arithmetic, such as TF32 or bfloat16. It is another function, whose class can change where the margin
is near 0.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from lipscale.certification.arithmetic import FLOAT32, FLOAT64, Arithmetic
from lipscale.certification.bounds import Bounds, bounds, layer_bounds
from lipscale.certification.norms import gamma, rounded_up
from lipscale.certification.plain_layers import PlainNetwork, Scale, shapes
from lipscale.errors import LipscaleError
from lipscale.parts import parts

RADII_COLUMNS = ("index", "label", "prediction", "margin", "radius", "pair_radius", "radius_float32")

KEPT = 1 - gamma(16)  # of a number after the operations that lead to a radius


@dataclass(frozen=True)
class Certificate:
    """What is guaranteed of a network.

    Attributes:
        lipschitz: the enforced L; infinite for a network without constraint, of which nothing is certified.
        lipschitz_certified: the product of the bounds of all layers, a guaranteed upper bound.
        pairs: (classes, classes), guaranteed Lipschitz constants of f_i - f_j.
        rounding: E, an upper bound on the l2 error of float64 logits, for images in [0, 1].
        rounding_float32: E', the same for float32; infinite where overflow is not excluded.
    """

    lipschitz: float
    lipschitz_certified: float
    pairs: np.ndarray
    rounding: float
    rounding_float32: float = math.inf


def certificate(network: PlainNetwork) -> Certificate:
    """The certificate of a network, on any device.

    Raises:
        LipscaleError: a layer is unknown, nothing is proven for its shape, or its weights are not finite.
    """
    total = bounds(network, network.image_shape)
    pairs = _pairs(network, total.slope)
    return Certificate(network.lipschitz, total.slope, pairs, _rounding(total, network, FLOAT64), _rounding_float32(network))


def _rounding(total: Bounds, network: PlainNetwork, arithmetic: Arithmetic) -> float:
    """E. k / 255 is rounded as well, also where it is k times 1 / 255."""
    longest, (_, lost) = math.sqrt(math.prod(network.image_shape)), arithmetic.lost(1, math.prod(network.image_shape), 1.0)
    pixels = arithmetic.gamma(1 if arithmetic == FLOAT64 else 3) * longest + lost
    if longest > arithmetic.longest:
        return math.inf
    return rounded_up(total.relative * longest + total.absolute + (total.slope + total.relative) * pixels)


def _rounding_float32(network: PlainNetwork) -> float:
    if any((tensor != tensor.float()).any() for tensor in network.state_dict().values()):
        return math.inf  # other weights than those of a float32 evaluation
    try:
        return _rounding(bounds(network, network.image_shape, FLOAT32), network, FLOAT32)
    except LipscaleError:  # numbers too large for float32
        return math.inf


def _pairs(network: PlainNetwork, slope: float) -> np.ndarray:
    last = len(network) - 1
    while last >= 0 and isinstance(network[last], Scale):
        last -= 1
    classes = shapes(network, network.image_shape)[-1][0]
    whole = np.full((classes, classes), rounded_up(math.sqrt(2) * slope))
    if last < 0 or not isinstance(network[last], nn.Linear):
        return whole
    layers = list(network)
    rest = bounds(nn.Sequential(*layers[:last], *layers[last + 1 :]), network.image_shape).slope
    weight = network[last].weight.double().cpu()
    # One buffer for all rows: new ones can fragment the heap to gigabytes.
    distances, difference = weight.new_empty(classes, classes), torch.empty_like(weight)
    for row, found in zip(weight, distances, strict=True):
        torch.linalg.vector_norm(torch.sub(weight, row, out=difference), dim=1, out=found)
    return np.minimum(whole, distances.numpy() * rest * (1 + gamma(weight.shape[1] + 8)))


def certified_radii(logits: np.ndarray, labels: np.ndarray, promise: Certificate) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Margins f_y - max_{j != y} f_j, radii and pair radii, in pixel units, shapes (images,); radii are 0 where the margin is
    not above 0, and where the enforced L is infinite.

    Args:
        logits: (images, classes), computed in float64.
        labels: (images,).

    Raises:
        LipscaleError: logits have another dtype, whose rounding `Certificate.rounding` does not cover, or are not finite.
    """
    if logits.dtype != np.float64:
        raise LipscaleError(f"certify: the logits are {logits.dtype}; allowed: float64, from `exact_logits`")
    if not np.isfinite(logits).all():
        raise LipscaleError("certify: the logits hold NaN or infinity; allowed: finite numbers")
    found = [_part_radii(logits[part], labels[part], promise) for part in parts(*logits.shape)]
    margins, radii, pair_radii = (np.concatenate(column) for column in zip(*found, strict=True))
    return margins, radii, pair_radii


def _part_radii(logits: np.ndarray, labels: np.ndarray, promise: Certificate) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = np.arange(len(labels))
    differences = logits[rows, labels][:, None] - logits
    differences[rows, labels] = np.inf
    margins = differences.min(axis=1)
    lipschitz = max(promise.lipschitz, promise.lipschitz_certified)
    if not math.isfinite(lipschitz):
        return margins, np.zeros(len(labels)), np.zeros(len(labels))
    lowered = _lowered(differences, 2 * promise.rounding)
    with np.errstate(divide="ignore", invalid="ignore"):  # constants of 0: a class that no perturbation can reach
        each = lowered / promise.pairs[labels] * KEPT
    each[lowered == 0] = 0.0
    each[rows, labels] = np.inf
    return margins, _radii(_lowered(margins, 2 * promise.rounding), lipschitz), each.min(axis=1)


def float32_radii(margins: np.ndarray, promise: Certificate) -> np.ndarray:
    """Radii that also hold for plain float32 evaluation at the perturbed image, (images,); never above those of float64.

    Args:
        margins: (images,), of logits in float64, from `certified_radii`.
    """
    lipschitz, rounding = max(promise.lipschitz, promise.lipschitz_certified), promise.rounding + promise.rounding_float32
    if not (math.isfinite(lipschitz) and math.isfinite(rounding)):
        return np.zeros(len(margins))
    return _radii(_lowered(margins, max(rounding, 2 * promise.rounding)), lipschitz)


def _lowered(differences: np.ndarray, rounding: float) -> np.ndarray:
    """Lower bounds on differences of logits, at images and perturbed images whose errors are at most `rounding` together."""
    return np.maximum(differences * KEPT - rounded_up(math.sqrt(2) * rounding), 0.0)


def _radii(lowered: np.ndarray, lipschitz: float) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lowered > 0, lowered / (math.sqrt(2) * lipschitz) * KEPT, 0.0)


def radii_rows(logits: np.ndarray, labels: np.ndarray | None, promise: Certificate) -> Iterator[dict]:
    """A row of RADII_COLUMNS for each image. Arguments as for `certified_radii`.

    Without labels, `label` is empty, and radii are those within which the prediction does not change.
    """
    predictions = logits.argmax(axis=1)
    truth = predictions if labels is None else labels
    columns = (range(len(logits)), [None] * len(logits) if labels is None else labels.tolist(), predictions.tolist())
    margins, *radii = certified_radii(logits, truth, promise)
    numbers = (column.tolist() for column in (margins, *radii, float32_radii(margins, promise)))
    return (dict(zip(RADII_COLUMNS, row, strict=True)) for row in zip(*columns, *numbers, strict=True))


def description(network: PlainNetwork, promise: Certificate) -> dict:
    """What certificate.json holds; `lipschitz` is the string "inf" where there is no constraint, since JSON has no infinity."""
    slopes = [
        {"layer": entry["layer"], "lipschitz_certified": layer_bounds(layer, shape, str(position)).slope}
        for position, (entry, layer, shape) in enumerate(
            zip(network.specification, network, shapes(network, network.image_shape), strict=False)
        )
    ]
    return {
        "lipschitz": promise.lipschitz if math.isfinite(promise.lipschitz) else "inf",
        "lipschitz_certified": promise.lipschitz_certified,
        "rounding": promise.rounding,
        "rounding_float32": promise.rounding_float32 if math.isfinite(promise.rounding_float32) else "inf",
        "layers": slopes,
    }

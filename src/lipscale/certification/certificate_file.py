"""The certificate file: what is claimed of each layer and image, for a checker that proves it without floating point.

`checker/check.py` is that checker; docs/checker.md has its proofs. It needs no witness beside the claimed constants: each is
proven by elimination, which fails where a constant is too small.
"""

import math
from collections.abc import Sequence

import numpy as np
from torch import nn

from lipscale.certification.bounds import layer_bounds
from lipscale.certification.certified_calibration import bounds_of_images, summary
from lipscale.certification.certify import Certification
from lipscale.certification.norms import gamma, rounded_up
from lipscale.certification.plain_layers import KIND_OF, PlainNetwork, Residual, Shape, output_shape, shapes

FORMAT = "lipscale certificate 1"


def certificate_file(
    network: PlainNetwork, found: Certification, model_sha256: str, images_sha256: str, epsilons: Sequence[float] = ()
) -> dict:
    """The content of a certificate file, for JSON.

    Args:
        found: what `certify` found for this network.
        model_sha256, images_sha256: of the file of the network and the file of the images.
        epsilons: l2 budgets in 1/255, for which confidences and calibration are claimed.

    Raises:
        LipscaleError: as `lipscale.certification.bounds.bounds`.
    """
    promise = found.certificate
    margins = _lowered(found.margins, promise.rounding)
    classes = found.predictions if found.labels is None else found.labels
    names, columns = (
        ("label", "margin", "radius", "pair_radius"),
        (column.tolist() for column in (classes, margins, found.radii, found.pair_radii)),
    )
    lipschitz = max(promise.lipschitz, promise.lipschitz_certified)
    return {
        "format": FORMAT,
        "model_sha256": model_sha256,
        "images_sha256": images_sha256,
        "image_shape": list(network.image_shape),
        "lipschitz": lipschitz if math.isfinite(lipschitz) else promise.lipschitz_certified,  # radii are 0 without constraint
        "layers": _claims(network, network.image_shape),
        "images": [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)],
        "calibration": [part for epsilon in epsilons for part in _calibration(found, epsilon)],
    }


def _calibration(found: Certification, epsilon: float) -> list[dict]:
    """The claims for an epsilon; none where the NLL has no bound, as for networks without constraint."""
    labels = found.predictions if found.labels is None else found.labels
    bounds = bounds_of_images(found.logits, labels, found.certificate, epsilon)
    if not np.isfinite(bounds.nll).all():
        return []
    claims = {"epsilon": epsilon}
    names = ("low", "high_right", "high_wrong")
    if found.labels is not None:
        whole = summary(bounds, epsilon, np.arange(len(labels)))
        claims |= {name: getattr(whole, name) for name in ("certified_nll", "certified_brier", "worst_case_ece")}
        names += ("nll", "brier")
    return [claims | {name: getattr(bounds, name).tolist() for name in names}]


def _lowered(margins: np.ndarray, rounding: float) -> np.ndarray:
    """Numbers below the exact margins; where they are above 0, those that `certified_radii` divides."""
    kept = np.where(margins > 0, 1 - gamma(16), 1 + gamma(16))
    return margins * kept - rounded_up(2 * math.sqrt(2) * rounding)


def _claims(network: nn.Sequential, image_shape: Shape) -> list[dict]:
    claims = []
    sizes = shapes(network, image_shape)
    for position, (layer, shape) in enumerate(zip(network, sizes, strict=False)):
        claim = {
            "layer": KIND_OF[type(layer)],
            "output_shape": list(output_shape(layer, shape)),
            "lipschitz": layer_bounds(layer, shape, str(position)).slope,
        }
        branch = {"branch": _claims(layer.branch, shape)} if isinstance(layer, Residual) else {}
        claims.append(claim | branch)
    return claims

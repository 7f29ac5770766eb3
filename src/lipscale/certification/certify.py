"""Certified radii of images, in one call."""

import copy
from dataclasses import dataclass

import numpy as np
import torch

from lipscale.certification.certificate import Certificate, certificate, certified_radii, float32_radii
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.errors import LipscaleError
from lipscale.units import distance


@dataclass(frozen=True)
class Certification:
    """What is guaranteed of the classification of images.

    Attributes:
        logits: (images, classes), float64.
        labels: (images,), or None where no labels were given.
        margins: (images,), f_y - max_{j != y} f_j, y the label, or the prediction where there is none.
        radii: (images,), no perturbation of smaller l2 norm, pixels in [0, 1], changes the class; 0 where it is not the label.
        pair_radii: (images,), the same from the constant of each pair of classes; never smaller.
        certificate: of the network.
        radii_float32: (images,), those that plain float32 evaluation of the perturbed image keeps too; at most `radii`.
    """

    logits: np.ndarray
    labels: np.ndarray | None
    margins: np.ndarray
    radii: np.ndarray
    pair_radii: np.ndarray
    certificate: Certificate
    radii_float32: np.ndarray

    @property
    def predictions(self) -> np.ndarray:
        """The class of the largest logit, (images,)."""
        return self.logits.argmax(axis=1)

    @property
    def lipschitz(self) -> float:
        """The enforced L."""
        return self.certificate.lipschitz

    @property
    def lipschitz_certified(self) -> float:
        """The product of the bounds of all layers, a guaranteed upper bound."""
        return self.certificate.lipschitz_certified

    def accuracy(self, epsilon: float = 0, pairs: bool = False) -> float:
        """Share of images that are classified as their label says, also under any perturbation of norm `epsilon` / 255.

        Args:
            epsilon: l2 budget in 1/255; 0 gives the clean accuracy.
            pairs: use `pair_radii`.

        Raises:
            LipscaleError: there are no labels, or epsilon is below 0 or NaN.
        """
        if self.labels is None:
            raise LipscaleError("certify: without labels there is no accuracy; allowed: share_decided, or labels for `certify`")
        if epsilon == 0:
            return float((self.predictions == self.labels).mean())
        return self._share(epsilon, pairs)

    def share_decided(self, epsilon: float, pairs: bool = False) -> float:
        """Share of images without labels whose prediction no perturbation of norm `epsilon` / 255 changes.

        Raises:
            LipscaleError: there are labels, or epsilon is not above 0.
        """
        if self.labels is not None:
            raise LipscaleError("certify: with labels, radii are 0 for wrong predictions; allowed: accuracy")
        return self._share(epsilon, pairs)

    def _share(self, epsilon: float, pairs: bool) -> float:
        if not epsilon > 0:  # a radius of 0 says nothing
            raise LipscaleError(f"certify: epsilon is {epsilon}; allowed: a number above 0, in 1/255")
        return float(((self.pair_radii if pairs else self.radii) >= distance(epsilon)).mean())


def certify(network: PlainNetwork, images, labels=None) -> Certification:
    """Certified radii of images. The work is done in float64, on the device of the network, which stays as it is.

    Args:
        network: from `export` or `load`.
        images: (images, channels, height, width), a numpy array or a tensor, uint8 or floating in [0, 1], not normalised.
        labels: (images,), class numbers; without them, the radii are those within which predictions do not change.

    Raises:
        LipscaleError: images or labels are not such, or do not fit the network.
    """
    from lipscale.evaluation.logits import exact_logits  # which imports this package

    if not isinstance(network, PlainNetwork):
        raise LipscaleError(f"certify: the network is {type(network).__name__}; allowed: what lipscale.export or load returns")
    pixels = images if isinstance(images, np.ndarray) else torch.as_tensor(images)  # an array may be memory-mapped
    labels = None if labels is None else np.asarray(torch.as_tensor(labels).cpu())
    _check_images(pixels, network)
    promise = certificate(network)
    device = next((tensor.device for tensor in network.state_dict().values()), torch.device("cpu"))
    logits = exact_logits(copy.deepcopy(network).double().eval(), pixels, device).numpy()
    predictions = logits.argmax(axis=1)
    if labels is not None:
        _check_labels(labels, *logits.shape)
        labels = labels.astype(np.int64)
    truth = predictions if labels is None else labels
    radii = certified_radii(logits, truth, promise)
    return Certification(logits, labels, *radii, promise, float32_radii(radii[0], promise))


def _check_images(images: torch.Tensor | np.ndarray, network: PlainNetwork) -> None:
    dtype = str(images.dtype).removeprefix("torch.")
    if images.ndim != 4 or not len(images) or dtype not in ("uint8", "float32", "float64"):
        raise LipscaleError(
            f"certify: images have shape {tuple(images.shape)}, {dtype}; "
            "allowed: (images, channels, height, width), uint8 or float32 or float64"
        )
    if tuple(images.shape[1:]) != network.image_shape:
        raise LipscaleError(
            f"certify: images have shape {tuple(images.shape[1:])}; allowed: {network.image_shape}, as the network's have"
        )
    if dtype != "uint8" and not ((images >= 0) & (images <= 1)).all():
        raise LipscaleError("certify: pixels outside [0, 1] or NaN; allowed: pixels in [0, 1], not normalised, or uint8")


def _check_labels(labels: np.ndarray, images: int, classes: int) -> None:
    if labels.shape != (images,) or labels.dtype.kind not in "iu":
        raise LipscaleError(
            f"certify: labels have shape {labels.shape}, {labels.dtype}; allowed: a class number for each image"
        )
    if labels.min() < 0 or labels.max() >= classes:
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise LipscaleError(f"certify: there is a label {wrong}; allowed: 0 to {classes - 1}, as there are {classes} logits")

"""Logits of a frozen network in float64: what temperatures, radii and certificates rest on."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from lipscale.data.dataset import in_parts
from lipscale.errors import LipscaleError
from lipscale.units import exact_pixels

if TYPE_CHECKING:
    from lipscale.certification.plain_layers import PlainNetwork

EVALUATION_BATCH = 1000  # images at once, fewer where they are larger than these:
LARGEST = 3 * 32 * 32  # values of an image


def evaluation_batch(image_shape: Sequence[int]) -> int:
    """How many images are evaluated at once: a number whose values, and so the memory, stay the same as images grow."""
    return max(1, min(EVALUATION_BATCH, EVALUATION_BATCH * LARGEST // math.prod(image_shape)))


def exact_logits(network: "PlainNetwork", images: torch.Tensor | np.ndarray, device: torch.device) -> torch.Tensor:
    """Logits (images, classes) in float64, on the CPU, with the rounding errors that the bounds of the layers cover.

    Args:
        network: in float64, on `device`.
        images: uint8 or floating in [0, 1], (images, channels, height, width), on any device; an array may be memory-mapped.

    Raises:
        LipscaleError: the images do not have the shape that the network was made for.
    """
    check_shape(images, network)
    size = evaluation_batch(network.image_shape)
    batches = images.split(size) if isinstance(images, torch.Tensor) else map(torch.from_numpy, in_parts(images, size))
    # cuDNN may choose a fast transform, whose errors are not those of inner products
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
        parts = [network(exact_pixels(batch.to(device))).cpu() for batch in batches]
    return torch.cat(parts)


def check_shape(images: torch.Tensor | np.ndarray, network: "PlainNetwork") -> None:
    """Raises LipscaleError where images (images, channels, height, width) are not of the network's image_shape."""
    if tuple(images.shape[1:]) != network.image_shape:
        raise LipscaleError(
            f"the images have shape {tuple(images.shape[1:])}; allowed: {network.image_shape}, the image_shape of the network"
        )


def check_labels(labels: np.ndarray, logits: np.ndarray) -> None:
    """Raises LipscaleError where labels (images,) are not class numbers of logits (images, classes)."""
    if labels.shape != logits.shape[:1] or labels.dtype.kind not in "iu":
        raise LipscaleError(
            f"the labels have shape {labels.shape}, {labels.dtype}; allowed: a class number for each of {len(logits)} images"
        )
    wrong = labels[(labels < 0) | (labels >= logits.shape[1])]
    if len(wrong):
        raise LipscaleError(f"the images have label {wrong[0]}; allowed: 0 to {logits.shape[1] - 1}, as the network has logits")

"""Logits of a frozen network in float64: what temperatures, radii and certificates rest on; and in plain float32."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from lipscale.data.dataset import in_parts
from lipscale.errors import LipscaleError
from lipscale.units import exact_pixels, pixels

if TYPE_CHECKING:
    from lipscale.certification.plain_layers import PlainNetwork

EVALUATION_BATCH = 1000  # images at once, fewer where they are larger than these:
LARGEST = 3 * 32 * 32  # values of an image


def evaluation_batch(image_shape: Sequence[int]) -> int:
    """How many images are evaluated at once: a number whose values, and so the memory, stay the same as images grow."""
    return max(1, min(EVALUATION_BATCH, EVALUATION_BATCH * LARGEST // math.prod(image_shape)))


def whole_batches(images: int, image_shape: Sequence[int], number: int, parts: int) -> slice:
    """Part `number`, counted from 1, of so many images in `parts` parts of whole batches of `exact_logits`; may be empty."""
    size = evaluation_batch(image_shape)
    first, last = (math.ceil(images / size) * one // parts * size for one in (number - 1, number))
    return slice(first, min(last, images))


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
    # one table: two for a moment, as of torch.cat, are gigabytes with many images and classes
    first, logits = 0, torch.empty(len(images), network.class_count, dtype=torch.float64)
    # cuDNN may choose a fast transform, whose errors are not those of inner products
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
        for batch in batches:
            found = network(exact_pixels(batch.to(device)))
            logits[first : first + len(found)] = found
            first += len(found)
    return logits


def float32_logits(network: "PlainNetwork", images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Logits (images, classes) in float32, on the CPU, as `radius_float32` promises them: sums of products, rounded to float32.

    Args and Raises as `exact_logits`; the network may be in float32 or float64.
    """
    check_shape(images, network)
    network = copy.deepcopy(network).float().to(device)
    with torch.no_grad(), plain_float32():
        parts = [
            network(batch.float() if batch.is_floating_point() else pixels(batch)).cpu()
            for batch in images.to(device).split(evaluation_batch(network.image_shape))
        ]
    return torch.cat(parts)


@contextmanager
def plain_float32() -> Iterator[None]:
    """No TF32 or bfloat16 in matrix products, and none of the libraries that may compute convolutions by Winograd or FFT."""
    backends, precision = torch.backends, torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    mkldnn, *_ = backends.mkldnn.set_flags(_enabled=False)  # its `flags` would also set what it then warns of
    try:
        with backends.cudnn.flags(enabled=False, allow_tf32=False), backends.nnpack.flags(enabled=False):
            yield
    finally:
        backends.mkldnn.set_flags(_enabled=mkldnn)
        torch.set_float32_matmul_precision(precision)


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

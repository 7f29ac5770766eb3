"""Certified radii for a network and images of your own: `python -m lipscale certify MODEL IMAGES`."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lipscale.certification import export
from lipscale.certification.certificate import certificate, certified_radii, write_radii
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError
from lipscale.evaluation.logits import exact_logits
from lipscale.store import files
from lipscale.training.loop import select_device


def certify_images(model: Path, images: Path, output: Path | None, epsilons: Sequence[int], device: str) -> None:
    """Write the radii of images to `output`, or only say on stdout what share is certified.

    Args:
        model: a .safetensors file that `lipscale.certification.export.save` wrote.
        images: a prepared data set, whose test split is taken, or an .npz file, see `read_images`.
        output: a CSV file with the columns of `lipscale.certification.certificate.COLUMNS`.
        epsilons: l2 budgets in 1/255 that shares are given at.

    Raises:
        LipscaleError: the model or the images cannot be read, or do not fit each other.
    """
    place, network = select_device(device), export.load(model)
    pixels, labels = read_images(images)
    if pixels.shape[1:] != network.image_shape:
        raise LipscaleError(
            f"{images} holds images of shape {pixels.shape[1:]}; allowed: {network.image_shape}, as {model} has"
        )
    promise = certificate(network)
    logits = exact_logits(network.to(place).double(), torch.from_numpy(pixels), place).numpy()
    predictions = logits.argmax(axis=1)
    truth = predictions if labels is None else labels
    if truth.max() >= logits.shape[1]:
        raise LipscaleError(f"{images} has label {truth.max()}; allowed: below {logits.shape[1]}, the number of logits")
    if output:
        write_radii(output, logits, truth, promise)
    _, radii, pair_radii = certified_radii(logits, truth, promise)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(("quantity", "value"))
    table.writerow(("images", len(truth)))
    table.writerow(("lipschitz", promise.lipschitz))
    table.writerow(("lipschitz_certified", promise.lipschitz_certified))
    if labels is not None:
        table.writerow(("clean_accuracy", (predictions == labels).mean()))
    for epsilon in epsilons:
        table.writerow((f"certified_{epsilon}", (radii >= epsilon / 255).mean()))
        table.writerow((f"pair_certified_{epsilon}", (pair_radii >= epsilon / 255).mean()))


def read_images(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Images (images, channels, height, width), uint8 or floating in [0, 1], and labels (images,) where there are any.

    Args:
        path: a folder that `prepare` wrote, or an .npz file with the array `images` and perhaps `labels`.

    Raises:
        LipscaleError: it is neither, or the arrays are not such.
    """
    if path.is_dir():
        dataset = Dataset(path)
        return dataset.images("test"), dataset.labels("test")
    arrays = files.read_arrays(path)
    images, labels = arrays.get("images"), arrays.get("labels")
    if images is None:
        raise LipscaleError(f"{path} holds {', '.join(arrays) or 'nothing'}; allowed: images and, if there are any, labels")
    if images.ndim != 4 or not len(images) or images.dtype not in (np.uint8, np.float32, np.float64):
        raise LipscaleError(
            f"{path} holds images of shape {images.shape}, {images.dtype}; "
            "allowed: (images, channels, height, width), uint8 or float"
        )
    if images.dtype != np.uint8 and not ((images >= 0) & (images <= 1)).all():
        raise LipscaleError(f"{path} holds pixels outside [0, 1] or NaN; allowed: pixels in [0, 1], not normalised, or uint8")
    if labels is not None and (
        labels.shape != images.shape[:1] or labels.dtype.kind not in "iu" or labels.astype(np.int64).min() < 0
    ):
        raise LipscaleError(
            f"{path} holds labels of shape {labels.shape}, {labels.dtype}; allowed: a class number for each image"
        )
    return images, None if labels is None else labels.astype(np.int64)

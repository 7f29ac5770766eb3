"""Images that a user names on the command line: a prepared data set, or an .npz file."""

from pathlib import Path

import numpy as np

from lipscale.certification.binding import Binding, check_fits
from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.store.dataset import MANIFEST, array_file, read_dataset

ANY = Binding()  # of a model that states nothing


def read_images(path: Path, binding: Binding = ANY) -> tuple[np.ndarray, np.ndarray | None]:
    """Images (images, channels, height, width), uint8 or floating in [0, 1], and labels (images,) where there are any.

    Args:
        path: a folder that `prepare` wrote, whose test split is taken, or an .npz file with the array `images` and perhaps
            `labels`.
        binding: of the model; a prepared data set has to fit it.

    Raises:
        LipscaleError: it is neither, or does not fit, or the arrays are not such.
    """
    if path.is_dir():
        if not (path / MANIFEST).exists():
            raise LipscaleError(f"{path} is no prepared data set; allowed: what `lipscale prepare` wrote, or an .npz file")
        dataset = read_dataset(path, ["test"])
        check_fits(binding, dataset)
        return dataset.images("test"), dataset.labels("test")
    arrays = files.read_arrays(path)
    images, labels = arrays.get("images"), arrays.get("labels")
    if images is None:
        raise LipscaleError(f"{path} holds {', '.join(arrays) or 'nothing'}; allowed: images and, if there are any, labels")
    if not images.size:
        raise LipscaleError(f"{path} holds no images (the array has the shape {images.shape}); allowed: one image or more")
    if images.ndim != 4 or images.dtype not in (np.uint8, np.float32, np.float64):
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


def arrays_file(path: Path) -> Path:
    """The file that `read_images` takes images from."""
    return path / array_file("test_images") if path.is_dir() else path

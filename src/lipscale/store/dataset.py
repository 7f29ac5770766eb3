"""The prepared data set on disk: images and labels of three splits, an .npy file each, and `manifest.json` about them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lipscale.data.dataset import SPLITS, Dataset, in_parts
from lipscale.data.image_files import FileImages
from lipscale.store import files, image_arrays
from lipscale.store.checksums import checked, record
from lipscale.store.manifest import MANIFEST, read_manifest
from lipscale.store.npz import npz_sha256
from lipscale.units import pixels

ARRAYS = tuple(f"{split}_{kind}" for kind in ("images", "labels") for split in SPLITS)
PART = 2**24  # values of images that are read at once


def array_file(name: str) -> str:
    """The file of one of ARRAYS."""
    return f"{name}.npy"


def write_dataset(folder: Path, arrays: Mapping[str, np.ndarray | FileImages], manifest: Mapping, jobs: int = 1) -> None:
    """Write the files of a data set that `lipscale.data.prepare` made, and add to the manifest what depends on the images.

    Images in files are decoded here, by `jobs` processes; if that was stopped before, it resumes.

    Raises:
        LipscaleError: an image is damaged, or the disk is full.
    """
    paths = {name: folder / array_file(name) for name in arrays}
    in_files = {paths[name]: array for name, array in arrays.items() if isinstance(array, FileImages)}
    if in_files:
        image_arrays.decode_into(in_files, jobs)
    for name, path in paths.items():
        with files.atomic(path) as temporary:  # images that were decoded are there already
            if path not in in_files:
                with temporary.open("wb") as file:
                    np.save(file, np.ascontiguousarray(arrays[name]))
    image_arrays.forget(folder)
    added = {"mean": _mean(paths["train_images"]), "arrays_sha256": npz_sha256(paths)}
    files.write_json(folder / MANIFEST, {**manifest, **added})
    for path in (*paths.values(), folder / MANIFEST):
        record(path)


def read_dataset(folder: str | Path, splits: Sequence[str] = SPLITS) -> Dataset:
    """A data set that `write_dataset` wrote: its labels in memory, its images memory-mapped.

    Args:
        splits: those that are opened, and whose checksums are compared.

    Raises:
        LipscaleError: the folder holds no prepared data set, or files that were altered.
    """
    folder = Path(folder)
    manifest, arrays = read_manifest(folder), {}
    for name in ARRAYS:
        if name.partition("_")[0] in splits:
            mapped = name.endswith("_images")
            arrays[name] = files.read_array(checked(folder / array_file(name)), mapped)
    return Dataset.from_arrays(arrays, manifest, str(folder), splits)


def _mean(path: Path) -> list[float]:
    """Of images, one value per channel, pixels in [0, 1]. Sums of whole numbers are exact, in whatever parts."""
    images = files.read_array(path, mapped=True)
    total = np.zeros(images.shape[1], dtype=np.int64)
    for part in in_parts(images, max(1, PART // images[0].size)):
        total += part.sum(axis=(0, 2, 3), dtype=np.int64)
    return pixels(total / (images.size // images.shape[1])).tolist()

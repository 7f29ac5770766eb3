"""The prepared data set on disk: `arrays.npz` with images and labels of three splits, and `manifest.json` about them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lipscale.data.dataset import SPLITS, Dataset, Split
from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.store.checksums import checked, record

ARRAYS, MANIFEST = "arrays.npz", "manifest.json"


def write_dataset(folder: Path, arrays: Mapping[str, np.ndarray], manifest: Mapping) -> None:
    """Write the two files of a data set that `lipscale.data.prepare` made."""
    with files.atomic(folder / ARRAYS) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    files.write_json(folder / MANIFEST, {**manifest, "arrays_sha256": files.sha256(folder / ARRAYS)})
    for name in (ARRAYS, MANIFEST):
        record(folder / name)


def read_manifest(folder: Path) -> dict:
    """The manifest. Raises LipscaleError where the folder holds no prepared data set."""
    try:
        manifest = files.read_json(checked(folder / MANIFEST))
        missing = {"classes", "image_shape", "mean", "arrays_sha256"} - set(manifest)
    except (OSError, ValueError, RecursionError, TypeError) as error:
        raise LipscaleError(f"{folder} holds no prepared data set: {error}") from None
    if missing:
        raise LipscaleError(f"{folder}/{MANIFEST} has no {sorted(missing)[0]}; allowed: a manifest that `prepare` wrote")
    return manifest


def read_dataset(folder: str | Path) -> Dataset:
    """A data set that `write_dataset` wrote, in memory.

    Raises:
        LipscaleError: the folder holds no prepared data set, or files that were altered.
    """
    folder = Path(folder)
    path, manifest = checked(folder / ARRAYS), read_manifest(folder)
    arrays = files.read_arrays(path)
    try:
        splits = {split: Split(arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in SPLITS}
        return Dataset(
            splits=splits,
            classes=manifest["classes"],
            mean=manifest["mean"],
            image_shape=tuple(manifest["image_shape"]),
            sha256=manifest["arrays_sha256"],
        )
    except (LipscaleError, KeyError, TypeError, ValueError) as error:
        raise LipscaleError(f"{folder} holds no prepared data set: {error}") from None

"""The prepared data set on disk: `arrays.npz` with images and labels of three splits, and `manifest.json` about them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lipscale.data.dataset import Dataset
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
    except (OSError, ValueError, RecursionError) as error:
        raise LipscaleError(f"{folder} holds no prepared data set: {error}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("arrays_sha256"), str):
        raise LipscaleError(f"{folder}/{MANIFEST} has no arrays_sha256; allowed: a manifest that `prepare` wrote")
    return manifest


def read_dataset(folder: str | Path) -> Dataset:
    """A data set that `write_dataset` wrote, in memory.

    Raises:
        LipscaleError: the folder holds no prepared data set, or files that were altered.
    """
    folder = Path(folder)
    path, manifest = checked(folder / ARRAYS), read_manifest(folder)
    return Dataset.from_arrays(files.read_arrays(path), manifest, name=str(folder))

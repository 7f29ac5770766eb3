"""The prepared data set: uint8 images and labels of three splits, and a manifest that says where they come from."""

from functools import cached_property
from pathlib import Path

import jsonschema
import numpy as np

from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.store.checksums import checked

SPLITS = ("train", "validation", "test")
MANIFEST = {  # the part of it that is read
    "type": "object",
    "required": ["classes", "image_shape", "mean", "arrays_sha256"],
    "properties": {
        "classes": {"type": "array", "minItems": 2},
        "image_shape": {"type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "integer", "minimum": 1}},
        "mean": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}},
        "arrays_sha256": {"type": "string"},
    },
}


class Dataset:
    """A folder that `prepare` wrote: `arrays.npz` and `manifest.json`.

    Attributes:
        mean: of the training split, one value per channel, pixels in [0, 1].
        classes: how many.
        image_shape: (channels, height, width).
        arrays: the file that holds images and labels.
        sha256: its checksum.

    Raises:
        LipscaleError: the folder holds no prepared data set, or not a whole one.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.arrays = checked(self.folder / "arrays.npz")
        try:
            manifest = files.read_json(checked(self.folder / "manifest.json"))
            jsonschema.validate(manifest, MANIFEST)
        except (OSError, ValueError, RecursionError, jsonschema.ValidationError) as error:
            reason = getattr(error, "message", None) or error
            raise LipscaleError(f"{self.folder} holds no prepared data set: {reason}") from None
        self.mean: list[float] = manifest["mean"]
        self.classes: int = len(manifest["classes"])
        self.image_shape: tuple[int, int, int] = tuple(manifest["image_shape"])
        self.sha256: str = manifest["arrays_sha256"]
        if len(self.mean) != self.image_shape[0]:
            raise LipscaleError(f"{self.folder}/manifest.json has {len(self.mean)} means for images of {self.image_shape}")

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = files.read_arrays(self.arrays)
        for split in SPLITS:
            images, labels = (arrays.get(f"{split}_{kind}", np.empty(0)) for kind in ("images", "labels"))
            whole = images.dtype == np.uint8 and labels.dtype == np.int64 and labels.ndim == 1 and len(labels) > 0
            whole = whole and images.shape == (len(labels), *self.image_shape)
            if not whole or labels.min() < 0 or labels.max() >= self.classes:
                raise LipscaleError(f"{self.arrays} holds no {split} split as its manifest describes it")
        return arrays

    def images(self, split: str) -> np.ndarray:
        """uint8, (images, channels, height, width)."""
        return self._arrays[f"{split}_images"]

    def labels(self, split: str) -> np.ndarray:
        """int64, (images,)."""
        return self._arrays[f"{split}_labels"]

    def tensors(self, split: str, device: object) -> tuple:
        """uint8 images and int64 labels of a split as torch tensors on `device`."""
        import torch  # here, since preparing and certifying do without

        return torch.from_numpy(self.images(split)).to(device), torch.from_numpy(self.labels(split)).to(device)

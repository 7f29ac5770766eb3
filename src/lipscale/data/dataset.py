"""The prepared data set: uint8 images and labels of three splits, and a manifest that says where they come from."""

from functools import cached_property
from pathlib import Path

import numpy as np

from lipscale import files
from lipscale.errors import LipscaleError
from lipscale.seals import checked

SPLITS = ("train", "validation", "test")


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
            self.mean: list[float] = manifest["mean"]
            self.classes: int = len(manifest["classes"])
            self.image_shape: tuple[int, int, int] = tuple(manifest["image_shape"])
            self.sha256: str = manifest["arrays_sha256"]
        except (OSError, ValueError, KeyError) as error:
            raise LipscaleError(f"{self.folder} holds no prepared data set: {error}") from None

    @cached_property
    def _arrays(self) -> dict[str, np.ndarray]:
        with np.load(self.arrays, allow_pickle=False) as arrays:
            return dict(arrays)

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

"""The prepared data set: uint8 images and labels of three splits, in memory or in memory-mapped files.

It knows no files; `lipscale.store` has them.
"""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lipscale.errors import LipscaleError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Split:
    """Images and their labels.

    Attributes:
        images: uint8, (images, channels, height, width); before they are prepared, also what reads such images when they are
            wanted (`lipscale.data.image_files`).
        labels: int64, (images,), from 0 to the number of classes - 1.
    """

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Dataset:
    """Splits by name, checked: each has images of one shape, and labels that are classes.

    Attributes:
        splits: by name; `prepare` makes train, validation and test.
        classes: their names, in the order of the labels.
        mean: of the training images, one value per channel, pixels in [0, 1].
        image_shape: (channels, height, width).
        sha256: checksum of the file that the images come from; empty if there is none.
        preparation: checksum of how the images were prepared, see `lipscale.data.prepare`; empty if it is not known.
        name: what messages call the data set, such as its folder.

    Raises:
        LipscaleError: the parts do not fit together.
    """

    splits: Mapping[str, Split]
    classes: list[str]
    mean: list[float]
    image_shape: tuple[int, int, int]
    sha256: str = ""
    preparation: str = ""
    name: str = "data set"

    def __post_init__(self) -> None:
        if not (isinstance(self.classes, list) and len(self.classes) > 1 and all(isinstance(c, str) for c in self.classes)):
            raise LipscaleError(f"{self.name}: classes are {self.classes!r}; allowed: a list of two or more names")
        shape = self.image_shape
        if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
            raise LipscaleError(f"{self.name}: image_shape is {shape!r}; allowed: channels, height, width, each 1 or more")
        in_range = isinstance(self.mean, list) and all(isinstance(m, int | float) and 0 <= m <= 1 for m in self.mean)
        if not in_range or len(self.mean) != shape[0]:
            raise LipscaleError(f"{self.name}: mean is {self.mean!r}; allowed: {shape[0]} numbers from 0 to 1, one per channel")
        for name, split in self.splits.items():
            check_split(split, tuple(shape), len(self.classes), f"{self.name}: the {name} split")

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], manifest: Mapping, name: str = "data set", wanted: Sequence[str] = SPLITS
    ) -> "Dataset":
        """The data set that `prepare` described, or the wanted splits of it: its arrays and its manifest.

        Raises:
            LipscaleError: an array or a key of the manifest is missing, or they do not fit together.
        """
        for key in ("classes", "image_shape", "mean"):
            if not isinstance(manifest, Mapping) or not isinstance(manifest.get(key), list):
                raise LipscaleError(f"{name}: the manifest has no list {key}; allowed: a manifest that `prepare` wrote")
        missing = [key for split in wanted for key in (f"{split}_images", f"{split}_labels") if key not in arrays]
        if missing:
            raise LipscaleError(f"{name}: the array {missing[0]} is missing; allowed: images and labels of {', '.join(SPLITS)}")
        splits = {split: Split(arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in wanted}
        sha256 = str(manifest.get("arrays_sha256", ""))
        preparation = str(manifest.get("preparation_sha256", ""))
        return cls(splits, manifest["classes"], manifest["mean"], tuple(manifest["image_shape"]), sha256, preparation, name)

    @property
    def class_count(self) -> int:
        return len(self.classes)

    def images(self, split: str) -> np.ndarray:
        """uint8, (images, channels, height, width)."""
        return self._split(split).images

    def labels(self, split: str) -> np.ndarray:
        """int64, (images,)."""
        return self._split(split).labels

    def _split(self, name: str) -> Split:
        if name not in self.splits:
            raise LipscaleError(f"{self.name} has no split {name!r}; allowed: {', '.join(self.splits)}")
        return self.splits[name]


def check_split(split: Split, image_shape: tuple[int, int, int], class_count: int, name: str) -> None:
    """Raise LipscaleError, which begins with `name`, where a split is not what `Split` describes."""
    for kind, array, dtype in (("images", split.images, np.uint8), ("labels", split.labels, np.int64)):
        is_array = isinstance(array, np.ndarray) or (kind == "images" and hasattr(array, "__array__"))
        if not is_array or array.dtype != dtype:
            found = array.dtype if is_array else type(array).__name__
            raise LipscaleError(f"{name} has {kind} of type {found}; allowed: an array of {np.dtype(dtype)}")
    images, labels = split.images, split.labels
    if labels.ndim != 1 or len(labels) == 0 or images.shape != (len(labels), *image_shape):
        shape = f"(images, {', '.join(map(str, image_shape))})"
        raise LipscaleError(
            f"{name} has images of shape {images.shape} and labels of shape {labels.shape}; "
            f"allowed: {shape} and (images,), at least one image"
        )
    if labels.min() < 0 or labels.max() >= class_count:
        raise LipscaleError(
            f"{name} has labels from {labels.min()} to {labels.max()}; allowed: from 0 to {class_count - 1}, the last class"
        )


def take_rows(images: np.ndarray, chosen: np.ndarray | slice) -> np.ndarray:
    """A copy of some images. Of a memory-mapped array, no pages stay in this process."""
    rows = np.array(images[chosen])
    while isinstance(images, np.ndarray):
        images = images.base
    if isinstance(images, mmap.mmap):  # pages that were read count as memory of the process until they are given back
        images.madvise(mmap.MADV_DONTNEED)
    return rows


def in_parts(images: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """The images in their order, `size` at a time, as `take_rows` gives them."""
    return (take_rows(images, slice(first, first + size)) for first in range(0, len(images), size))

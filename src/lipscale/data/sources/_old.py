"""Data sets by name: scikit-learn's digits, torchvision's CIFAR, and any folder or archive of images."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipscale.errors import LipscaleError

CIFAR = {"cifar10": ("CIFAR10", "CIFAR-10"), "cifar100": ("CIFAR100", "CIFAR-100")}


@dataclass(frozen=True)
class Split:
    """uint8 images (images, channels, height, width) and int64 labels (images,)."""

    images: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Source:
    """A data set as it comes: class names, a training split, a test split if it has one, and what the manifest says of it."""

    classes: list[str]
    train: Split
    test: Split | None
    origin: dict


def read(settings: Mapping) -> Source:
    """The data set that the section `dataset` of a checked config names. Raises LipscaleError where it cannot be had."""
    if settings["name"] == "digits":
        return digits()
    if settings["name"] == "imagefolder":
        from lipscale.data import images

        return images.load(
            Path(settings["path"]), settings["image_size"], settings["channels"], settings["largest_unpacked_gib"]
        )
    return cifar(settings["name"], Path(settings["path"] or "data"))


def digits() -> Source:
    """The 1,797 8x8 handwritten digits embedded in scikit-learn; 0..16 becomes 0..255."""
    import sklearn
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    origin = {"package": f"scikit-learn {sklearn.__version__}", "function": "sklearn.datasets.load_digits"}
    return Source([str(name) for name in bunch.target_names], Split(images, bunch.target.astype(np.int64)), None, origin)


def cifar(name: str, folder: Path) -> Source:
    """CIFAR through torchvision, which downloads it once and compares its files with their MD5 sums."""
    from torchvision import datasets

    kind, title = getattr(datasets, CIFAR[name][0]), CIFAR[name][1]
    try:
        splits = [kind(folder, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise LipscaleError(
            f"{title} could not be had ({' '.join(str(error).split())}); download {kind.url} (MD5 {kind.tgz_md5}), put it into "
            f"{folder.resolve()} and run the same command again"
        ) from None
    train, test = (Split(split.data.transpose(0, 3, 1, 2), np.array(split.targets, dtype=np.int64)) for split in splits)
    return Source(list(splits[0].classes), train, test, {"url": kind.url, "md5": kind.tgz_md5})

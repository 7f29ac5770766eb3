"""A data set is prepared once: uint8 arrays, labels, a seeded choice of validation images, and a manifest."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lipscale import discovery
from lipscale.data.dataset import SPLITS, Split, check_split
from lipscale.data.source import Source
from lipscale.errors import LipscaleError
from lipscale.settings import Settings

if TYPE_CHECKING:
    from lipscale.data.image_files import FileImages

SOURCES = "lipscale.data.sources"


def prepare(settings: Settings) -> tuple[dict[str, "np.ndarray | FileImages"], dict]:
    """Arrays and manifest of the data set that a checked section `dataset` of a config describes.

    The arrays are `train_images`, `train_labels`, and the same for `validation` and `test`, as `Split` describes them. Each
    split keeps the order of the source, which the manifest names; training shuffles. Where images are files, they are listed
    only, and decoded when `lipscale.store.dataset.write_dataset` writes them, which adds their mean and checksum to the
    manifest.

    Raises:
        LipscaleError: the data set cannot be had or is damaged, or a split would be empty.
    """
    source = discovery.load(SOURCES, settings.name).load(settings)
    for name, split in (("train", source.train), ("test", source.test)):
        if split is not None:
            check_split(
                split, tuple(settings.image_shape()), len(source.classes), f"data set {settings.name}: the {name} split"
            )
    splits = divide(source, settings)
    arrays = {f"{name}_images": split.images for name, split in splits.items()}
    arrays |= {f"{name}_labels": split.labels for name, split in splits.items()}
    return arrays, _manifest(source, splits, settings)


def divide(source: Source, settings: Settings) -> dict[str, Split]:
    """Train, validation and test split of a source. The choice of images depends on `split_seed` only."""
    generator = np.random.default_rng(settings.split_seed)
    rest, test = source.train, source.test
    if test is None:
        count = getattr(settings, "test_images", None)
        if count is None:
            raise LipscaleError(f"data set {settings.name} has no test split; allowed: a test split, or a setting test_images")
        rest, test = take(rest, count, generator, "dataset.test_images", source.classes)
    train, validation = take(rest, settings.validation_images, generator, "dataset.validation_images", source.classes)
    return dict(zip(SPLITS, (train, validation, test), strict=True))


def take(split: Split, count: int, generator: np.random.Generator, key: str, classes: Sequence[str]) -> tuple[Split, Split]:
    """(rest, taken): `count` images taken at random, from each class in its proportion (largest remainders).

    Raises:
        LipscaleError: a class would be left without an image; the message names the config's `key`.
    """
    sizes = np.bincount(split.labels, minlength=len(classes))
    shares = min(count, sizes.sum()) * sizes / sizes.sum()  # min, as a huge count would overflow
    quotas = np.floor(shares).astype(int)
    quotas[np.argsort(quotas - shares, kind="stable")[: count - quotas.sum()]] += 1
    if (quotas >= sizes).any():
        name = classes[np.argmax(quotas >= sizes)]
        raise LipscaleError(
            f"{key} is {count} of {len(split.labels)} images, which leaves none in class {name!r}; allowed: fewer"
        )
    taken = np.concatenate(
        [generator.permutation(np.flatnonzero(split.labels == label))[:quota] for label, quota in enumerate(quotas)]
    )
    chosen = np.zeros(len(split.labels), dtype=bool)
    chosen[taken] = True
    return Split(split.images[~chosen], split.labels[~chosen]), Split(split.images[chosen], split.labels[chosen])


def preparation_sha256(source: Source, name: str) -> str:
    """Checksum of what makes images of a source: its own checksum, their size and channels, resampling and the like.

    Names of files and versions of packages do not count, nor does how images are divided into splits. A source without a
    checksum of its own is taken as its pixels and labels; a folder of files, which are not decoded yet, as its labels alone.
    """
    recipe = {key: value for key, value in source.origin.items() if key not in ("path", "package", "function", "url")}
    if not {"sha256", "md5"} & {key for key, value in recipe.items() if value}:
        content = hashlib.sha256()
        for split in filter(None, (source.train, source.test)):
            if isinstance(split.images, np.ndarray):
                content.update(np.ascontiguousarray(split.images))
            content.update(np.ascontiguousarray(split.labels))
        recipe["content"] = content.hexdigest()
    recipe |= {"dataset": name, "image_shape": list(source.train.images.shape[1:]), "order": source.order}
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


def _manifest(source: Source, splits: Mapping[str, Split], settings: Settings) -> dict:
    """Everything that fits into JSON and is known before the images are."""
    return {
        "dataset": settings.name,
        "preparation_sha256": preparation_sha256(source, settings.name),
        "settings": settings.model_dump(mode="json"),
        "source": source.origin,
        "classes": source.classes,
        "image_shape": list(splits["train"].images.shape[1:]),
        "order": source.order,
        "counts": {
            name: {
                "images": len(split.labels),
                "per_class": np.bincount(split.labels, minlength=len(source.classes)).tolist(),
            }
            for name, split in splits.items()
        },
        "split_seed": settings.split_seed,
    }

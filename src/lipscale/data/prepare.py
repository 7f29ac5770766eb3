"""A data set prepared once: uint8 arrays, labels, a seeded train/validation split, a manifest."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lipscale.data.dataset import SPLITS
from lipscale.data.sources._old import Split, read
from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.store.checksums import seal


def prepare(settings: Mapping, folder: Path) -> None:
    """Write `folder`/arrays.npz and manifest.json for the section `dataset` of a checked config.

    Raises:
        LipscaleError: the data set cannot be had or is broken, or a split would be empty.
    """
    source = read(settings)
    generator = np.random.default_rng(settings["split_seed"])
    rest, test = source.train, source.test
    if test is None:
        rest, test = take(rest, settings["test_images"], generator, "dataset.test_images")
    train, validation = take(rest, settings["validation_images"], generator, "dataset.validation_images")
    splits = dict(zip(SPLITS, (train, validation, test), strict=True))

    arrays = folder / "arrays.npz"
    with files.atomic(arrays) as temporary:
        np.savez(
            temporary,
            **{f"{name}_images": np.ascontiguousarray(split.images) for name, split in splits.items()},
            **{f"{name}_labels": split.labels for name, split in splits.items()},
        )
    seal(arrays)
    files.write_json(
        folder / "manifest.json",
        {
            "dataset": settings["name"],
            "settings": dict(settings),
            "source": source.origin,
            "classes": source.classes,
            "image_shape": list(train.images.shape[1:]),
            "counts": {
                name: {
                    "images": len(split.labels),
                    "per_class": np.bincount(split.labels, minlength=len(source.classes)).tolist(),
                }
                for name, split in splits.items()
            },
            "mean": (train.images.mean(axis=(0, 2, 3), dtype=np.float64) / 255).tolist(),
            "split_seed": settings["split_seed"],
            "arrays_sha256": files.sha256(arrays),
        },
    )
    seal(folder / "manifest.json", made_from=[arrays])


def take(split: Split, count: int, generator: np.random.Generator, key: str) -> tuple[Split, Split]:
    """(rest, taken): `count` images taken at random, each class in its proportion (largest remainders).

    Raises:
        LipscaleError: a class would be left without an image; the message names the config's `key`.
    """
    sizes = np.bincount(split.labels)
    shares = min(count, sizes.sum()) * sizes / sizes.sum()  # min, as a huge count would overflow
    quotas = np.floor(shares).astype(int)
    quotas[np.argsort(quotas - shares, kind="stable")[: count - quotas.sum()]] += 1
    if (quotas >= sizes).any():
        raise LipscaleError(
            f"{key} is {count} of {len(split.labels)}, which leaves class number {np.argmax(quotas >= sizes)} without images; "
            "allowed: fewer"
        )
    taken = np.concatenate(
        [generator.permutation(np.flatnonzero(split.labels == label))[:quota] for label, quota in enumerate(quotas)]
    )
    chosen = np.zeros(len(split.labels), dtype=bool)
    chosen[taken] = True
    return tuple(Split(split.images[mask], split.labels[mask]) for mask in (~chosen, chosen))

"""Small image folders and archives of them, for several tests."""

import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from lipscale.data.source import Source, Split


def encoded(image: Image.Image, kind: str = "png", **options) -> bytes:
    """The bytes of an image file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(mode: str = "RGB", size: tuple[int, int] = (8, 8), seed: int = 0, kind: str = "png") -> bytes:
    """An image file of random pixels."""
    generator = np.random.default_rng(seed)
    if mode.startswith("I"):
        image = Image.fromarray(generator.integers(0, 2**16, size[::-1]).astype(np.uint16))
    else:
        image = Image.fromarray(generator.integers(0, 256, (*size[::-1], 3)).astype(np.uint8)).convert(mode)
    return encoded(image, kind)


def tree(count: int = 3) -> dict[str, bytes]:
    """A small image folder: two classes, `count` training images and one test image each."""
    names = [f"train/{c}/{i}.png" for c in ("cat", "dog") for i in range(count)] + ["test/cat/0.png", "test/dog/0.png"]
    return {name: picture(seed=seed) for seed, name in enumerate(names)}


def decoded(source: Source) -> Source:
    """The source with its images in memory."""
    train, test = (Split(np.asarray(split.images), split.labels) for split in (source.train, source.test))
    return replace(source, train=train, test=test)


def write_folder(path: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        folder = path / name if name.endswith("/") else (path / name).parent
        folder.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            (path / name).write_bytes(data)
    return path


def write_tar(path: Path, content: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.size = len(data)
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(data))
    return path


def write_zip(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


FORMS = {
    "folder": lambda path, content: write_folder(path / "images", content),
    "tar": lambda path, content: write_tar(path / "images.tar", content),
    "tar.gz": lambda path, content: write_tar(path / "images.tar.gz", content, "w:gz"),
    "tar.xz": lambda path, content: write_tar(path / "images.tar.xz", content, "w:xz"),
    "zip": lambda path, content: write_zip(path / "images.zip", content),
}

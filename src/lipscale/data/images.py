"""Images from a folder or an archive of train/<class>/<image> and test/<class>/<image>.

An archive is read as a stream and never unpacked onto the disk, so nothing in it can write anywhere; links, devices, names
that leave the archive and archives that unpack to more than a bound are refused all the same.
"""

import io
import os
import stat
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from lzma import LZMAError
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageOps

from lipscale.data.sources import Source, Split
from lipscale.errors import LipscaleError
from lipscale.files import sha256
from lipscale.progress import bar

SPLITS = ("train", "test")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".zip")
GIB = 2**30


@dataclass(frozen=True)
class Member:
    """A file in a folder or archive: its name relative to the top, and its bytes."""

    name: str
    content: bytes


def load(path: Path, image_size: int, channels: int, largest_unpacked_gib: float) -> Source:
    """All images below `path`, brought to (channels, image_size, image_size), with the classes of the training split.

    A folder that merely wraps train/ and test/ is seen through. An image keeps its proportions: its shorter side is brought
    to image_size and the middle is cut out. Transparency is dropped; 16-bit grey keeps its upper 8 bits.

    Raises:
        LipscaleError: in one sentence, naming the file or class: no such folder or archive, an unsafe or too large archive, a
            corrupt image, an empty class, a class that is in test and not in train.
    """
    if not path.exists():
        raise LipscaleError(f"dataset.path {path} does not exist; allowed: a folder, or an archive ({', '.join(ARCHIVES)})")
    members = _folder(path) if path.is_dir() else _archive(path, round(largest_unpacked_gib * GIB))
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    with bar(members, name=path.name, unit="file") as progress:
        for member in progress:
            place = _place(member.name)
            if place is None:
                continue
            split, class_name, name = place
            images = found.setdefault((split, class_name), {})
            if name.lower().endswith(SUFFIXES):
                images[name] = _pixels(member, image_size, channels, path)

    classes = sorted(class_name for split, class_name in found if split == "train")
    if len(classes) < 2:
        raise LipscaleError(f"{path} holds {len(classes)} classes under train/; allowed: two or more folders of images")
    for (split, class_name), images in sorted(found.items()):
        if class_name not in classes:
            raise LipscaleError(f"class {class_name!r} of {path} is in test and not in train; allowed: classes of train")
        if not images:
            raise LipscaleError(f"class {class_name!r} of {path} is empty in {split}; allowed: at least one image")
    if not any(split == "test" for split, _ in found):
        raise LipscaleError(f"{path} holds no images under test/; allowed: train/<class>/<image> and test/<class>/<image>")
    return Source(
        classes=classes,
        train=_split(found, "train", classes),
        test=_split(found, "test", classes),
        origin={
            "path": path.name,
            "sha256": None if path.is_dir() else sha256(path),
            "image_size": image_size,
            "resampling": "bicubic, shorter side, centre crop",
        },
    )


def _split(found: dict, split: str, classes: list[str]) -> Split:
    images, labels = [], []
    for label, class_name in enumerate(classes):
        of_class = found.get((split, class_name), {})
        images += [of_class[name] for name in sorted(of_class)]
        labels += [label] * len(of_class)
    return Split(np.stack(images), np.array(labels))


def _place(name: str) -> tuple[str, str, str] | None:
    """(split, class, file name) of a member, or None for what is not below a class; a class folder itself has no file name."""
    parts = PurePosixPath(name).parts
    for start in range(min(2, len(parts))):
        if parts[start] in SPLITS and len(parts) > start + 1:
            _, class_name, *rest = parts[start:]
            if class_name.startswith("."):
                return None
            return (parts[start], class_name, "/".join(rest)) if rest or name.endswith("/") else None
    return None


def _pixels(member: Member, image_size: int, channels: int, path: Path) -> np.ndarray:
    """uint8, (channels, image_size, image_size)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(member.content))
            image.load()
    except (
        OSError,
        ValueError,
        SyntaxError,
        EOFError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise LipscaleError(f"image {member.name} in {path} is corrupt ({' '.join(str(error).split())})") from None
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    image = image.convert("RGB" if channels == 3 else "L")
    if image.size != (image_size, image_size):
        image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(image_size, image_size, channels).transpose(2, 0, 1)


def _folder(path: Path) -> Iterator[Member]:
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if file.is_symlink() and not file.resolve().is_relative_to(path.resolve()):
            raise LipscaleError(f"{name} in {path} is a link that leads out of it; allowed: files and folders")
        if file.is_dir():
            yield Member(name + "/", b"")
        elif file.is_file():
            yield Member(name, file.read_bytes())


def _archive(path: Path, limit: int) -> Iterator[Member]:
    name = path.name.lower()
    try:
        if name.endswith(".zip"):
            yield from _zip(path, limit)
        elif name.endswith(ARCHIVES):
            yield from _tar(path, limit)
        else:
            raise LipscaleError(f"dataset.path {path} is no archive that can be read; allowed: {', '.join(ARCHIVES)}")
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        LZMAError,
        zlib.error,
        EOFError,
        OSError,
        NotImplementedError,
    ) as error:
        raise LipscaleError(f"the archive {path} is corrupt or cut off ({' '.join(str(error).split())})") from None


def _tar(path: Path, limit: int) -> Iterator[Member]:
    left = limit
    with tarfile.open(path, "r|*") as archive:
        for entry in archive:
            _check_name(entry.name, path)
            if not (entry.isfile() or entry.isdir()):
                raise LipscaleError(f"{entry.name} in {path} is a link or a device; allowed: files and folders")
            left = _spend(left, entry.size, path, limit)
            if entry.isdir():
                yield Member(entry.name + "/", b"")
            else:
                yield Member(entry.name, archive.extractfile(entry).read())
        compressed = archive.fileobj.comptype != "tar"
    if not compressed:  # tarfile takes a file that ends between two members for whole
        with path.open("rb") as file:
            file.seek(-2 * tarfile.BLOCKSIZE, os.SEEK_END)
            if any(file.read()):
                raise tarfile.ReadError("the two empty blocks at its end are missing")


def _zip(path: Path, limit: int) -> Iterator[Member]:
    left = limit
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            _check_name(entry.filename, path)
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise LipscaleError(f"{entry.filename} in {path} is a link or a device; allowed: files and folders")
            if entry.flag_bits & 1:
                raise LipscaleError(f"{entry.filename} in {path} is encrypted; allowed: archives without a password")
            left = _spend(left, entry.file_size, path, limit)
            if entry.is_dir():
                yield Member(entry.filename, b"")
            else:
                with archive.open(entry) as file:  # a header may lie about the size; what is read is bounded by it
                    yield Member(entry.filename, file.read(entry.file_size))


def _check_name(name: str, path: Path) -> None:
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or ":" in (pure.parts or ("",))[0]:
        raise LipscaleError(f"{name} in {path} leads out of the archive; allowed: relative names without ..")


def _spend(left: int, size: int, path: Path, limit: int) -> int:
    if size > left:
        raise LipscaleError(
            f"{path} unpacks to more than {limit / GIB:.3g} GiB; allowed: less, or a larger dataset.largest_unpacked_gib"
        )
    return left - size

"""Images from a folder or an archive of train/<class>/<image> and test/<class>/<image>.

An archive is read as a stream and never unpacked onto the disk, so nothing in it can write anywhere; links, devices, names
that leave the archive and archives that unpack to more than a bound are refused all the same.
"""

import gzip
import io
import lzma
import os
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from lipscale.data.sources._old import Source, Split
from lipscale.errors import LipscaleError
from lipscale.progress import bar
from lipscale.store.files import sha256

SPLITS = ("train", "test")
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # no others: Pillow hands EPS to Ghostscript, for one
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
COMPRESSION = {".tar": open, ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.xz": lzma.open, ".txz": lzma.open}
ARCHIVES = (*COMPRESSION, ".zip")
GIB = 2**30


@dataclass(frozen=True)
class Member:
    """A file or folder (its name ends with a slash): its name relative to the top, and its bytes if it is an image."""

    name: str
    content: bytes = b""


def load(path: Path, image_size: int, channels: int, largest_unpacked_gib: float) -> Source:
    """All images below `path`, brought to (channels, image_size, image_size), with the classes of the training split.

    A folder that merely wraps train/ and test/ is seen through; hidden files and __MACOSX are passed over. An image keeps its
    proportions: its shorter side is brought to image_size and the middle is cut out. Transparency is dropped; 16-bit grey
    keeps its upper 8 bits.

    Raises:
        LipscaleError: in one sentence, naming the file or class: no such folder or archive, an unsafe, damaged or too large
            archive, a corrupt image, an empty class, a class that is in test and not in train.
    """
    if not os.path.exists(path):  # Path.exists raises on a name that is too long
        raise LipscaleError(f"dataset.path {path} does not exist; allowed: a folder, or an archive ({', '.join(ARCHIVES)})")
    limit = round(largest_unpacked_gib * GIB)
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    roots, left = set(), limit
    with bar(_folder(path, limit) if path.is_dir() else _archive(path, limit), name=path.name, unit="file") as progress:
        for member in progress:
            place = _place(member.name)
            if place is None:
                continue
            root, split, class_name, name = place
            roots.add(root)
            images = found.setdefault((split, class_name), {})
            if name.lower().endswith(SUFFIXES):
                images[name] = _pixels(member, image_size, channels, path, limit)
                left = _spend(left, images[name].nbytes, path, limit)

    if len(roots) > 1:
        raise LipscaleError(
            f"{path} holds several image folders, {', '.join(sorted(roots))}; allowed: one train/ and one test/"
        )
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


def _place(name: str) -> tuple[str, str, str, str] | None:
    """(folder around train and test, split, class, file name) of a member, None for what is not below a class or hidden.

    The file name of a class folder itself is empty.
    """
    parts = PurePosixPath(name).parts
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return None
    for start in range(min(2, len(parts))):
        if parts[start] in SPLITS and len(parts) > start + 1:
            split, class_name, *rest = parts[start:]
            root = "/".join(parts[:start]) or "."
            return (root, split, class_name, "/".join(rest)) if rest or name.endswith("/") else None
    return None


def _pixels(member: Member, image_size: int, channels: int, path: Path, limit: int) -> np.ndarray:
    """uint8, (channels, image_size, image_size)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tags that say nothing about pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(member.content), formats=FORMATS)
            _spend(limit, 4 * image.width * image.height, path, limit)  # bytes of a pixel in memory, at most
            image.load()
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
        image = image.convert("RGB").convert("RGB" if channels == 3 else "L")
        if image.size != (image_size, image_size):
            image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BICUBIC)
    except LipscaleError:
        raise
    except Exception as error:  # broken bytes make Pillow raise whatever its readers happen to run into
        raise LipscaleError(f"image {member.name} in {path} is corrupt ({_line(error)})") from None
    return np.asarray(image).reshape(image_size, image_size, channels).transpose(2, 0, 1)


def _folder(path: Path, limit: int) -> Iterator[Member]:
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        try:
            if file.is_symlink() and not file.resolve(strict=True).is_relative_to(path.resolve()):
                raise LipscaleError(f"{name} in {path} is a link that leads out of it; allowed: files and folders")
            if file.is_dir():
                yield Member(name + "/")
            elif file.is_file() and _wanted(name):
                _spend(limit, file.stat().st_size, path, limit)
                yield Member(name, file.read_bytes())
            elif file.is_file():
                yield Member(name)
        except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
            raise LipscaleError(f"{name} in {path} cannot be read ({_line(error)})") from None


def _wanted(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _archive(path: Path, limit: int) -> Iterator[Member]:
    name = path.name.lower()
    if not (name.endswith(ARCHIVES) and path.is_file()):
        raise LipscaleError(f"dataset.path {path} is no archive that can be read; allowed: {', '.join(ARCHIVES)}")
    try:
        yield from _zip(path, limit) if name.endswith(".zip") else _tar(path, limit)
    except LipscaleError:
        raise
    except Exception as error:  # broken bytes make tarfile and zipfile raise whatever they happen to run into
        raise LipscaleError(f"the archive {path} is corrupt or cut off ({_line(error)})") from None


class _Bounded:
    """A stream that refuses to give more than `limit` bytes, headers included, and remembers how it ended."""

    def __init__(self, stream: BinaryIO, path: Path, limit: int):
        self.stream, self.path, self.limit = stream, path, limit
        self.left, self.tail = limit, b""

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.left = _spend(self.left, len(data), self.path, self.limit)
        self.tail = (self.tail + data)[-2 * tarfile.BLOCKSIZE :]
        return data


def _tar(path: Path, limit: int) -> Iterator[Member]:
    """Members of a tar archive, read to its very end, where gzip and xz keep their checksums and tar two empty blocks."""
    unpack = next(function for suffix, function in COMPRESSION.items() if path.name.lower().endswith(suffix))
    with unpack(path, "rb") as raw:
        stream = _Bounded(raw, path, limit)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for entry in archive:
                archive.members = []  # which would otherwise keep every header
                _check_name(entry.name, path)
                if not (entry.isfile() or entry.isdir()) or entry.issparse():
                    raise LipscaleError(f"{entry.name} in {path} is a link or a device; allowed: files and folders")
                if entry.isdir():
                    yield Member(entry.name + "/")
                else:
                    yield Member(entry.name, archive.extractfile(entry).read() if _wanted(entry.name) else b"")
        while stream.read(2**20):
            pass
        if len(stream.tail) < 2 * tarfile.BLOCKSIZE or any(stream.tail):
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
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks others without bound
                raise LipscaleError(f"{entry.filename} in {path} is neither stored nor deflated; allowed: these two")
            left = _spend(left, entry.file_size, path, limit)
            if entry.is_dir():
                yield Member(entry.filename)
            else:
                with archive.open(entry) as file:  # a header may lie about the size; what is read is bounded by it
                    yield Member(entry.filename, file.read(entry.file_size) if _wanted(entry.filename) else b"")


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

"""Files of a folder or an archive, as a stream.

An archive is never unpacked onto the disk, so nothing in it can write anywhere. Links, devices, names that lead out of the
archive, and archives that unpack to more than a bound are refused all the same: archives come from strangers.
"""

import gzip
import hashlib
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from lipscale.errors import LipscaleError

COMPRESSION = {".tar": open, ".tar.gz": gzip.open, ".tgz": gzip.open, ".tar.xz": lzma.open, ".txz": lzma.open}
ARCHIVES = (*COMPRESSION, ".zip")
GIB = 2**30


@dataclass(frozen=True)
class Member:
    """A file or folder (its name ends with a slash): its name relative to the top, and its bytes if they are wanted.

    `size` in bytes and `modified`, a time in nanoseconds, are those of a file of a folder.
    """

    name: str
    content: bytes = b""
    size: int = 0
    modified: int = 0


class Bound:
    """How much a folder or archive may unpack to, in bytes."""

    def __init__(self, path: Path, gib: float):
        self.path, self.limit = path, round(gib * GIB)
        self.left = self.limit

    def spend(self, size: int) -> None:
        """Count `size` more bytes. Raises LipscaleError where that exceeds the bound."""
        self.left -= size
        if self.left < 0:
            raise self.exceeded()

    def check(self, size: int) -> None:
        """Raise LipscaleError where `size` bytes alone, of one file, exceed the bound."""
        if size > self.limit:
            raise self.exceeded()

    def exceeded(self) -> LipscaleError:
        limit = f"{self.limit / GIB:.3g} GiB"
        return LipscaleError(
            f"{self.path} unpacks to more than {limit}; allowed: less, or a larger dataset.largest_unpacked_gib"
        )


def members(path: Path, largest_unpacked_gib: float, wanted: Callable[[str], bool]) -> Iterator[Member]:
    """All files and folders below a folder or in an archive, with the bytes of those whose name is `wanted`.

    Raises:
        LipscaleError: in one sentence, naming the file: nothing there, or an unsafe, damaged or too large archive.
    """
    if not os.path.exists(path):  # Path.exists raises on a name that is too long
        raise LipscaleError(f"dataset.path {path} does not exist; allowed: a folder, or an archive ({', '.join(ARCHIVES)})")
    bound = Bound(path, largest_unpacked_gib)
    return _folder(path, bound, wanted) if path.is_dir() else _archive(path, bound, wanted)


def sha256(path: Path) -> str | None:
    """Checksum of an archive, None of a folder."""
    if path.is_dir():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def one_line(error: Exception) -> str:
    """What an exception says, or its kind if it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def read(path: Path, name: str, largest_unpacked_gib: float) -> bytes:
    """The bytes of a file of a folder. Raises LipscaleError where it cannot be read."""
    try:
        Bound(path, largest_unpacked_gib).check((path / name).stat().st_size)
        return (path / name).read_bytes()
    except OSError as error:
        raise _unreadable(name, path, error) from None


def _folder(path: Path, bound: Bound, wanted: Callable[[str], bool], below: str = "") -> Iterator[Member]:
    try:
        with os.scandir(path / below) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(below or ".", path, error) from None
    for entry in entries:
        name = f"{below}{entry.name}"
        try:
            if entry.is_symlink() and not Path(entry.path).resolve(strict=True).is_relative_to(path.resolve()):
                raise LipscaleError(f"{name} in {path} is a link that leads out of it; allowed: files and folders")
            if entry.is_dir():
                yield Member(name + "/")
            elif entry.is_file():
                stat_of = entry.stat()
                if wanted(name):
                    bound.check(stat_of.st_size)
                content = Path(entry.path).read_bytes() if wanted(name) else b""
                yield Member(name, content, stat_of.st_size, stat_of.st_mtime_ns)
            descend = entry.is_dir(follow_symlinks=False)
        except (OSError, RuntimeError) as error:  # RuntimeError: a link to itself
            raise _unreadable(name, path, error) from None
        if descend:
            yield from _folder(path, bound, wanted, name + "/")


def _unreadable(name: str, path: Path, error: Exception) -> LipscaleError:
    return LipscaleError(f"{name} in {path} cannot be read ({one_line(error)})")


def _archive(path: Path, bound: Bound, wanted: Callable[[str], bool]) -> Iterator[Member]:
    name = path.name.lower()
    if not (name.endswith(ARCHIVES) and path.is_file()):
        raise LipscaleError(f"dataset.path {path} is no archive that can be read; allowed: {', '.join(ARCHIVES)}")
    try:
        yield from (_zip if name.endswith(".zip") else _tar)(path, bound, wanted)
    except LipscaleError:
        raise
    except Exception as error:  # damaged bytes make tarfile and zipfile raise whatever they happen to run into
        raise LipscaleError(f"the archive {path} is corrupt or cut off ({one_line(error)})") from None


class _Bounded:
    """A stream that refuses to give more bytes than a bound, headers included, and remembers how it ended."""

    def __init__(self, stream: BinaryIO, bound: Bound):
        self.stream, self.bound, self.tail = stream, bound, b""

    def read(self, size: int) -> bytes:
        data = self.stream.read(size)
        self.bound.spend(len(data))
        self.tail = (self.tail + data)[-2 * tarfile.BLOCKSIZE :]
        return data


def _tar(path: Path, bound: Bound, wanted: Callable[[str], bool]) -> Iterator[Member]:
    """Members of a tar archive, read to its very end, where gzip and xz keep their checksums and tar two empty blocks."""
    unpack = next(function for suffix, function in COMPRESSION.items() if path.name.lower().endswith(suffix))
    with unpack(path, "rb") as raw:
        stream = _Bounded(raw, bound)
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for entry in archive:
                archive.members = []  # which would otherwise keep every header
                _check_name(entry.name, path)
                if not (entry.isfile() or entry.isdir()) or entry.issparse():
                    raise _no_file(entry.name, path)
                if entry.isdir():
                    yield Member(entry.name + "/")
                else:
                    yield Member(entry.name, archive.extractfile(entry).read() if wanted(entry.name) else b"")
        while stream.read(2**20):
            pass
        if len(stream.tail) < 2 * tarfile.BLOCKSIZE or any(stream.tail):
            raise tarfile.ReadError("the two empty blocks at its end are missing")


def _zip(path: Path, bound: Bound, wanted: Callable[[str], bool]) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            _check_name(entry.filename, path)
            if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _no_file(entry.filename, path)
            if entry.flag_bits & 1:
                raise LipscaleError(f"{entry.filename} in {path} is encrypted; allowed: archives without a password")
            if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks others without bound
                raise LipscaleError(f"{entry.filename} in {path} is neither stored nor deflated; allowed: these two")
            bound.spend(entry.file_size)
            if entry.is_dir():
                yield Member(entry.filename)
            else:
                with archive.open(entry) as file:  # a header may lie about the size; what is read is bounded by it
                    yield Member(entry.filename, file.read(entry.file_size) if wanted(entry.filename) else b"")


def _no_file(name: str, path: Path) -> LipscaleError:
    return LipscaleError(f"{name} in {path} is a link or a device; allowed: files and folders")


def _check_name(name: str, path: Path) -> None:
    pure = PurePosixPath(name.replace("\\", "/"))
    if pure.is_absolute() or ".." in pure.parts or ":" in (pure.parts or ("",))[0]:
        raise LipscaleError(f"{name} in {path} leads out of the archive; allowed: relative names without ..")

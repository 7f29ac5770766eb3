"""Images in the files of a folder or archive: listed first, decoded when they are wanted, so that no split is in memory.

An archive is read twice: for the names, which say how images are sorted and split, and then for the images, in its order.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import PIL

from lipscale.data import archives, images
from lipscale.data.archives import Member
from lipscale.data.dataset import Split
from lipscale.errors import LipscaleError
from lipscale.progress import bar

CHUNK = 64  # images that a process decodes at a time

Position = tuple[str, str, str]  # folder around the splits, split, class


@dataclass(frozen=True)
class Reader:
    """Decodes images; small, so that it can be sent to other processes.

    Attributes:
        path: folder or archive.
        image_shape: (channels, side, side) of the decoded images.
        largest_unpacked_gib: what one image may unpack to.
    """

    path: Path
    image_shape: tuple[int, int, int]
    largest_unpacked_gib: float

    def decode(self, members: Sequence[Member]) -> np.ndarray:
        """uint8, (members, channels, side, side). The bytes of a folder's files are read here.

        Raises:
            LipscaleError: naming the image: it is corrupt or too large.
        """
        decoded = np.empty((len(members), *self.image_shape), np.uint8)
        for row, member in enumerate(members):
            decoded[row] = self._pixels(member)
        return decoded

    def _pixels(self, member: Member) -> np.ndarray:
        channels, side, _ = self.image_shape
        bound = archives.Bound(self.path, self.largest_unpacked_gib)
        content = archives.read(self.path, member.name, self.largest_unpacked_gib) if self.path.is_dir() else member.content
        try:
            return images.square(content, side, channels, bound.limit)
        except images.TooLarge:
            raise bound.exceeded() from None
        except Exception as error:  # damaged bytes make Pillow raise whatever its readers happen to run into
            said = archives.one_line(error)
            raise LipscaleError(f"image {member.name} in {self.path} is corrupt ({said})") from None


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """All images of a data set, numbered from 0 in the order of the data set.

    Attributes:
        reader: decodes them.
        names: of the files.
        places: of the files among all members of an archive, as one may hold a name twice.
        identity: checksum of what the images come from.
    """

    reader: Reader
    names: list[str]
    places: np.ndarray
    identity: str

    def chunks(self) -> Iterator[tuple[list[int], list[Member]]]:
        """Numbers of images and the files to decode, in the order in which they are read; each image once.

        Raises:
            LipscaleError: the archive has changed since it was listed, or is damaged.
        """
        if self.reader.path.is_dir():
            for first in range(0, len(self.names), CHUNK):
                names = self.names[first : first + CHUNK]
                yield list(range(first, first + len(names))), [Member(name) for name in names]
            return
        numbers, members, left = [], [], len(self.names)
        for number, member in self._archived():
            numbers.append(number)
            members.append(member)
            left -= 1
            if len(numbers) == CHUNK or not left:
                yield numbers, members
                numbers, members = [], []
        if left:
            raise LipscaleError(f"{self.reader.path} has changed while it was read; repeat the command")

    def _archived(self) -> Iterator[tuple[int, Member]]:
        left = iter(np.argsort(self.places).tolist())
        number = next(left, None)
        files = archives.members(self.reader.path, self.reader.largest_unpacked_gib, images.is_image)
        for place, member in enumerate(files):
            if number is not None and place == self.places[number] and self.names[number] == _plain(member.name):
                yield number, member
                number = next(left, None)


@dataclass(frozen=True, eq=False)
class FileImages:
    """Some of the images of `ImageFiles`, such as those of a split, as `Split` takes them; `numpy.asarray` decodes them all.

    Attributes:
        files: all images.
        numbers: which ones, and their order.
    """

    files: ImageFiles
    numbers: np.ndarray

    dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, chosen: np.ndarray | slice) -> "FileImages":
        return FileImages(self.files, self.numbers[chosen])

    @property
    def shape(self) -> tuple[int, ...]:
        """(images, channels, side, side)."""
        return (len(self.numbers), *self.files.reader.image_shape)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        array, row_of = np.empty(self.shape, np.uint8), {int(number): row for row, number in enumerate(self.numbers)}
        for numbers, members in self.files.chunks():
            chosen = [place for place, number in enumerate(numbers) if number in row_of]
            if chosen:
                rows = [row_of[numbers[place]] for place in chosen]
                array[rows] = self.files.reader.decode([members[place] for place in chosen])
        return array if dtype is None else array.astype(dtype)


@dataclass(frozen=True, eq=False)
class Listing:
    """What a folder or archive holds, before anything is decoded.

    Attributes:
        reader: of its images.
        found: by (split, class) the images, name -> place among all members; classes without images too.
        texts: the content of other files that were wanted, by name.
        sha256: of an archive; None of a folder.
        identity: checksum of what the images come from.
    """

    reader: Reader
    found: dict[tuple[str, str], dict[str, int]]
    texts: dict[str, bytes]
    sha256: str | None
    identity: str

    def splits(self, classes: Sequence[str], splits: Sequence[str]) -> list[Split]:
        """The images of some splits, each by class, then by name.

        Raises:
            LipscaleError: decoded, they exceed the bound.
        """
        order = [sorted(self.found[split, name].items()) for split in splits for name in classes]
        names, places = [name for part in order for name, _ in part], [place for part in order for _, place in part]
        decoded = archives.Bound(self.reader.path, self.reader.largest_unpacked_gib)
        decoded.check(len(names) * int(np.prod(self.reader.image_shape)))
        files, made, first = ImageFiles(self.reader, names, np.array(places), self.identity), [], 0
        for split in splits:
            counts = [len(self.found[split, name]) for name in classes]
            last = first + sum(counts)
            labels = np.repeat(np.arange(len(classes), dtype=np.int64), counts)
            made.append(Split(FileImages(files, np.arange(first, last)), labels))
            first = last
        return made


def list_images(
    reader: Reader, position: Callable[[str], Position | None], text: Callable[[str], bool] = lambda name: False
) -> Listing:
    """All images below the folder, or in the archive, of `reader`.

    Args:
        position: of a file or class folder (its name ends with a slash) among folder around the splits, split and class; None
            for what is passed over. Hidden files and __MACOSX are not asked for.
        text: whether a file of this name is read, for `Listing.texts`.

    Raises:
        LipscaleError: in one sentence, naming the file: nothing there, or an unsafe, damaged or too large archive.
    """
    path, found, texts, roots = reader.path, {}, {}, set()
    in_folder, digest = os.path.isdir(path), hashlib.sha256(repr((reader.image_shape, PIL.__version__)).encode())
    with bar(archives.members(path, reader.largest_unpacked_gib, text), name=path.name, unit="file") as progress:
        for place, member in enumerate(progress):
            name = _plain(member.name)
            if any(part.startswith(".") or part == "__MACOSX" for part in name.split("/")):
                continue
            if text(name):
                texts[name] = member.content
            there = position(name + "/" * member.name.endswith("/"))
            if there is None:
                continue
            root, split, class_name = there
            roots.add(root)
            names = found.setdefault((split, class_name), {})
            if images.is_image(member.name):
                names[name] = place
                if in_folder:
                    archives.Bound(path, reader.largest_unpacked_gib).check(member.size)
                digest.update(f"{member.name!r} {member.size} {member.modified} ".encode())
    if len(roots) > 1:
        raise LipscaleError(
            f"{path} holds several image folders, {', '.join(sorted(roots))}; allowed: one train/ and one test/"
        )
    sha256 = archives.sha256(path)
    digest.update(str(sha256).encode())
    return Listing(reader, found, texts, sha256, digest.hexdigest())


def _plain(name: str) -> str:
    """The name of a member without `.` and doubled slashes: an archive may hold one file as `a` and `./a`."""
    return PurePosixPath(name).as_posix()

"""Images in files -> .npy files, decoded by several processes, chunk by chunk; what was decoded before a kill is kept.

Beside the unfinished arrays lies a record: the identity of the images, then the number and CRC of each chunk that was written.
"""

import hashlib
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from threading import Thread

import numpy as np
from tqdm import tqdm

from lipscale.data.archives import Member
from lipscale.data.image_files import CHUNK, FileImages, ImageFiles, Reader
from lipscale.errors import LipscaleError
from lipscale.progress import bar
from lipscale.store import files

RECORD = ".partial-chunks"
AHEAD = 2  # chunks per process that wait to be decoded: enough that none is idle


Chunk = tuple[int, list[int], list[Member]]  # its number, the numbers of its images, their files


@dataclass(frozen=True)
class Target:
    """Where each image is written to.

    Attributes:
        paths: of the unfinished arrays.
        array_of, row_of: number of an image -> which of them, and its row there; -1 for an image that is not wanted.
    """

    paths: Sequence[Path]
    array_of: np.ndarray
    row_of: np.ndarray

    def rows(self, numbers: Sequence[int]) -> Iterator[tuple[Path, np.ndarray, np.ndarray]]:
        """For each array, which of the images of a chunk belong there, and their rows."""
        arrays, rows = self.array_of[numbers], self.row_of[numbers]
        for array in np.unique(arrays[arrays >= 0]):
            yield self.paths[array], np.flatnonzero(arrays == array), rows[arrays == array]


def decode_into(images: Mapping[Path, FileImages], jobs: int) -> None:
    """Decode images of one source into the unfinished array of each path (`files.unfinished`), or resume that.

    Args:
        images: by the path of the array, all in one folder.
        jobs: processes at once.

    Raises:
        LipscaleError: an image is damaged, a process was killed, or the disk is full.
    """
    folder, source = next(iter(images)).parent, next(iter(images.values())).files
    target = _target(images, len(source.names))
    with _cannot_be_written(folder):
        folder.mkdir(parents=True, exist_ok=True)
        identity = _identity(images, source)
        done = _recorded(folder / RECORD, identity, target.paths)
        if not done:
            for path, part in images.items():
                _create(files.unfinished(path), part.shape)
            (folder / RECORD).write_text(identity + "\n", encoding="ascii")
        with (folder / RECORD).open("a", encoding="ascii", buffering=1) as record:
            for number, crc in _decode(source, target, done, jobs):
                record.write(f"{number} {crc}\n")


def forget(folder: Path) -> None:
    """Remove the record once all arrays have their names."""
    (folder / RECORD).unlink(missing_ok=True)


def _decode(source: ImageFiles, target: Target, done: Mapping[int, int], jobs: int) -> Iterator[tuple[int, int]]:
    """Number and CRC of each chunk that was written now."""
    total = len(source.names)
    jobs = max(1, min(jobs, total // CHUNK))
    with bar(name="images", total=total, unit="image") as progress:
        if done:
            progress.write(f"{len(done)} chunks of {CHUNK} images were decoded before; the others follow")
        chunks = _left(source, target, done, progress)
        if jobs == 1:
            for number, numbers, members in chunks:
                yield number, _write(source.reader, target, numbers, members)
                progress.update(len(numbers))
            return
        pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=_start, initargs=(source.reader, target))
        try:
            yield from _in_processes(pool, chunks, jobs * AHEAD, progress)
        except BrokenProcessPool:
            raise LipscaleError("a process that decoded images was killed; give it more memory, or lower --jobs") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _left(source: ImageFiles, target: Target, done: Mapping[int, int], progress: tqdm) -> Iterator[Chunk]:
    """The chunks that were not written, or whose rows are not those that were."""
    for number, (numbers, members) in enumerate(source.chunks()):
        if number in done and _crc(target, numbers) == done[number]:
            progress.update(len(numbers))
        else:
            yield number, numbers, members


def _in_processes(
    pool: ProcessPoolExecutor, chunks: Iterator[Chunk], at_once: int, progress: tqdm
) -> Iterator[tuple[int, int]]:
    waiting: dict[Future, tuple[int, int]] = {}

    def finished() -> Iterator[tuple[int, int]]:
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            number, count = waiting.pop(future)
            progress.update(count)
            yield number, future.result()

    for number, numbers, members in chunks:
        waiting[pool.submit(_work, numbers, members)] = number, len(numbers)
        if len(waiting) >= at_once:
            yield from finished()
    while waiting:
        yield from finished()


_given: tuple[Reader, Target]  # of a process of the pool


def _start(reader: Reader, target: Target) -> None:
    global _given
    _given = reader, target
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A process that was killed cannot end those that it started, which would wait for work for ever."""
    wait_for([parent_process().sentinel])
    os._exit(1)


def _work(numbers: list[int], members: list[Member]) -> int:
    return _write(*_given, numbers, members)


def _write(reader: Reader, target: Target, numbers: Sequence[int], members: Sequence[Member]) -> int:
    """Decode a chunk and write it; returns the CRC of its rows."""
    pixels, crc = reader.decode(members), 0
    for path, chosen, rows in target.rows(numbers):
        array = np.load(path, mmap_mode="r+", allow_pickle=False)
        array[rows] = part = pixels[chosen]
        crc = zlib.crc32(part, crc)
    return crc


def _crc(target: Target, numbers: Sequence[int]) -> int:
    crc = 0
    for path, _, rows in target.rows(numbers):
        crc = zlib.crc32(np.load(path, mmap_mode="r", allow_pickle=False)[rows], crc)
    return crc


def _target(images: Mapping[Path, FileImages], total: int) -> Target:
    array_of, row_of = np.full(total, -1, dtype=np.int16), np.zeros(total, dtype=np.int64)
    for number, part in enumerate(images.values()):
        array_of[part.numbers], row_of[part.numbers] = number, np.arange(len(part))
    return Target([files.unfinished(path) for path in images], array_of, row_of)


def _identity(images: Mapping[Path, FileImages], source: ImageFiles) -> str:
    digest = hashlib.sha256(f"{source.identity} {CHUNK}".encode())
    for path, part in images.items():
        digest.update(f" {path.name} {part.shape} ".encode())
        digest.update(part.numbers.astype(np.int64).tobytes())
    return digest.hexdigest()


def _recorded(record: Path, identity: str, paths: Sequence[Path]) -> dict[int, int]:
    """CRC by number of the chunks that were written for the same images; none if there is no such record."""
    if not record.exists():
        return {}
    first, *lines = record.read_text(encoding="ascii", errors="replace").split("\n")
    if first != identity or not all(path.exists() for path in paths):
        print(f"{record.parent} holds unfinished arrays of other images; this step starts from the beginning", flush=True)
        return {}
    whole = (line.split() for line in lines[:-1])  # the last line is empty, or was cut off
    return {int(line[0]): int(line[1]) for line in whole if len(line) == 2 and all(map(str.isdecimal, line))}


def _create(path: Path, shape: tuple[int, ...]) -> None:
    """An array on the disk, with room for all of it: a full disk would otherwise kill the process that writes there."""
    path.unlink(missing_ok=True)
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    size = array.offset + array.nbytes
    del array
    if hasattr(os, "posix_fallocate"):  # macOS has none
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, size)


@contextmanager
def _cannot_be_written(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise LipscaleError(f"{folder} cannot be written: {files.explain(error.errno)}") from None

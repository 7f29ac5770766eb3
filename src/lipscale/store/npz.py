"""The checksum that an .npz file of some arrays has, without writing it.

Prepared data were once such a file, `arrays.npz`. Its checksum is the identity of prepared data: in the manifest, in the
provenance of runs and in published results. With it, arrays in files of their own are known to be the same data.
"""

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

BLOCK = 2**20


def npz_sha256(arrays: Mapping[str, Path]) -> str:
    """SHA-256 of what `numpy.savez` writes for arrays, by name, each from its .npy file, which is read twice.

    A first pass finds the CRC of each array, which is part of the headers, the second one the checksum of headers and arrays.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, path in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                for block in _blocks(path):
                    sink.of_array = True
                    member.write(block)
                    sink.of_array = False
    digest, position = hashlib.sha256(), 0
    for start, path in zip(sink.arrays, arrays.values(), strict=True):
        digest.update(sink.between(position, start))
        position = start
        for block in _blocks(path):
            digest.update(block)
            position += len(block)
    digest.update(sink.between(position, sink.end))
    return digest.hexdigest()


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield block


class _Sink:
    """A file that can be written only. It keeps what is written but the content of arrays, whose starts it remembers."""

    def __init__(self):
        self.position = self.end = 0
        self.kept: dict[int, bytes] = {}
        self.arrays: list[int] = []
        self.of_array = self._within = False

    def write(self, data: bytes) -> int:
        if not self.of_array:
            self.kept[self.position] = bytes(data)
            self._within = False
        elif not self._within:
            self.arrays.append(self.position)
            self._within = True
        self.position += len(data)
        self.end = max(self.end, self.position)
        return len(data)

    def tell(self) -> int:
        return self.position

    def seek(self, position: int, whence: int = 0) -> int:
        self.position = position
        return position

    def flush(self) -> None:
        """As files have it."""

    def between(self, start: int, end: int) -> bytes:
        """What was written from `start` to `end`, where no array is; what was written over is gone."""
        parts = [data for position, data in sorted(self.kept.items()) if start <= position < end]
        return b"".join(parts)

"""Files that are written whole or not at all, and their checksums."""

import csv
import errno
import hashlib
import json
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from lipscale.errors import LipscaleError

if TYPE_CHECKING:
    import pandas as pd

ADVICE = {
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there",
    errno.EROFS: "allowed: a folder that can be written to",
    errno.EACCES: "allowed: a folder that you may write to",
    errno.EPERM: "allowed: a folder that you may write to",
}


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; move it to `path` if the block ends well, else remove it.

    A process that is killed leaves `path` as it was, and a temporary file that the next attempt overwrites. The content is on
    the disk before it gets its name, so that neither does a power loss leave a file that is not whole.

    Raises:
        LipscaleError: the file cannot be written, as the disk is full, for example.
    """
    path = Path(path)
    temporary = unfinished(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _synchronise(temporary)
            temporary.replace(path)
            with suppress(OSError):  # some file systems cannot do this with a folder
                _synchronise(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except Exception as error:
        number = _system_error(error)
        if number is None:
            raise
        raise LipscaleError(f"{path} cannot be written: {explain(number)}; the old file is untouched") from None


def unfinished(path: Path) -> Path:
    """Where a file is until all of it is written. Raises LipscaleError where the path is that of no file, such as `.`."""
    if not path.name:
        raise LipscaleError(f"{str(path)!r} names no file; allowed: the path of a file")
    return path.with_name(f".partial-{path.name}")


def _synchronise(path: Path) -> None:
    """Wait until a file or the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _system_error(error: BaseException | None) -> int | None:
    """The number of the system's error behind another one: matplotlib stumbles over a second while it handles the first."""
    while error is not None:
        if isinstance(error, OSError):
            return error.errno
        error = error.__context__
    return None


def explain(number: int) -> str:
    """A system's error in words, and what to do about it."""
    return f"{os.strerror(number)}; {ADVICE[number]}" if number in ADVICE else os.strerror(number)


def write_text(path: str | Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, content: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: str | Path, value: object) -> None:
    """JSON without NaN or infinity, which are not JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> dict:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_yaml(path: str | Path) -> object:
    """YAML from a file, or from standard input for `-`. Raises LipscaleError where it cannot be read."""
    try:
        return yaml.safe_load(sys.stdin.read() if str(path) == "-" else Path(path).read_text(encoding="utf-8"))
    except Exception as error:  # PyYAML lets through whatever its constructors raise: of the date 2000-13-01, for one
        raise LipscaleError(f"the settings {path} cannot be read: {' '.join(str(error).split())}") from None


def write_rows(path: str | Path, columns: Sequence[str], rows: Iterable[Mapping]) -> None:
    """A CSV file; floats keep all their digits."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_table(table: "pd.DataFrame", path: str | Path) -> None:
    """A pandas table as a CSV file without its index; floats keep all their digits. Where the name ends in .gz, by gzip.

    The same table gives the same bytes.
    """
    compression = {"method": "gzip", "mtime": 0} if Path(path).suffix == ".gz" else None
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, compression=compression)


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, which cannot hold code. Raises LipscaleError where it cannot be read, whole."""
    try:
        if Path(path).is_file() and not zipfile.is_zipfile(path):
            raise ValueError("it is no whole .npz file")
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # broken bytes make numpy raise whatever its readers happen to run into
        raise LipscaleError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def read_array(path: str | Path, mapped: bool = False) -> np.ndarray:
    """The array of an .npy file, which cannot hold code; memory-mapped, read-only, or in memory.

    Raises:
        LipscaleError: it cannot be read, whole.
    """
    try:
        array = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("it is no .npy file")
    except Exception as error:  # broken bytes make numpy raise whatever its readers happen to run into
        raise LipscaleError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    return array


def sha256(path: str | Path) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Locks that keep two processes from writing the same files. The kernel drops a lock when its process ends, however it ends.

The locks of a folder lie in a hidden folder beside it. They are never removed: a process could then hold the lock of a file
that has lost its name, while another one locks the file that has got it.
"""

import contextlib
import errno
import fcntl
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from lipscale.errors import LipscaleError

UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL)  # by file systems without locks


@contextlib.contextmanager
def writing(verb: str, folders: Iterable[Path]) -> Iterator[None]:
    """Hold the locks of the files that a verb writes into folders; where another process holds one, say so and wait.

    Each verb has its own, as calibration and attack of a run write different files at the same time. They are taken in sorted
    order, so that no two processes wait for each other. A file system without locks goes without.
    """
    with contextlib.ExitStack() as stack:
        for folder in sorted({folder.resolve() for folder in folders}):
            file = stack.enter_context(_open(folder, f".{verb}"))
            if _lock(file) is False:
                print(f"waiting for {_holder(file)}, which is still writing {folder}", flush=True)
                fcntl.flock(file, fcntl.LOCK_EX)
            _sign(file)
        yield


def hold_experiment(results: Path, snakemake_locks: Path) -> BinaryIO:
    """Lock an experiment until the returned file is closed, and remove the locks of a Snakemake that was killed.

    Snakemake's own locks are files, which outlive it. They are left alone where nobody can tell whether it lives: where it
    was on another host, or where the file system has no locks.

    Args:
        results: results/<experiment>, as the workflow writes it.
        snakemake_locks: .snakemake/locks.

    Raises:
        LipscaleError: another process holds the lock.
    """
    file = _open(results)
    locked = _lock(file)
    if locked is False:
        raise LipscaleError(
            f"the experiment {results.name} is already being made, by {_holder(file)}; wait until it ends, or stop it first"
        )
    left = []
    for path in snakemake_locks.glob("*.lock"):
        with contextlib.suppress(FileNotFoundError):  # of another experiment, which has just ended
            if f"{results}/".encode() in path.read_bytes():
                left.append(path)
    if left and not (locked and _signature(file)[1:] == [platform.node()]):
        return file
    for path in left:
        path.unlink(missing_ok=True)
    if left:
        print(f"the Snakemake that made {results} was killed; its lock on the folder is removed", file=sys.stderr, flush=True)
    _sign(file)
    return file


def _open(folder: Path, suffix: str = "") -> BinaryIO:
    path = folder.parent / ".locks" / f"{folder.name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("ab+", buffering=0)


def _lock(file: BinaryIO) -> bool | None:
    """Whether this process has the lock now; None if the file system has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return None
    return True


def _sign(file: BinaryIO) -> None:
    with contextlib.suppress(OSError):  # on a full disk; an unsigned lock is a lock
        file.truncate(0)
        file.write(f"{os.getpid()} {platform.node()}".encode())


def _signature(file: BinaryIO) -> list[str]:
    """Process id and host of who locked the file last, or less if it could not be written."""
    file.seek(0)
    return file.read().decode(errors="replace").split()


def _holder(file: BinaryIO) -> str:
    number, host = (*_signature(file), "?", "?")[:2]
    return f"process {number}" + (f" on {host}" if host != platform.node() else "")

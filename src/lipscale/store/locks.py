"""Locks that keep two processes from writing the same files. The kernel releases them when a process ends, however it ends.

The locks of a folder lie in the hidden folder `.locks` beside it. Snakemake has locks of its own, which are left alone.
"""

import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def writing(step: str, folders: Iterable[Path]) -> Iterator[None]:
    """Hold the locks of the files that a step writes into folders; if another process holds one, say so and wait.

    Each step has its own lock, as evaluation and falsification of a run write different files at the same time. Locks are taken
    in sorted order, so that no two processes wait for each other. A file system without locks is used without.
    """
    with ExitStack() as stack:
        for folder in sorted({folder.resolve() for folder in folders}):
            path = folder.parent / ".locks" / f"{folder.name}.{step}"
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(NotImplementedError):  # raised by filelock where the file system has no locks
                stack.enter_context(_acquired(path, folder))
        yield


@contextmanager
def _acquired(path: Path, folder: Path) -> Iterator[None]:
    lock, holder = FileLock(path), path.with_name(f"{path.name}.holder")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for {_read_holder(holder)}, which is still writing {folder}", flush=True)
        lock.acquire()
    with suppress(OSError):  # on a full disk; a lock without a name is a lock
        holder.write_text(f"{os.getpid()} {platform.node()}", encoding="utf-8")
    try:
        yield
    finally:
        lock.release()


def _read_holder(path: Path) -> str:
    """The process that wrote its name last, in words."""
    with suppress(OSError, ValueError):
        number, host = path.read_text(encoding="utf-8", errors="replace").split(maxsplit=1)
        return f"process {number}" + (f" on {host}" if host != platform.node() else "")
    return "another process"

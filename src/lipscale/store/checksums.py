"""Seals: what a file of the results was when it was written, and which files it was made from.

Beside a file lies `.seals/<name>.json` with its SHA-256 sum and those of the files that it was made from. Whoever reads the
file checks both, so that one that was cut off, altered, or made from something else is named instead of read. That guards
against accidents and mix-ups, not against somebody who rewrites the seals as well.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from lipscale.errors import LipscaleError
from lipscale.store import files

FORMAT = 1  # of the files under results/<experiment>/; to be raised when their meaning changes


def seal(path: Path, made_from: Sequence[Path] = ()) -> None:
    """Record what `path` is now. `made_from` are sealed files; they are kept relative to the folder of `path`."""
    sources = {_relative(source, path): _read(source)["sha256"] for source in made_from}
    files.write_json(_place(path), {"format": FORMAT, "sha256": files.sha256(path), "made_from": sources})


def checked(path: Path) -> Path:
    """`path`, if it is what was written there, from files that are still the same.

    Raises:
        LipscaleError: it is missing, altered, cut off, of another version, or made from other files than those there are.
    """
    if not path.exists():
        raise LipscaleError(f"{path} is missing; the workflow makes it")
    record = _read(path)
    if record["sha256"] != files.sha256(path):
        raise LipscaleError(f"{path} is not what was written there (its checksum differs); remove it, and it is made anew")
    for name, sha256 in record["made_from"].items():
        if _read(path.parent / name)["sha256"] != sha256:
            raise LipscaleError(f"{path} was made from another {name} than the one there is; remove it, and it is made anew")
    return path


def _read(path: Path) -> dict:
    try:
        record = files.read_json(_place(path))
        version, sha256, sources = record["format"], record["sha256"], record["made_from"]
        if not (isinstance(sha256, str) and isinstance(sources, dict)):
            raise TypeError
    except (OSError, ValueError, LookupError, TypeError):
        raise LipscaleError(f"{path} has no seal that says whether it is whole; remove it, and it is made anew") from None
    if version != FORMAT:
        raise LipscaleError(
            f"{path} is of version {version!r} of the results, and this lipscale reads version {FORMAT}; "
            "allowed: another experiment name, or the lipscale that made it"
        )
    return record


def _place(path: Path) -> Path:
    return path.parent / ".seals" / f"{path.name}.json"


def _relative(source: Path, path: Path) -> str:
    return Path(os.path.relpath(source.resolve(), path.parent.resolve())).as_posix()


record = seal  # the coming name

"""Checksums: what a file of the results was when it was written, and which files it was made from.

Beside a file lies `.checksums/<name>.json` with its SHA-256 and those of the files it was made from. A reader compares both,
so a file that was cut off, altered or made from something else is named instead of read. This guards against accidents, not
against somebody who rewrites the checksums as well.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from lipscale.errors import LipscaleError
from lipscale.store import files

FORMAT = 2  # of the files under results/<experiment>/; raise it when their meaning changes
FOLDER = ".checksums"


def record(path: Path, made_from: Sequence[Path] = ()) -> None:
    """Record the checksum of `path`, and those of the recorded files that it was made from."""
    sources = {_relative(source, path): _read(source)["sha256"] for source in made_from}
    files.write_json(_record_path(path), {"format": FORMAT, "sha256": files.sha256(path), "made_from": sources})


def check_unrecorded(path: Path) -> None:
    """Raises LipscaleError where `path` has a checksum, which writing it would make wrong."""
    if _record_path(path).exists():
        raise LipscaleError(f"{path} belongs to the results of an experiment (it has a checksum); allowed: another output path")


def checked(path: Path) -> Path:
    """`path`, if its content is what was recorded, and the records of its sources are still those that it was made from.

    Of the sources only the records are compared: whoever reads a source checks its content.

    Raises:
        LipscaleError: it is missing, altered, cut off, of another format, or made from other files than those that exist.
    """
    if not path.exists():
        raise LipscaleError(f"{path} is missing; run the workflow to create it")
    recorded = _read(path)
    if recorded["sha256"] != files.sha256(path):
        raise LipscaleError(f"{path} was altered after it was written (its checksum differs); delete it and rerun the workflow")
    for name, sha256 in recorded["made_from"].items():
        if _read(path.parent / name)["sha256"] != sha256:
            raise LipscaleError(f"{path} was made from another version of {name}; delete it and rerun the workflow")
    return path


def _read(path: Path) -> dict:
    try:
        recorded = files.read_json(_record_path(path))
        version, sha256, sources = recorded["format"], recorded["sha256"], recorded["made_from"]
        if not (isinstance(sha256, str) and isinstance(sources, dict)):
            raise TypeError
    except (OSError, ValueError, LookupError, TypeError):
        raise LipscaleError(f"{path} has no checksum, so it may be incomplete; delete it and rerun the workflow") from None
    if version != FORMAT:
        raise LipscaleError(
            f"{path} has format {version!r}, and this lipscale reads format {FORMAT}; "
            "allowed: another experiment name, or the lipscale that wrote it"
        )
    return recorded


def _record_path(path: Path) -> Path:
    return path.parent / FOLDER / f"{path.name}.json"


def _relative(source: Path, path: Path) -> str:
    return Path(os.path.relpath(source.resolve(), path.parent.resolve())).as_posix()

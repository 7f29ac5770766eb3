"""States of work that can be resumed: the checkpoint of a training, the verdicts of an attack that has not ended.

A state is one file, so that its checksum and its content can never be of different moments: a line of JSON with the SHA-256
of the content and the identity of the work, then the content.
"""

import hashlib
import json
from pathlib import Path

from lipscale.store import files


def save(path: Path, identity: object, content: bytes) -> None:
    """Replace the state at `path`.

    Args:
        identity: JSON value; what the work is about, for example a hash of settings and data.
        content: the state itself.
    """
    header = {"sha256": hashlib.sha256(content).hexdigest(), "identity": identity}
    with files.atomic(path) as temporary, temporary.open("wb") as file:
        file.write(json.dumps(header).encode() + b"\n")
        file.write(content)


def load(path: Path, identity: object) -> bytes | None:
    """The content of the state at `path`; None if there is none, or if it is damaged or of other work, which is printed.

    Raises:
        OSError, MemoryError: the file cannot be read now; it is left for the next attempt.
    """
    if not path.exists():
        return None
    line, _, content = path.read_bytes().partition(b"\n")
    try:
        header = json.loads(line)
        whole = header["sha256"] == hashlib.sha256(content).hexdigest()
        same = header["identity"] == json.loads(json.dumps(identity))
    except (ValueError, LookupError, TypeError):
        whole = same = False
    if whole and same:
        return content
    reason = "is from other settings or data" if whole else "is damaged (its checksum differs)"
    print(f"{path} {reason}; this step starts from the beginning", flush=True)
    return None

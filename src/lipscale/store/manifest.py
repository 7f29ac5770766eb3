"""What is known of a prepared data set, without its images."""

from pathlib import Path

from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.store.checksums import checked

MANIFEST = "manifest.json"


def read_manifest(folder: Path) -> dict:
    """The manifest. Raises LipscaleError where the folder holds no prepared data set."""
    try:
        manifest = files.read_json(checked(folder / MANIFEST))
    except (OSError, ValueError, RecursionError) as error:
        raise LipscaleError(f"{folder} holds no prepared data set: {error}") from None
    if not isinstance(manifest, dict) or not isinstance(manifest.get("arrays_sha256"), str):
        raise LipscaleError(f"{folder}/{MANIFEST} has no arrays_sha256; allowed: a manifest that `prepare` wrote")
    return manifest

"""Tiny ImageNet as it is distributed: wnids.txt, train/<wnid>/images/, val/images/ and val/val_annotations.txt."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lipscale.data.sources import _files
from lipscale.errors import LipscaleError
from lipscale.settings import AsInteger

if TYPE_CHECKING:
    from lipscale.data.image_files import Listing, Position
    from lipscale.data.source import Source

WNIDS, ANNOTATIONS = "wnids.txt", "val/val_annotations.txt"


class Settings(_files.FileSettings):
    """Tiny ImageNet: 200 classes, 64x64 pixels, colour. Its validation images are the test split; its own have no labels."""

    name: Literal["tiny_imagenet"] = Field(description="Tiny ImageNet, as its archive has it")
    image_size: Annotated[int, Field(ge=1, le=1024), AsInteger] = Field(
        64, description="side of the square that images are brought to, pixels; 64: as they are"
    )


def load(settings: Settings) -> "Source":
    """The training images, and those of val/ as the test split. The classes are those of wnids.txt, sorted.

    Raises:
        LipscaleError: in one sentence, naming the file or class: what a folder or archive may lack, see
            `lipscale.data.image_files`; no wnids.txt or val_annotations.txt, or an image of val/ that has no line there.
    """
    from lipscale.data.image_files import Reader, list_images

    path = Path(settings.path)
    reader = Reader(path, settings.image_shape(), settings.largest_unpacked_gib)
    listing = list_images(reader, position, lambda name: name.endswith((WNIDS, ANNOTATIONS)))
    classes = sorted(set(_text(listing, WNIDS, path).split()))
    _sort_by_class(listing, path)
    return _files.to_source(listing, classes, settings, test="val")


def position(name: str) -> "Position | None":
    """(folder around train and val, split, class) of a file; images of val/ have the class "" at first."""
    parts = PurePosixPath(name).parts
    for start in range(min(2, len(parts))):
        root, (split, *below) = "/".join(parts[:start]) or ".", parts[start:]
        if split == "train" and len(below) == 3 and below[1] == "images":
            return root, "train", below[0]
        if split == "val" and len(below) == 2 and below[0] == "images":
            return root, "test", ""
    return None


def _text(listing: "Listing", wanted: str, path: Path) -> str:
    """The content of a file beside train/, wherever that is."""
    found = [text for name, text in listing.texts.items() if name == wanted or name.endswith(f"/{wanted}")]
    if len(found) != 1:
        raise LipscaleError(f"{path} holds {len(found)} files {wanted}; allowed: one, as the archive of Tiny ImageNet has it")
    return found[0].decode("utf-8", "replace")


def _sort_by_class(listing: "Listing", path: Path) -> None:
    """Move the images of val/ to the class that val_annotations.txt names: file, class and a box in each line."""
    lines = (line.split("\t") for line in _text(listing, ANNOTATIONS, path).splitlines())
    class_of = {line[0]: line[1] for line in lines if len(line) > 1}
    for name, place in listing.found.pop(("test", ""), {}).items():
        file = PurePosixPath(name).name
        if file not in class_of:
            raise LipscaleError(f"{name} in {path} has no line in {ANNOTATIONS}; allowed: a line with its class for each image")
        listing.found.setdefault(("test", class_of[file]), {})[name] = place

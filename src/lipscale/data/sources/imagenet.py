"""ImageNet (ILSVRC 2012): train/<synset>/, and val/<synset>/ or val/ with the images themselves and meta.bin."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lipscale.data.sources import _files
from lipscale.errors import LipscaleError
from lipscale.settings import Positive

if TYPE_CHECKING:
    from lipscale.data.image_files import Listing, Position
    from lipscale.data.source import Source

META = "meta.bin"


class Settings(_files.FileSettings):
    """ImageNet (ILSVRC 2012): 1,000 classes, colour. Its validation images are the test split; its own have no labels."""

    name: Literal["imagenet"] = Field(description="ImageNet (ILSVRC 2012), as torchvision has it")
    largest_unpacked_gib: Positive = Field(400, description="images or an archive that unpack to more are refused, GiB")


def load(settings: Settings) -> "Source":
    """The training images, and those of val/ as the test split. The classes are the folders of train/, sorted.

    Where val/ holds images instead of folders, `meta.bin` beside it gives their classes: torchvision's ImageNet writes it, a
    dictionary of names and the list of the classes of the images of val/, in the order of their names.

    Raises:
        LipscaleError: in one sentence, naming the file or class: what a folder or archive may lack, see
            `lipscale.data.image_files`; or a flat val/ without such a meta.bin.
    """
    from lipscale.data.image_files import Reader, list_images

    path = Path(settings.path)
    reader = Reader(path, settings.image_shape(), settings.largest_unpacked_gib)
    listing = list_images(reader, position, lambda name: PurePosixPath(name).name == META)
    _sort_by_class(listing, path)
    classes = sorted(name for split, name in listing.found if split == "train")
    return _files.to_source(listing, classes, settings, test="val")


def position(name: str) -> "Position | None":
    """(folder around train and val, split, class) of a file; images of a flat val/ have the class "" at first."""
    parts = PurePosixPath(name).parts
    for start in range(min(2, len(parts))):
        root, (split, *below) = "/".join(parts[:start]) or ".", parts[start:]
        if split in ("train", "val") and len(below) == 2:
            return root, "train" if split == "train" else "test", below[0]
        if split == "val" and len(below) == 1 and not name.endswith("/"):
            return root, "test", ""
    return None


def _sort_by_class(listing: "Listing", path: Path) -> None:
    """Move the images of a flat val/ to the class that meta.bin gives."""
    flat = sorted(listing.found.pop(("test", ""), {}).items())
    if not flat:
        return
    if len(listing.texts) != 1:
        raise LipscaleError(
            f"{path} holds images in val/ itself and {len(listing.texts)} files {META}; allowed: folders of images in val/, "
            f"or one {META} that torchvision wrote"
        )
    synsets = _synsets(next(iter(listing.texts.values())), path)
    if len(synsets) != len(flat):
        raise LipscaleError(
            f"{path} holds {len(flat)} images in val/, and {META} the classes of {len(synsets)}; allowed: as many"
        )
    for (name, place), synset in zip(flat, synsets, strict=True):
        listing.found.setdefault(("test", synset), {})[name] = place


def _synsets(content: bytes, path: Path) -> list[str]:
    """The classes of the validation images in a meta.bin, which is read without running code that it may hold."""
    import io

    import torch

    try:
        _, synsets = torch.load(io.BytesIO(content), weights_only=True)
        if not (isinstance(synsets, list) and all(isinstance(name, str) for name in synsets)):
            raise TypeError("no list of classes")
    except Exception as error:  # damaged bytes make torch raise whatever its readers run into
        said = " ".join(str(error).split())
        raise LipscaleError(f"{META} in {path} cannot be read ({said}); allowed: the file that torchvision writes") from None
    return synsets

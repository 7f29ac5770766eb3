"""Any folder or archive of images: train/<class>/<image> and test/<class>/<image>."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from lipscale.errors import LipscaleError
from lipscale.settings import AsInteger, PathText, Positive, SourceSettings

if TYPE_CHECKING:
    from lipscale.data.image_files import Listing, Position
    from lipscale.data.source import Source

SPLITS = ("train", "test")


class Settings(SourceSettings):
    """Your own images, a folder or an archive of them."""

    image_files: ClassVar[bool] = True

    name: Literal["imagefolder"] = Field(description="your own images")
    path: PathText = Field(
        description="folder or .tar, .tar.gz, .tar.xz or .zip archive of train/<class>/<image> and test/<class>/<image>; "
        "images are turned upright as their EXIF data say, transparency is composited over white"
    )
    image_size: Annotated[int, Field(ge=1, le=1024), AsInteger] = Field(
        32, description="side of the square that images are brought to, pixels"
    )
    channels: Annotated[Literal[1, 3], AsInteger] = Field(3, description="1: grey, 3: colour")
    largest_unpacked_gib: Positive = Field(4, description="images or an archive that unpack to more are refused, GiB")

    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the prepared images."""
        return (self.channels, self.image_size, self.image_size)


def load(settings: Settings) -> "Source":
    """All images below `settings.path`; `lipscale.data.images.square` says how each is read.

    The classes are the folders in train/. A folder around train/ and test/ is seen through; hidden files and __MACOSX are
    passed over.

    Raises:
        LipscaleError: in one sentence, naming the file or class: no such folder or archive, an unsafe, damaged or too large
            archive, a damaged image, a class without training or test images.
    """
    from lipscale.data.image_files import Reader, list_images
    from lipscale.data.source import Source

    path = Path(settings.path)
    listing = list_images(Reader(path, settings.image_shape(), settings.largest_unpacked_gib), position)
    classes = sorted(class_name for split, class_name in listing.found if split == "train")
    check_classes(listing.found, classes, path)
    return Source(classes, *listing.splits(classes, SPLITS), origin(listing, settings), "by class, then by file name")


def origin(listing: "Listing", settings: SourceSettings) -> dict:
    """Where the images come from and how each is read, for the manifest."""
    return {
        "path": Path(settings.path).name,
        "sha256": listing.sha256,
        "image_size": settings.image_size,
        "resampling": "bicubic, shorter side, centre crop",
        "orientation": "upright, as EXIF data say",
        "transparency": "composited over white",
    }


def position(name: str) -> "Position | None":
    """(folder around train and test, split, class) of a file or a class folder; None for what is not below a class."""
    parts = PurePosixPath(name).parts
    for start in range(min(2, len(parts))):
        if parts[start] in SPLITS and len(parts) > start + 1:
            is_below = len(parts) > start + 2 or name.endswith("/")
            return ("/".join(parts[:start]) or ".", parts[start], parts[start + 1]) if is_below else None
    return None


def check_classes(found: dict, classes: list[str], path: Path) -> None:
    if len(classes) < 2:
        raise LipscaleError(f"{path} holds {len(classes)} classes under train/; allowed: two or more folders of images")
    if not any(split == "test" for split, _ in found):
        raise LipscaleError(f"{path} holds no images under test/; allowed: train/<class>/<image> and test/<class>/<image>")
    for _, class_name in sorted(found):
        if class_name not in classes:
            raise LipscaleError(f"class {class_name!r} of {path} is under test/ but not under train/; allowed: those of train/")
    for class_name in classes:
        for split in SPLITS:
            if not found.get((split, class_name)):
                raise LipscaleError(f"class {class_name!r} of {path} has no images under {split}/; allowed: at least one")

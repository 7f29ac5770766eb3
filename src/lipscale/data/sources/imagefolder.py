"""Any folder or archive of images: train/<class>/<image> and test/<class>/<image>."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lipscale.data.sources import _files
from lipscale.settings import AsInteger, PathText

if TYPE_CHECKING:
    from lipscale.data.image_files import Position
    from lipscale.data.source import Source


class Settings(_files.FileSettings):
    """Your own images, a folder or an archive of them."""

    name: Literal["imagefolder"] = Field(description="your own images")
    path: PathText = Field(
        description="folder or .tar, .tar.gz, .tar.xz or .zip archive of train/<class>/<image> and test/<class>/<image>; "
        "images are turned upright as their EXIF data say, transparency is composited over white"
    )
    image_size: Annotated[int, Field(ge=1, le=1024), AsInteger] = Field(
        32, description="side of the square that images are brought to, pixels"
    )
    channels: Annotated[Literal[1, 3], AsInteger] = Field(3, description="1: grey, 3: colour")

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

    path = Path(settings.path)
    listing = list_images(Reader(path, settings.image_shape(), settings.largest_unpacked_gib), position)
    classes = sorted(class_name for split, class_name in listing.found if split == "train")
    return _files.to_source(listing, classes, settings)


def position(name: str) -> "Position | None":
    """(folder around train and test, split, class) of a file or a class folder; None for what is not below a class."""
    parts = PurePosixPath(name).parts
    for start in range(min(2, len(parts))):
        if parts[start] in _files.SPLITS and len(parts) > start + 1:
            is_below = len(parts) > start + 2 or name.endswith("/")
            return ("/".join(parts[:start]) or ".", parts[start], parts[start + 1]) if is_below else None
    return None

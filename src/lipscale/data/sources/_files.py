"""What data sets in image files share: settings, the checks of their classes, and the source made of them."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from lipscale.errors import LipscaleError
from lipscale.settings import AsInteger, PathText, Positive, SourceSettings

if TYPE_CHECKING:
    from lipscale.data.image_files import Listing
    from lipscale.data.source import Source

SPLITS = ("train", "test")


class FileSettings(SourceSettings):
    """Settings of colour images in files."""

    image_files: ClassVar[bool] = True

    path: PathText = Field(description="folder, or .tar, .tar.gz, .tar.xz or .zip archive of it")
    image_size: Annotated[int, Field(ge=1, le=1024), AsInteger] = Field(
        description="side of the square that images are brought to, pixels: shorter side, bicubic, centre crop"
    )
    largest_unpacked_gib: Positive = Field(4, description="images or an archive that unpack to more are refused, GiB")

    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the prepared images."""
        return (3, self.image_size, self.image_size)


def to_source(listing: "Listing", classes: Collection[str], settings: SourceSettings, test: str = "test") -> "Source":
    """The images of the splits train and test, each class with at least one image in both.

    Args:
        test: how messages call the folder of the test split.

    Raises:
        LipscaleError: a class has no images, or there is one too many; or the images exceed the bound.
    """
    from lipscale.data.source import Source

    path, found = Path(settings.path), listing.found
    if len(classes) < 2:
        raise LipscaleError(f"{path} holds {len(classes)} classes under train/; allowed: two or more folders of images")
    if not any(split == "test" for split, _ in found):
        raise LipscaleError(f"{path} holds no images under {test}/; allowed: images in train/ and in {test}/, by class")
    known, folders = set(classes), dict(zip(SPLITS, ("train", test), strict=True))
    for split, name in sorted(found):
        if name not in known:
            raise LipscaleError(
                f"class {name!r} of {path} is under {folders[split]}/ but not under train/; allowed: those of train/"
            )
    for name in classes:
        for split, folder in folders.items():
            if not found.get((split, name)):
                raise LipscaleError(f"class {name!r} of {path} has no images under {folder}/; allowed: at least one")
    origin = {
        "path": path.name,
        "sha256": listing.sha256,
        "image_size": settings.image_size,
        "resampling": "bicubic, shorter side, centre crop",
        "orientation": "upright, as EXIF data say",
        "transparency": "composited over white",
    }
    return Source(list(classes), *listing.splits(classes, SPLITS), origin, "by class, then by file name")

"""Any folder or archive of images: train/<class>/<image> and test/<class>/<image>."""

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from lipscale.data import archives
from lipscale.errors import LipscaleError
from lipscale.settings import AsInteger, PathText, Positive, SourceSettings

if TYPE_CHECKING:
    import numpy as np

    from lipscale.data.source import Source, Split

SPLITS = ("train", "test")


class Settings(SourceSettings):
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
    from lipscale.data.source import Source

    path = Path(settings.path)
    found = _read(path, settings)
    classes = sorted(class_name for split, class_name in found if split == "train")
    _check_classes(found, classes, path)
    return Source(
        classes=classes,
        train=_split(found, "train", classes),
        test=_split(found, "test", classes),
        origin={
            "path": path.name,
            "sha256": archives.sha256(path),
            "image_size": settings.image_size,
            "resampling": "bicubic, shorter side, centre crop",
            "orientation": "upright, as EXIF data say",
            "transparency": "composited over white",
        },
        order="by class, then by file name",
    )


def _read(path: Path, settings: Settings) -> dict[tuple[str, str], dict[str, "np.ndarray"]]:
    """Pixels by (split, class), then by file name."""
    from lipscale.data.images import is_image
    from lipscale.progress import bar

    prepared = archives.Bound(path, settings.largest_unpacked_gib)
    found, roots = {}, set()
    files = archives.members(path, settings.largest_unpacked_gib, is_image)
    with bar(files, name=path.name, unit="file") as progress:
        for member in progress:
            position = _position(member.name)
            if position is None:
                continue
            root, split, class_name, name = position
            roots.add(root)
            images = found.setdefault((split, class_name), {})
            if is_image(name):
                images[name] = _pixels(member, path, settings)
                prepared.spend(images[name].nbytes)
    if len(roots) > 1:
        raise LipscaleError(
            f"{path} holds several image folders, {', '.join(sorted(roots))}; allowed: one train/ and one test/"
        )
    return found


def _position(name: str) -> tuple[str, str, str, str] | None:
    """(folder around train and test, split, class, file name) of a member, None for what is not below a class or hidden.

    The file name of a class folder itself is empty.
    """
    parts = PurePosixPath(name).parts
    if any(part.startswith(".") or part == "__MACOSX" for part in parts):
        return None
    for start in range(min(2, len(parts))):
        if parts[start] in SPLITS and len(parts) > start + 1:
            split, class_name, *rest = parts[start:]
            root = "/".join(parts[:start]) or "."
            return (root, split, class_name, "/".join(rest)) if rest or name.endswith("/") else None
    return None


def _pixels(member: archives.Member, path: Path, settings: Settings) -> "np.ndarray":
    """uint8, (channels, image_size, image_size)."""
    from lipscale.data import images

    bound = archives.Bound(path, settings.largest_unpacked_gib)
    try:
        return images.square(member.content, settings.image_size, settings.channels, bound.limit)
    except images.TooLarge:
        raise bound.exceeded() from None
    except Exception as error:  # damaged bytes make Pillow raise whatever its readers happen to run into
        raise LipscaleError(f"image {member.name} in {path} is corrupt ({archives.one_line(error)})") from None


def _check_classes(found: dict, classes: list[str], path: Path) -> None:
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


def _split(found: dict, split: str, classes: list[str]) -> "Split":
    import numpy as np

    from lipscale.data.source import Split

    images, labels = [], []
    for label, class_name in enumerate(classes):
        of_class = found[split, class_name]
        images += [of_class[name] for name in sorted(of_class)]
        labels += [label] * len(of_class)
    return Split(np.stack(images), np.array(labels))

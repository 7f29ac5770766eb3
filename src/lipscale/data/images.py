"""The bytes of one image file -> its pixels."""

import io
import warnings

import numpy as np
from PIL import ExifTags, Image, ImageOps

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")  # no others: Pillow hands EPS to Ghostscript, for one
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm")
BYTES_OF_A_PIXEL = 4  # at most, while an image is read
TURNS = {  # values of EXIF's orientation; 1 is upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class TooLarge(Exception):
    """An image has more pixels than may be read."""


def is_image(name: str) -> bool:
    """Whether a file of this name is read as an image."""
    return name.lower().endswith(SUFFIXES)


def square(content: bytes, side: int, channels: int, largest: int) -> np.ndarray:
    """An image file as uint8, (channels, side, side).

    The image is turned upright as its EXIF data say. Transparency is composited over white: a black shape on a transparent
    ground becomes black on white; of opaque images every bit stays. 16-bit grey keeps its upper 8 bits. The shorter side is
    brought to `side` (bicubic), the middle is cut out.

    Args:
        content: the bytes of the file, in one of FORMATS.
        channels: 1 for grey, 3 for colour.
        largest: bytes that the whole image may take in memory.

    Raises:
        TooLarge: it takes more.
        Exception: whatever Pillow's readers run into when bytes are damaged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tags that say nothing about pixels
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if BYTES_OF_A_PIXEL * image.width * image.height > largest:
            raise TooLarge
        image.load()
        turn = TURNS.get(_orientation(image))
    image = _opaque(image).convert("RGB" if channels == 3 else "L")
    if turn is not None:
        image = image.transpose(turn)
    if image.size != (side, side):
        image = ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(side, side, channels).transpose(2, 0, 1)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation, 1 to 8. Damaged EXIF data count as none, as in other readers.

    `ImageOps.exif_transpose` also rewrites all other tags, and fails where one of them is odd.
    """
    try:
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return 1


def _opaque(image: Image.Image) -> Image.Image:
    """The image in mode RGB, over white where it is transparent."""
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        grey = (values >> 8).clip(0, 255).astype(np.uint8)
        if isinstance(transparent, int):  # one grey level of a PNG
            grey[values == transparent] = 255
        return Image.fromarray(grey).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white

"""One image file -> pixels: sizes, modes, orientation, transparency."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from image_folders import encoded, picture
from lipscale.data.images import TURNS, TooLarge, square

ORIENTATION = 0x0112  # EXIF's tag
LARGE = 2**20


def corner() -> Image.Image:
    """A grey image, 8 wide and 6 high, that no turn or flip leaves as it is."""
    return Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8) * 5)


def oriented(image: Image.Image, orientation: int, kind: str = "png") -> bytes:
    """An image file that readers of EXIF see as `image`: stored turned, and with the tag that turns it back."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    inverse = {6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}  # the others are their own
    if orientation != 1:
        image = image.transpose(inverse.get(orientation, TURNS[orientation]))
    options = {"quality": 100, "subsampling": 0} if kind == "jpeg" else {"lossless": True} if kind == "webp" else {}
    return encoded(image, kind, exif=exif, **options)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
@pytest.mark.parametrize("size", [(8, 8), (5, 9), (31, 17)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_and_mode(mode, size, channels):
    pixels = square(picture(mode, size), 8, channels, LARGE)
    assert pixels.shape == (channels, 8, 8)
    assert pixels.dtype == np.uint8
    assert pixels.std() > 0


def test_sixteen_bits_keep_the_upper_eight():
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024
    assert (square(encoded(Image.fromarray(ramp)), 8, 1, LARGE)[0] == ramp >> 8).all()


def test_an_image_that_is_too_large_is_refused_before_it_is_read():
    content = encoded(Image.new("L", (2000, 2000)))
    assert len(content) < 2**14
    with pytest.raises(TooLarge):
        square(content, 8, 1, LARGE)


# --- orientation ---


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_an_image_upright(kind, orientation):
    image = corner() if kind != "webp" else corner().convert("RGB")
    upright = square(oriented(image, orientation, kind), 8, 1, LARGE)
    expected = square(encoded(corner()), 8, 1, LARGE)
    assert np.abs(upright.astype(int) - expected).max() <= (3 if kind == "jpeg" else 0)


def test_an_image_is_turned_once_and_with_its_transparency():
    image = corner().convert("LA")
    image.putalpha(corner())
    expected = square(encoded(image), 8, 3, LARGE)
    assert (square(oriented(image, 6), 8, 3, LARGE) == expected).all()


def test_damaged_exif_counts_as_none():
    content = oriented(corner(), 6, "jpeg")
    damaged = content.replace(b"II*\0", b"????").replace(b"MM\0*", b"????")
    assert damaged != content
    plain = oriented(corner().transpose(Image.Transpose.ROTATE_90), 1, "jpeg")
    assert (square(damaged, 8, 1, LARGE) == square(plain, 8, 1, LARGE)).all()


def test_tags_that_cannot_be_written_again_do_not_matter():
    """A resolution that is stored as text, at which Pillow's exif_transpose fails."""
    tags = struct.pack("<HHI4s", ORIENTATION, 3, 1, b"\6\0\0\0") + struct.pack("<HHI4s", 282, 2, 4, b"dots")
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + tags + bytes(4)
    plain = oriented(corner().transpose(Image.Transpose.ROTATE_90), 1, "png")
    content = encoded(Image.open(io.BytesIO(plain)), "jpeg", quality=100, exif=block)
    with pytest.raises(TypeError):
        ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    difference = square(content, 8, 1, LARGE).astype(int) - square(encoded(corner()), 8, 1, LARGE)
    assert np.abs(difference).max() <= 3


# --- transparency ---

SHAPE = np.zeros((8, 8), dtype=np.uint8)
SHAPE[2:6, 3:5] = 255  # a bar


@pytest.mark.parametrize("kind", ["png", "webp", "tiff"])
def test_a_shape_drawn_in_alpha_is_black_on_white(kind):
    image = Image.new("RGBA", (8, 8))
    image.putalpha(Image.fromarray(SHAPE))
    content = encoded(image, kind, **({"lossless": True, "exact": True} if kind == "webp" else {}))
    assert (square(content, 8, 1, LARGE)[0] == 255 - SHAPE).all()
    assert (square(content, 8, 3, LARGE) == 255 - SHAPE).all()


def transparent_palette() -> bytes:
    image = Image.fromarray(SHAPE // 255).convert("P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    return encoded(image, transparency=0)


def transparent_gif() -> bytes:
    image = Image.fromarray(SHAPE // 255).convert("P")
    image.putpalette([0, 0, 255, 0, 0, 0])
    return encoded(image, "gif", transparency=0)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(transparent_palette(), id="palette"),
        pytest.param(transparent_gif(), id="gif"),
        pytest.param(encoded(Image.merge("LA", [Image.new("L", (8, 8)), Image.fromarray(SHAPE)])), id="grey and alpha"),
        pytest.param(encoded(Image.fromarray(np.where(SHAPE, 0, 9).astype(np.uint8)), transparency=9), id="one grey"),
        pytest.param(
            encoded(Image.fromarray(np.where(SHAPE[..., None], 0, [1, 2, 3]).astype(np.uint8)), transparency=(1, 2, 3)),
            id="one colour",
        ),
        pytest.param(encoded(Image.fromarray(np.where(SHAPE, 0, 999).astype(np.uint16)), transparency=999), id="16 bits"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_transparency_becomes_white(content, channels):
    assert (square(content, 8, channels, LARGE) == 255 - SHAPE).all()


def test_half_transparent_is_half_white():
    pixels = square(encoded(Image.new("RGBA", (8, 8), (200, 100, 0, 51))), 8, 3, LARGE)
    assert pixels[:, 0, 0].tolist() == [244, 224, 204]  # 0.2 of the colour, 0.8 of white


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("size", [(8, 8), (31, 17)])
@pytest.mark.parametrize("channels", [1, 3])
def test_opaque_images_keep_every_bit(mode, size, channels):
    image = Image.open(io.BytesIO(picture(mode.removesuffix("A"), size)))
    opaque = image.convert(mode)
    assert opaque.getchannel("A").getextrema() == (255, 255)
    assert (square(encoded(opaque), 8, channels, LARGE) == square(encoded(image), 8, channels, LARGE)).all()


def test_pixels_beside_transparent_ones_keep_every_bit():
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    alpha = np.full((16, 16, 1), 255, dtype=np.uint8)
    alpha[0] = 0
    pixels = square(encoded(Image.fromarray(np.concatenate([colours, alpha], axis=2))), 16, 3, LARGE).transpose(1, 2, 0)
    assert (pixels[1:] == colours[1:]).all()
    assert (pixels[0] == 255).all()


def test_one_transparent_level_of_one_bit_is_read():
    """Written chunk by chunk, as Pillow does not write it."""
    file = io.BytesIO(PngImagePlugin._MAGIC)
    file.seek(0, io.SEEK_END)
    header = (8).to_bytes(4, "big") * 2 + bytes([1, 0, 0, 0, 0])
    pixels = zlib.compress(8 * b"\0\xf0")
    for name, data in [(b"IHDR", header), (b"tRNS", b"\0\0"), (b"IDAT", pixels), (b"IEND", b"")]:
        PngImagePlugin.putchunk(file, name, data)
    assert Image.open(io.BytesIO(file.getvalue())).mode == "1"
    assert (square(file.getvalue(), 8, 3, LARGE) == 255).all()  # four columns are white, four transparent

"""The files that the checker reads, number by number, without rounding: JSON, .safetensors and .npz.

A float is a fraction with a power of two below. An array of them is kept as whole numbers over one common denominator.
"""

import json
import math
import struct
import zipfile
from ast import literal_eval
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

TYPES = {"|u1": "B", "<u1": "B", "|i1": "b", "<i2": "h", "<u2": "H", "<i4": "i", "<u4": "I", "<i8": "q", "<u8": "Q"}
FLOATS = {"<f4": "f", "<f8": "d"}


class Refused(Exception):
    """The certificate is not proven; the message is one sentence that says where."""


class Array(NamedTuple):
    """Numbers `values[i] / denominator`, in the order of the last index first."""

    shape: tuple[int, ...]
    values: list[int]
    denominator: int


def exact(shape: tuple[int, ...], values: list) -> Array:
    """An array of floats or fractions. Raises Refused where one is NaN or infinite."""
    try:
        ratios = [value.as_integer_ratio() for value in values]
    except (OverflowError, ValueError):
        raise Refused("a file holds NaN or infinity") from None
    denominator = math.lcm(*{below for _, below in ratios})
    return Array(shape, [above * (denominator // below) for above, below in ratios], denominator)


def number(value: object, what: str) -> Fraction:
    """A finite number of a JSON file: exactly the float64 that its decimals stand for."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"{what} is {value!r}, which is not a number")
    if value != value or value in (math.inf, -math.inf):
        raise Refused(f"{what} is {value}, which is not finite")
    return Fraction(value)


def parsed(text: str | bytes) -> object:
    """JSON without repeated keys."""

    def unique(pairs: list) -> dict:
        if len(dict(pairs)) != len(pairs):
            raise Refused("a file names a key twice")
        return dict(pairs)

    return json.loads(text, object_pairs_hook=unique)


def read_model(path: Path) -> tuple[dict, dict[str, Array]]:
    """The description of a network and its tensors by name, from a .safetensors file.

    Such a file is the length of its header (8 bytes, the lowest first), the header in JSON, and float32 numbers.
    """
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = parsed(content[8:start])
    description = parsed(header.pop("__metadata__")["network"])
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        shape, data = tuple(entry["shape"]), content[start + first : start + last]
        if entry["dtype"] != "F32" or min(shape, default=1) < 1 or first < 0 or len(data) != 4 * math.prod(shape):
            raise Refused(f"tensor {name} of the model is not whole, or not of float32 numbers")
        tensors[name] = exact(shape, list(struct.unpack(f"<{math.prod(shape)}f", data)))
    return description, tensors


def read_images(path: Path) -> tuple[tuple[int, ...], list, int | None, list[int] | None]:
    """Images of an .npz file, or of `test_images.npy` of a prepared data set: shape, pixels, denominator and labels.

    Pixels of whole numbers k, which have the denominator 255, stay one list for all images. Floats have the denominator None.
    Labels are None where the file has none.
    """
    labels = None
    if path.suffix == ".npy":
        shape, kind, pixels = _read_npy(path.read_bytes())
        labels = _read_npy(path.with_name("test_labels.npy").read_bytes())[2]
    else:
        with zipfile.ZipFile(path) as archive:
            shape, kind, pixels = _read_npy(archive.read("images.npy"))
            if "labels.npy" in archive.namelist():
                labels = _read_npy(archive.read("labels.npy"))[2]
    if len(shape) != 4 or (kind not in FLOATS and TYPES[kind] != "B"):
        raise Refused(f"the images have shape {list(shape)} and type {kind}, not four dimensions of uint8 or floats")
    return shape, pixels, 255 if kind in TYPES else None, labels


def _read_npy(content: bytes) -> tuple[tuple[int, ...], str, list]:
    """Shape, type and numbers of an .npy file: a text with these, and then the numbers."""
    width = 2 if content[6] == 1 else 4
    start = 8 + width + int.from_bytes(content[8 : 8 + width], "little")
    header = literal_eval(content[8 + width : start].decode("latin1").strip())
    kind, shape = header["descr"], header["shape"]
    if content[:6] != b"\x93NUMPY" or header["fortran_order"] or kind not in TYPES | FLOATS:
        raise Refused(f"the images or labels are of type {kind} or not in the usual order")
    return shape, kind, list(struct.unpack(f"<{math.prod(shape)}{(TYPES | FLOATS)[kind]}", content[start:]))

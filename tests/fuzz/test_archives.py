"""Whatever an archive, a folder or an image holds: it is read, or refused in one line, and nothing is written."""

import contextlib
import io
import json
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from fuzzing import TEXTS, broken, examples, refused
from image_folders import FORMS, decoded, encoded, picture, tree, write_folder
from lipscale.data.archives import GIB
from lipscale.data.dataset import Split
from lipscale.data.prepare import take
from lipscale.data.source import Source
from lipscale.data.sources import imagefolder

LIMIT = 2**16 / GIB  # of an archive, unpacked: 64 KiB

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Duplicate name")]

PARTS = st.one_of(
    st.sampled_from(
        [
            "train",
            "test",
            "cat",
            "dog",
            "0.png",
            "1.png",
            "..",
            ".",
            "",
            "C:",
            "__MACOSX",
            ".hidden",
            "a\\b",
            "..\\x",
            "x.jpg",
            "x.txt",
        ]
    ),
    st.sampled_from(
        ["é", "名.png", "x" * 300 + ".png", "\udc80.png", "a\nb.png", "nul\0.png", "-rf", "~", "$(x)", " ", "C:\\x.png", "//"]
    ),
    st.text(max_size=6),
)
NAMES = st.one_of(
    st.lists(PARTS, min_size=1, max_size=5).map("/".join),
    st.tuples(st.sampled_from(["train", "test"]), st.sampled_from(["cat", "dog"]), PARTS).map("/".join),
    st.sampled_from(
        ["/etc/x.png", "train/cat", "train/cat/", "train/cat/0.png/1.png", "train", "train/cat/0.png", "./train/cat/0.png"]
    ),
)
PICTURES = {
    f"{mode} {kind}": picture(mode, (9, 7), kind=kind)
    for kind, modes in {
        "png": ["RGB", "RGBA", "L", "P", "1", "I;16"], "jpeg": ["RGB", "L", "CMYK"], "bmp": ["RGB", "1"], "gif": ["P"],
        "tiff": ["RGB", "CMYK", "LAB", "I;16"], "webp": ["RGBA"], "ppm": ["RGB", "1"],
    }.items()
    for mode in modes
}  # fmt: skip
EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010F], EXIF[0x011A] = 6, "a camera", 72.0  # turned, made by, resolution
PICTURES |= {
    f"{mode} {kind} with EXIF and alpha": encoded(
        Image.effect_noise((9, 7), 50).convert(mode),
        kind,
        exif=EXIF,
        **({"transparency": 3} if mode in ("P", "L") and kind == "png" else {}),
    )
    for kind, modes in {"png": ["RGBA", "LA", "P", "L"], "jpeg": ["RGB"], "tiff": ["RGBA"], "webp": ["RGBA"]}.items()
    for mode in modes
}
HUGE_PICTURES = [
    b"P6 60000 60000 255\n", b"P6 9000 9000 255\n", b"P6 0 0 255\n", b"P5 1 99999999 255\n", b"P6 -1 5 255\n",
    b"P1 9999999999999999 1\n",
]  # fmt: skip
CONTENTS = st.one_of(
    st.sampled_from(list(PICTURES.values())),
    st.sampled_from(list(PICTURES.values())).flatmap(broken),
    st.binary(max_size=40),
    st.sampled_from(HUGE_PICTURES),
    st.just(bytes(2**17)),
)
GOOD = tree(2)
TAR_TYPES = [bytes([kind]) for kind in b"0\x0015SLKxgVM23467Zz"]
WRITE = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}


@st.composite
def archives(draw) -> tuple[str, bytes]:
    """(suffix, bytes) of an archive with good and odd members, perhaps damaged."""
    suffix = draw(st.sampled_from([*WRITE, "zip"]))
    members = [(name, data, None) for name, data in GOOD.items()] if draw(st.integers(0, 3)) else []
    for _ in range(draw(st.integers(0, 3))):
        kind = draw(st.none() | st.integers(0, 255))
        members.insert(draw(st.integers(0, len(members))), (draw(NAMES), draw(CONTENTS), kind))
    buffer = io.BytesIO()
    if suffix == "zip":
        write_zip(draw, buffer, members)
    else:
        write_tar(draw, buffer, members, WRITE[suffix])
    data = buffer.getvalue()
    return suffix, draw(broken(data)) if draw(st.booleans()) else data


def write_tar(draw, buffer: io.BytesIO, members: list, mode: str) -> None:
    form = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT]))
    with tarfile.open(fileobj=buffer, mode=mode, format=form, errors="surrogateescape") as archive:
        for name, data, kind in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            if kind is not None:
                entry.type = TAR_TYPES[kind % len(TAR_TYPES)]
                entry.linkname = draw(st.sampled_from(["/etc/passwd", "../..", "train/cat/0.png", ""]))
                if form == tarfile.PAX_FORMAT:
                    keys = st.sampled_from(
                        ["size", "path", "mtime", "GNU.sparse.map", "GNU.sparse.major", "GNU.sparse.size", "hdrcharset", "é"]
                    )
                    entry.pax_headers = draw(
                        st.dictionaries(keys, TEXTS.map(lambda text: text.encode(errors="replace").decode()), max_size=2)
                    )
            with contextlib.suppress(ValueError):  # a name that this format of tar cannot hold
                archive.addfile(entry, io.BytesIO(data))


def write_zip(draw, buffer: io.BytesIO, members: list) -> None:
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data, kind in members:
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            if kind is not None:
                entry.external_attr = draw(st.integers(0, 2**16 - 1)) << 16
                entry.extra = draw(st.binary(max_size=12))
            entry.compress_type = draw(
                st.sampled_from(
                    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
                )
            )
            with contextlib.suppress(UnicodeEncodeError):
                archive.writestr(entry, data)


def load(path: Path) -> Source:
    settings = {"path": str(path), "validation_images": 2, "image_size": 8, "largest_unpacked_gib": LIMIT}
    return decoded(imagefolder.load(imagefolder.Settings.model_construct(name="imagefolder", channels=3, **settings)))


def check_images(path: Path, kind: str) -> bool:
    """Whether the images at `path` were read; nothing may be written anywhere near them."""
    before = sorted(path.parent.rglob("*"))
    with refused(kind) as said:
        source = load(path)
    assert sorted(path.parent.rglob("*")) == before
    if not said:
        for split in (source.train, source.test):
            assert split.images.dtype == np.uint8
            assert split.images.shape == (len(split.labels), 3, 8, 8)
            assert 0 <= split.labels.min() <= split.labels.max() < len(source.classes)
        assert json.dumps(source.classes)
    return not said


@pytest.fixture
def quiet(monkeypatch):
    """No bars: thousands of them would fill the report of a failure."""
    monkeypatch.setattr("lipscale.data.image_files.bar", lambda iterable, **_: contextlib.nullcontext(iterable))


@examples(300)
@given(archives())
def test_any_archive(tmp_path, quiet, archive):
    suffix, data = archive
    path = tmp_path / f"images.{suffix}"
    path.write_bytes(data)
    check_images(path, "archives")
    path.unlink()


@pytest.mark.parametrize("form", [form for form in FORMS if form != "folder"])
def test_damaged_archive(form, tmp_path, quiet):
    path = FORMS[form](tmp_path, GOOD)
    assert check_images(path, "archives")

    @examples(80)
    @given(broken(path.read_bytes()))
    def damage(data):
        path.write_bytes(data)
        check_images(path, "archives")

    damage()


@pytest.mark.parametrize("kind", PICTURES)
def test_damaged_image(kind, tmp_path, quiet):
    folder = write_folder(tmp_path / "images", GOOD)

    @examples(40)
    @given(broken(PICTURES[kind]))
    def damage(data):
        (folder / "train/cat/0.png").write_bytes(data)
        check_images(folder, "folders of images")

    damage()


@examples(60)
@given(st.lists(st.tuples(NAMES, CONTENTS, st.sampled_from(["file", "file", "folder", "link"])), max_size=4), st.booleans())
def test_any_folder_of_images(quiet, entries, good):
    with tempfile.TemporaryDirectory() as place:
        folder = write_folder(Path(place) / "images", GOOD if good else {})
        folder.mkdir(exist_ok=True)
        for name, data, kind in entries:
            target = folder / name.lstrip("/").replace("..", "__")
            with contextlib.suppress(OSError, ValueError):  # names that this file system cannot hold
                target.parent.mkdir(parents=True, exist_ok=True)
                if kind == "file":
                    target.write_bytes(data)
                elif kind == "folder":
                    target.mkdir()
                else:
                    target.symlink_to(name)
        check_images(folder, "folders of images")


@examples(50)
@given(TEXTS)
def test_any_path_of_images(path):
    assume("\0" not in path)  # the settings keep it out
    with refused("paths"):
        load(Path(f"/nowhere/x{path}/x{path}"))


@examples(50)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=5), st.one_of(st.integers(1, 150), st.integers(1, 10**18)))
def test_any_count_of_validation_images(sizes, count):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    with refused("splits") as said:
        split = Split(np.zeros((len(labels), 1, 1, 1), dtype=np.uint8), labels)
        rest, taken = take(split, count, np.random.default_rng(0), "key", [f"class {size}" for size in sizes])
        assert len(taken.labels) == count
        assert np.bincount(rest.labels, minlength=len(sizes)).min() > 0
    assert bool(said) or count < len(labels)

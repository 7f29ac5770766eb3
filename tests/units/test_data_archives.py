"""Folders and archives of images: every form gives the same images; what is unsafe or damaged is refused in a sentence."""

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from image_folders import FORMS, decoded, picture, tree, write_folder, write_tar, write_zip
from lipscale.data.source import Source
from lipscale.data.sources import imagefolder
from lipscale.errors import LipscaleError


def load(path: Path, **changes) -> Source:
    """The source with all its images decoded."""
    given = {"path": str(path), "validation_images": 2, "image_size": 8, "largest_unpacked_gib": 0.001}
    return decoded(imagefolder.load(imagefolder.Settings(name="imagefolder", **given | changes)))


# --- what is prepared ---


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images(form, tmp_path):
    source = load(FORMS[form](tmp_path, tree()))
    expected = tree()
    assert source.classes == ["cat", "dog"]
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    first = np.asarray(Image.open(io.BytesIO(expected["train/cat/0.png"]))).transpose(2, 0, 1)
    assert (source.train.images[0] == first).all()
    assert source.test.images.shape == (2, 3, 8, 8)
    assert source.test.labels.tolist() == [0, 1]


@pytest.mark.parametrize("form", FORMS)
def test_images_are_in_the_order_that_is_named(form, tmp_path):
    """Whatever the order in the archive: by class, then by file name."""
    content = dict(reversed(tree().items()))
    source = load(FORMS[form](tmp_path, content))
    assert source.order == "by class, then by file name"
    names = [f"train/{c}/{i}.png" for c in ("cat", "dog") for i in range(3)]
    for image, name in zip(source.train.images, names, strict=True):
        assert (image == np.asarray(Image.open(io.BytesIO(content[name]))).transpose(2, 0, 1)).all()


def test_a_wrapping_folder_is_seen_through(tmp_path):
    content = {f"cifar/{name}": data for name, data in tree().items()} | {
        "cifar/README.txt": b"hello",
        "cifar/train/note": b"",
    }
    assert load(write_tar(tmp_path / "images.tar", content)).classes == ["cat", "dog"]


# --- what is refused ---


@pytest.mark.parametrize("form", FORMS)
def test_corrupt_image_is_named(form, tmp_path):
    content = tree() | {"train/dog/1.png": picture()[:60]}
    with pytest.raises(LipscaleError, match=r"image train/dog/1\.png in .* is corrupt"):
        load(FORMS[form](tmp_path, content))


@pytest.mark.parametrize("form", FORMS)
def test_empty_class_is_named(form, tmp_path):
    content = tree() | {"train/bird/": b""}
    with pytest.raises(LipscaleError, match=r"class 'bird' of .* has no images under train/; allowed: at least one"):
        load(FORMS[form](tmp_path, content))


@pytest.mark.parametrize("form", FORMS)
def test_class_that_is_only_in_test_is_named(form, tmp_path):
    content = tree() | {"test/bird/0.png": picture()}
    with pytest.raises(LipscaleError, match=r"class 'bird' of .* is under test/ but not under train/"):
        load(FORMS[form](tmp_path, content))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rest", [{}, {"test/dog/": b""}, {"test/dog/note.txt": b"no image"}])
def test_class_without_test_images_is_named(form, rest, tmp_path):
    content = {name: data for name, data in tree().items() if name != "test/dog/0.png"} | rest
    with pytest.raises(LipscaleError, match=r"class 'dog' of .* has no images under test/; allowed: at least one"):
        load(FORMS[form](tmp_path, content))


def test_no_test_split_is_named(tmp_path):
    content = {name: data for name, data in tree().items() if name.startswith("train")}
    with pytest.raises(LipscaleError, match="no images under test/"):
        load(write_folder(tmp_path, content))


def test_no_classes_are_named(tmp_path):
    with pytest.raises(LipscaleError, match="holds 0 classes under train/"):
        load(write_tar(tmp_path / "images.tar", {"a.png": picture()}))


def test_missing_path_is_named(tmp_path):
    with pytest.raises(LipscaleError, match=r"nowhere does not exist; allowed: a folder, or an archive"):
        load(tmp_path / "nowhere")


def test_other_files_are_no_archives(tmp_path):
    (tmp_path / "images.rar").write_bytes(b"Rar!")
    with pytest.raises(LipscaleError, match="no archive that can be read"):
        load(tmp_path / "images.rar")


@pytest.mark.parametrize(
    "name", ["../outside.png", "/etc/outside.png", "train/../../outside.png", "C:/outside.png", "..\\outside.png"]
)
@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_names_that_lead_out_are_refused(name, write, tmp_path):
    suffix = "tar" if write is write_tar else "zip"
    before = sorted(tmp_path.parent.iterdir())
    with pytest.raises(LipscaleError, match="leads out of the archive"):
        load(write(tmp_path / f"images.{suffix}", tree() | {name: picture()}))
    assert sorted(tmp_path.parent.iterdir()) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind, tmp_path):
    path = write_tar(tmp_path / "images.tar", tree())
    with tarfile.open(path, "a") as archive:
        entry = tarfile.TarInfo("train/cat/9.png")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(LipscaleError, match=r"train/cat/9\.png in .* is a link or a device"):
        load(path)


def test_links_in_a_zip_are_refused(tmp_path):
    path = write_zip(tmp_path / "images.zip", tree())
    with zipfile.ZipFile(path, "a") as archive:
        entry = zipfile.ZipInfo("train/cat/9.png")
        entry.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(entry, "/etc/passwd")
    with pytest.raises(LipscaleError, match=r"train/cat/9\.png in .* is a link or a device"):
        load(path)


def test_links_out_of_a_folder_are_refused(tmp_path):
    (tmp_path / "secret.png").write_bytes(picture())
    folder = write_folder(tmp_path / "images", tree())
    (folder / "train/cat/9.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(LipscaleError, match=r"train/cat/9\.png in .* is a link that leads out"):
        load(folder)


@pytest.mark.parametrize("form", ["tar.gz", "tar.xz", "zip"])
def test_archive_that_unpacks_to_too_much_is_refused(form, tmp_path):
    content = tree() | {"train/cat/big.bin": bytes(2**21)}
    if form == "zip":
        path = tmp_path / "images.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in content.items():
                archive.writestr(name, data)
    else:
        path = FORMS[form](tmp_path, content)
    assert path.stat().st_size < 2**16
    with pytest.raises(LipscaleError, match=r"unpacks to more than 0\.001 GiB"):
        load(path)


@pytest.mark.parametrize("form", ["tar", "tar.gz", "tar.xz", "zip"])
def test_archive_that_is_cut_off_anywhere_is_refused(form, tmp_path):
    path = FORMS[form](tmp_path, tree())
    data = path.read_bytes()
    blocks = len(data.rstrip(b"\0")) if form == "tar" else len(data) - 1  # a tar may end with more zeros than it needs
    for length in np.linspace(0, blocks, 60).astype(int):
        path.write_bytes(data[:length])
        with pytest.raises(LipscaleError, match=r"corrupt|cut off"):
            load(path)


def test_archive_with_a_wrong_checksum_is_refused(tmp_path):
    path = FORMS["tar.gz"](tmp_path, tree())
    data = bytearray(path.read_bytes())
    data[-6] ^= 1  # in gzip's CRC
    path.write_bytes(data)
    with pytest.raises(LipscaleError, match="CRC"):
        load(path)


def test_headers_count_towards_the_bound(tmp_path):
    path = tmp_path / "images.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x" * 2**22}) as archive:
        archive.addfile(tarfile.TarInfo("train/cat/0.png"))
    with pytest.raises(LipscaleError, match="unpacks to more than"):
        load(path)


def test_prepared_images_count_towards_the_bound(tmp_path):
    with pytest.raises(LipscaleError, match="unpacks to more than"):
        load(write_folder(tmp_path, tree()), image_size=512)


def test_pixels_count_towards_the_bound(tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (2000, 2000)).save(buffer, "png")
    assert len(buffer.getvalue()) < 2**14
    with pytest.raises(LipscaleError, match="unpacks to more than"):
        load(write_folder(tmp_path, tree() | {"train/cat/0.png": buffer.getvalue()}))


def test_files_of_a_folder_count_towards_the_bound(tmp_path):
    folder = write_folder(tmp_path, tree())
    with (folder / "train/cat/0.png").open("r+b") as file:
        file.truncate(2**40)
    with pytest.raises(LipscaleError, match="unpacks to more than"):
        load(folder)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_zipfile_unpacks_without_bound_is_refused(method, tmp_path):
    path = write_zip(tmp_path / "images.zip", tree())
    with zipfile.ZipFile(path, "a", method) as archive:
        archive.writestr("train/cat/9.png", picture())
    with pytest.raises(LipscaleError, match=r"train/cat/9\.png in .* is neither stored nor deflated"):
        load(path)


def test_zip_with_a_name_that_is_no_text_is_refused(tmp_path):
    path = write_zip(tmp_path / "images.zip", tree() | {"train/cat/é.png": picture()})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xff\xfe"))
    with pytest.raises(LipscaleError, match="is corrupt or cut off"):
        load(path)


def test_only_image_formats_are_opened(tmp_path):
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    with pytest.raises(LipscaleError, match=r"train/cat/0\.png in .* is corrupt"):
        load(write_folder(tmp_path, tree() | {"train/cat/0.png": postscript}))


def test_what_a_mac_adds_is_passed_over(tmp_path):
    extra = {"__MACOSX/train/cat/._0.png": b"x", "train/cat/._0.png": b"x", "train/.DS_Store": b"x"}
    assert len(load(write_zip(tmp_path / "images.zip", tree() | extra)).train.labels) == 6


def test_two_image_folders_in_one_archive_are_refused(tmp_path):
    content = {f"{root}/{name}": data for root in "ab" for name, data in tree().items()}
    with pytest.raises(LipscaleError, match="several image folders, a, b"):
        load(write_tar(tmp_path / "images.tar", content))


def test_link_to_itself_is_named(tmp_path):
    folder = write_folder(tmp_path / "images", tree())
    (folder / "train/cat/9.png").symlink_to("9.png")
    with pytest.raises(LipscaleError, match=r"train/cat/9\.png in .* cannot be read"):
        load(folder)


def test_archive_of_another_kind_than_its_name_is_refused(tmp_path):
    (tmp_path / "images.tar.gz").write_bytes(gzip.compress(b"no tar"))
    with pytest.raises(LipscaleError, match="corrupt or cut off"):
        load(tmp_path / "images.tar.gz")

"""Data sets: what is prepared, and what is refused in a sentence."""

import gzip
import io
import stat
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import lipscale
from lipscale.data import images
from lipscale.data.dataset import SPLITS, Dataset
from lipscale.data.prepare import prepare, take
from lipscale.data.sources import _old as sources
from lipscale.data.sources._old import Split
from lipscale.errors import LipscaleError
from lipscale.store import files

SETTINGS = {
    "name": "imagefolder",
    "image_size": 8,
    "channels": 3,
    "validation_images": 2,
    "split_seed": 0,
    "largest_unpacked_gib": 0.001,
}


def picture(mode: str = "RGB", size: tuple[int, int] = (8, 8), seed: int = 0, kind: str = "png") -> bytes:
    """An image file of random pixels."""
    generator = np.random.default_rng(seed)
    if mode.startswith("I"):
        image = Image.fromarray(generator.integers(0, 2**16, size[::-1]).astype(np.uint16))
    else:
        image = Image.fromarray(generator.integers(0, 256, (*size[::-1], 3)).astype(np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def tree(count: int = 3) -> dict[str, bytes]:
    """A small image folder: two classes, `count` training images and one test image each."""
    names = [f"train/{c}/{i}.png" for c in ("cat", "dog") for i in range(count)] + ["test/cat/0.png", "test/dog/0.png"]
    return {name: picture(seed=seed) for seed, name in enumerate(names)}


def write_folder(path: Path, content: dict[str, bytes]) -> Path:
    for name, data in content.items():
        folder = path / name if name.endswith("/") else (path / name).parent
        folder.mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            (path / name).write_bytes(data)
    return path


def write_tar(path: Path, content: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in content.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.size = len(data)
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            archive.addfile(entry, io.BytesIO(data))
    return path


def write_zip(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


FORMS = {
    "folder": lambda path, content: write_folder(path / "images", content),
    "tar": lambda path, content: write_tar(path / "images.tar", content),
    "tar.gz": lambda path, content: write_tar(path / "images.tar.gz", content, "w:gz"),
    "tar.xz": lambda path, content: write_tar(path / "images.tar.xz", content, "w:xz"),
    "zip": lambda path, content: write_zip(path / "images.zip", content),
}


def load(path: Path, **changes) -> images.Source:
    settings = {**SETTINGS, **changes}
    return images.load(path, settings["image_size"], settings["channels"], settings["largest_unpacked_gib"])


# --- what is prepared ---


def test_no_image_is_in_two_splits():
    source = Split(np.arange(1000).reshape(-1, 1, 1, 1), np.random.default_rng(0).integers(10, size=1000))
    rest, test = take(source, 200, np.random.default_rng(1), "key")
    train, validation = take(rest, 300, np.random.default_rng(2), "key")
    parts = [set(split.images.ravel().tolist()) for split in (train, validation, test)]
    assert [len(part) for part in parts] == [500, 300, 200]
    assert set.union(*parts) == set(range(1000))
    for split in (train, validation, test):
        assert (source.labels[split.images.ravel()] == split.labels).all()


def test_splits_keep_the_proportions_of_classes():
    source = Split(np.zeros((1000, 1, 1, 1)), np.repeat([0, 1, 2], [700, 200, 100]))
    _, taken = take(source, 101, np.random.default_rng(0), "key")
    assert np.abs(np.bincount(taken.labels) - 101 * np.array([0.7, 0.2, 0.1])).max() <= 1


def test_digits_are_all_there_and_split_by_seed(digits, tmp_path):
    settings = {"name": "digits", "validation_images": 300, "test_images": 300, "split_seed": 0}
    dataset = Dataset(digits)
    assert [len(dataset.labels(split)) for split in SPLITS] == [1197, 300, 300]
    assert dataset.image_shape == (1, 8, 8)
    assert dataset.mean == pytest.approx([dataset.images("train").mean() / 255], rel=1e-12)
    everything = np.concatenate([dataset.images(split) for split in SPLITS])
    source = sources.digits()
    assert sorted(image.tobytes() for image in everything) == sorted(image.tobytes() for image in source.train.images)
    prepare(settings, tmp_path / "again")
    prepare({**settings, "split_seed": 1}, tmp_path / "other")
    assert Dataset(tmp_path / "again").sha256 == dataset.sha256
    assert Dataset(tmp_path / "other").sha256 != dataset.sha256


def test_manifest_of_digits(digits):
    manifest = files.read_json(digits / "manifest.json")
    assert manifest["counts"]["test"]["images"] == 300
    assert "scikit-learn" in manifest["source"]["package"]
    assert manifest["split_seed"] == 0


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images(form, tmp_path):
    source = load(FORMS[form](tmp_path, tree()))
    expected = tree()
    assert source.classes == ["cat", "dog"]
    assert source.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    first = np.asarray(Image.open(io.BytesIO(expected["train/cat/0.png"]))).transpose(2, 0, 1)
    assert (source.train.images[0] == first).all()
    assert source.test.images.shape == (2, 3, 8, 8)
    prepare({**SETTINGS, "path": str(next(tmp_path.iterdir()))}, tmp_path / "out")
    assert [len(Dataset(tmp_path / "out").labels(split)) for split in SPLITS] == [4, 2, 2]


def test_a_wrapping_folder_is_seen_through(tmp_path):
    content = {f"cifar/{name}": data for name, data in tree().items()} | {
        "cifar/README.txt": b"hello",
        "cifar/train/note": b"",
    }
    assert load(write_tar(tmp_path / "images.tar", content)).classes == ["cat", "dog"]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
@pytest.mark.parametrize("size", [(8, 8), (5, 9), (31, 17)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size_and_mode(tmp_path, mode, size, channels):
    content = tree() | {"train/cat/0.png": picture(mode, size)}
    source = load(write_folder(tmp_path, content), channels=channels)
    assert source.train.images.shape == (6, channels, 8, 8)
    assert source.train.images.dtype == np.uint8
    assert source.train.images[0].std() > 0


def test_sixteen_bits_keep_the_upper_eight(tmp_path):
    ramp = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024
    buffer = io.BytesIO()
    Image.fromarray(ramp).save(buffer, "png")
    source = load(write_folder(tmp_path, tree() | {"train/cat/0.png": buffer.getvalue()}), channels=1)
    assert (source.train.images[0, 0] == ramp >> 8).all()


# --- what is refused ---


@pytest.mark.parametrize("form", FORMS)
def test_corrupt_image_is_named(form, tmp_path):
    content = tree() | {"train/dog/1.png": picture()[:60]}
    with pytest.raises(LipscaleError, match=r"image train/dog/1\.png in .* is corrupt"):
        load(FORMS[form](tmp_path, content))


@pytest.mark.parametrize("form", FORMS)
def test_empty_class_is_named(form, tmp_path):
    content = tree() | {"train/bird/": b""}
    with pytest.raises(LipscaleError, match=r"class 'bird' of .* is empty in train"):
        load(FORMS[form](tmp_path, content))


@pytest.mark.parametrize("form", FORMS)
def test_class_that_is_only_in_test_is_named(form, tmp_path):
    content = tree() | {"test/bird/0.png": picture()}
    with pytest.raises(LipscaleError, match=r"class 'bird' of .* is in test and not in train"):
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


@pytest.mark.parametrize("count", [2**62, 10**18])
def test_huge_count_is_refused(count):
    with pytest.raises(LipscaleError, match=f"key is {count} of 6, which leaves class number 0 without images"):
        take(Split(np.zeros((6, 1, 1, 1)), np.repeat([0, 1], 3)), count, np.random.default_rng(0), "key")


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


def test_too_many_validation_images_are_refused(tmp_path):
    settings = {**SETTINGS, "path": str(write_folder(tmp_path / "images", tree())), "validation_images": 5}
    with pytest.raises(LipscaleError, match=r"validation_images is 5 of 6, which leaves class number 0 without images"):
        prepare(settings, tmp_path / "out")
    assert not (tmp_path / "out" / "arrays.npz").exists()


def test_refusals_reach_the_command_line_as_a_sentence(tmp_path):
    settings = {**SETTINGS, "path": str(tmp_path / "nowhere")}
    result = lipscale("prepare", "--settings", "-", "--folder", tmp_path / "out", stdin=settings, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("lipscale: dataset.path")
    assert result.stderr.count("\n") == 1

"""Images in files become arrays chunk by chunk, by several processes, and what was decoded before a kill is kept."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from conftest import TINY
from image_folders import FORMS, decoded, picture, tree, write_folder
from lipscale import cli
from lipscale.data.image_files import CHUNK
from lipscale.data.prepare import prepare
from lipscale.data.sources import imagefolder
from lipscale.errors import LipscaleError
from lipscale.store import files, image_arrays
from lipscale.store.dataset import ARRAYS, MANIFEST, array_file, read_dataset, read_manifest, write_dataset
from lipscale.store.npz import npz_sha256

COUNT = 3 * CHUNK  # training images of each class


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> dict[str, bytes]:
    """An image folder of seven chunks, no two images alike."""
    content = {name: data for name, data in tree(COUNT).items() if name.startswith("train")}
    return content | {
        f"test/{c}/{i}.png": picture(seed=10**6 + 1000 * ord(c[0]) + i) for c in ("cat", "dog") for i in range(30)
    }


def settings(path: Path) -> imagefolder.Settings:
    return imagefolder.Settings(name="imagefolder", path=str(path), validation_images=40, image_size=8)


def content(folder: Path) -> dict[str, bytes]:
    names = [*map(array_file, ARRAYS), MANIFEST]
    assert sorted(path.name for path in folder.iterdir()) == sorted([".checksums", *names])
    return {name: (folder / name).read_bytes() for name in names[:-1]}


@pytest.mark.parametrize("form", ["folder", "tar.gz"])
def test_processes_and_forms_give_the_same_arrays(form, images, tmp_path):
    """The arrays that decoding everything in memory gives, whatever the order in an archive."""
    path = FORMS[form](tmp_path, dict(reversed(images.items())))
    source = decoded(imagefolder.load(settings(path)))
    for jobs in (1, 2):
        write_dataset(tmp_path / str(jobs), *prepare(settings(path)), jobs)
    assert content(tmp_path / "1") == content(tmp_path / "2")
    dataset = read_dataset(tmp_path / "1")
    parts = [{image.tobytes() for image in dataset.images(split)} for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [2 * COUNT - 40, 40, 60]
    assert parts[0] | parts[1] == {image.tobytes() for image in source.train.images}
    assert (dataset.images("test") == source.test.images).all()
    expected = dataset.images("train").mean(axis=(0, 2, 3), dtype=np.float64) / 255
    assert dataset.mean == expected.tolist()
    assert isinstance(dataset.images("train"), np.memmap)
    assert not dataset.images("train").flags.writeable


def test_the_checksum_is_that_of_an_npz_file(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {
        "images": generator.integers(0, 256, (700, 3, 24, 24), dtype=np.uint8),
        "labels": np.arange(700),
        "one": np.ones(1),
    }
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    np.savez(tmp_path / "arrays.npz", **arrays)
    assert npz_sha256({name: tmp_path / f"{name}.npy" for name in arrays}) == files.sha256(tmp_path / "arrays.npz")


def damage(path: Path) -> bytes:
    """Make a file of the same size and time, but damaged; returns what it held."""
    whole, times = path.read_bytes(), path.stat()
    path.write_bytes(bytes(len(whole)))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return whole


def restore(path: Path, whole: bytes) -> None:
    times = path.stat()
    path.write_bytes(whole)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def stopped(images, tmp_path):
    """A folder of images, and data of it whose preparation stopped at a damaged image, mended since."""
    folder, data = write_folder(tmp_path / "images", images), tmp_path / "data"
    last = folder / sorted(name for name in images if name.startswith("train/dog"))[-1]
    whole = damage(last)
    with pytest.raises(LipscaleError, match="is corrupt"):
        write_dataset(data, *prepare(settings(folder)))
    restore(last, whole)
    return folder, data


def decoded_chunks(monkeypatch) -> list[int]:
    """Gets the number of images of each chunk that is decoded from now on."""
    found, write = [], image_arrays._write
    monkeypatch.setattr(image_arrays, "_write", lambda *given: (found.append(len(given[2])), write(*given))[1])
    return found


def test_what_was_decoded_is_not_decoded_again(stopped, tmp_path, monkeypatch, capsys):
    folder, data = stopped
    assert not (data / MANIFEST).exists()
    found = decoded_chunks(monkeypatch)
    write_dataset(data, *prepare(settings(folder)))
    assert found == [CHUNK, 60]
    assert "5 chunks of 64 images were decoded before" in "".join(capsys.readouterr())
    write_dataset(tmp_path / "at once", *prepare(settings(folder)))
    assert content(data) == content(tmp_path / "at once")
    assert read_manifest(data) == read_manifest(tmp_path / "at once")


def test_a_chunk_that_is_not_as_it_was_recorded_is_decoded_again(stopped, tmp_path, monkeypatch):
    """As after a power loss, when what was written did not reach the disk; and a record that was cut off."""
    folder, data = stopped
    record = data / image_arrays.RECORD
    record.write_text(record.read_text() + "5 12")
    array = np.load(data / ".partial-train_images.npy", mmap_mode="r+")
    array[0] ^= 1
    del array
    found = decoded_chunks(monkeypatch)
    write_dataset(data, *prepare(settings(folder)))
    assert found == [CHUNK, CHUNK, 60]
    write_dataset(tmp_path / "at once", *prepare(settings(folder)))
    assert content(data) == content(tmp_path / "at once")


def test_other_images_start_from_the_beginning(stopped, monkeypatch, capsys):
    folder, data = stopped
    (folder / "train/cat/0.png").write_bytes(picture(seed=12345))
    found = decoded_chunks(monkeypatch)
    write_dataset(data, *prepare(settings(folder)))
    assert sum(found) == 2 * COUNT + 60
    assert "unfinished arrays of other images; this step starts from the beginning" in capsys.readouterr().out
    assert content(data)


def test_an_archive_that_changes_while_it_is_read_is_named(images, tmp_path):
    path = FORMS["zip"](tmp_path, images)
    arrays, manifest = prepare(settings(path))
    FORMS["zip"](tmp_path, tree(2))
    with pytest.raises(LipscaleError, match=r"images\.zip has changed while it was read"):
        write_dataset(tmp_path / "data", arrays, manifest)


def test_a_damaged_image_is_named_by_any_process(images, tmp_path):
    path = write_folder(tmp_path / "images", images | {"train/dog/7.png": b"no image"})
    with pytest.raises(LipscaleError, match=r"image train/dog/7\.png in .* is corrupt"):
        write_dataset(tmp_path / "data", *prepare(settings(path)), 2)


def test_a_folder_with_another_data_set_is_refused(tmp_path, capsys):
    for validation_images in (40, 41):
        config = {**TINY, "dataset": {**TINY["dataset"], "validation_images": validation_images}}
        (tmp_path / f"{validation_images}.yaml").write_text(yaml.safe_dump(config))
    assert [
        cli.main(["prepare", str(tmp_path / name), "--folder", str(tmp_path / "data")]) for name in ("40.yaml", "41.yaml")
    ] == [0, 1]
    assert "was made with validation_images = 40, and the config says 41; delete it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_preparation_resumes_and_leaves_no_process(images, tmp_path):
    """kill -9 of the command, which decodes in two processes; they end with it."""
    big = picture(size=(600, 600))
    path = write_folder(tmp_path / "images", {name: big for name in images})
    config = {**TINY, "dataset": {"name": "imagefolder", "path": str(path), "validation_images": 40, "image_size": 8}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    data = tmp_path / "data"
    command = [sys.executable, "-m", "lipscale", "prepare", str(tmp_path / "config.yaml"), "--folder", str(data), "--jobs", "2"]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while not (data / image_arrays.RECORD).exists() or (data / image_arrays.RECORD).read_text().count("\n") < 2:
        assert first.poll() is None
        time.sleep(0.01)
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (data / MANIFEST).exists()
    until = time.monotonic() + 30
    while any(Path(f"/proc/{child}/exe").exists() for child in children):
        assert time.monotonic() < until, "a process was left behind"
        time.sleep(0.05)
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "were decoded before; the others follow" in second.stdout + second.stderr
    assert len(read_dataset(data).labels("train")) == 2 * COUNT - 40
    assert content(data)

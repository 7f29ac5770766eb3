"""CIFAR: through torchvision, and as an archive of JPEG files."""

import hashlib
import os
import pickle

import numpy as np
import pytest

from lipscale.data.dataset import SPLITS, Dataset
from lipscale.data.prepare import prepare
from lipscale.data.sources import _old as sources
from lipscale.errors import LipscaleError


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_without_a_network_says_what_to_download(name, tmp_path, monkeypatch):
    """The real torchvision, with nothing to reach behind a dead proxy."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    settings = {"name": name, "path": str(tmp_path), "validation_images": 10, "split_seed": 0}
    with pytest.raises(
        LipscaleError, match=r"could not be had .*; download https://.*\.tar\.gz \(MD5 [0-9a-f]{32}\), put it into"
    ):
        prepare(settings, tmp_path / "out")


@pytest.mark.parametrize(("name", "kind", "classes"), [("cifar10", "CIFAR10", 10), ("cifar100", "CIFAR100", 100)])
def test_cifar_files_are_read_by_torchvision(name, kind, classes, tmp_path, monkeypatch):
    """Files of CIFAR's format with made-up pixels, under their own checksums, go through the real torchvision."""
    from torchvision import datasets

    cifar = getattr(datasets, kind)
    generator = np.random.default_rng(0)
    folder = tmp_path / cifar.base_folder
    folder.mkdir()

    def write(file: str, content: dict) -> str:
        (folder / file).write_bytes(pickle.dumps(content))
        return hashlib.md5((folder / file).read_bytes()).hexdigest()

    pixels = {}
    for attribute in ("train_list", "test_list"):
        entries = []
        for file, _ in getattr(cifar, attribute):
            pixels[file] = generator.integers(0, 256, (2 * classes, 3072), dtype=np.uint8)
            content = {"data": pixels[file], "labels": [*range(classes)] * 2, "fine_labels": [*range(classes)] * 2}
            entries.append([file, write(file, content)])
        monkeypatch.setattr(cifar, attribute, entries)
    names = [f"class {label}" for label in range(classes)]
    digest = write(cifar.meta["filename"], {cifar.meta["key"]: names})
    monkeypatch.setattr(cifar, "meta", {**cifar.meta, "md5": digest})

    source = sources.read({"name": name, "path": str(tmp_path)})
    assert source.classes == names
    first = cifar.train_list[0][0]
    assert (source.train.images[:5] == pixels[first][:5].reshape(5, 3, 32, 32)).all()
    assert source.train.labels[: classes + 1].tolist() == [*range(classes), 0]
    assert len(source.test.labels) == 2 * classes


def test_cifar_jpeg_archive(tmp_path):
    """The archive of all 60,000 images, where LIPSCALE_CIFAR10_JPEG names it."""
    path = os.environ.get("LIPSCALE_CIFAR10_JPEG")
    if not path:
        pytest.skip("LIPSCALE_CIFAR10_JPEG does not name cifar10-jpeg.tar.xz")
    settings = {"name": "imagefolder", "path": path, "image_size": 32, "channels": 3, "largest_unpacked_gib": 4}
    settings |= {"validation_images": 5000, "split_seed": 0}
    prepare(settings, tmp_path)
    dataset = Dataset(tmp_path)
    assert [len(dataset.labels(split)) for split in SPLITS] == [45000, 5000, 10000]
    assert dataset.image_shape == (3, 32, 32)
    assert dataset.mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.003)  # the known means of CIFAR-10
    assert np.bincount(dataset.labels("test")).tolist() == [1000] * 10

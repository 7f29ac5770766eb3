"""CIFAR through torchvision, without its images: those are in tests/external/test_cifar.py."""

import hashlib
import pickle

import numpy as np
import pytest

from lipscale import discovery
from lipscale.data.prepare import SOURCES, prepare
from lipscale.errors import LipscaleError


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_without_a_network_says_what_to_download(name, tmp_path, monkeypatch):
    """The real torchvision, with nothing to reach behind a dead proxy."""
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    settings = discovery.load(SOURCES, name).Settings(name=name, path=str(tmp_path), validation_images=10)
    said = r"could not be downloaded or read .*; download https://.*\.tar\.gz \(MD5 [0-9a-f]{32}\), put it into .* and repeat"
    with pytest.raises(LipscaleError, match=said):
        prepare(settings)


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

    module = discovery.load(SOURCES, name)
    source = module.load(module.Settings(name=name, path=str(tmp_path), validation_images=classes))
    assert source.classes == names
    first = cifar.train_list[0][0]
    assert (source.train.images[:5] == pixels[first][:5].reshape(5, 3, 32, 32)).all()
    assert source.train.labels[: classes + 1].tolist() == [*range(classes), 0]
    assert len(source.test.labels) == 2 * classes
    arrays, manifest = prepare(module.Settings(name=name, path=str(tmp_path), validation_images=classes))
    assert arrays["train_images"].shape[1:] == (3, 32, 32)
    assert manifest["source"]["md5"] == cifar.tgz_md5

"""Tiny ImageNet and ImageNet, in small folders and archives of exactly their layouts with generated images."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from image_folders import FORMS, decoded, write_folder
from imagenet_folders import WNIDS, imagenet_tree, tiny_imagenet_tree
from lipscale.data.prepare import prepare
from lipscale.data.source import Source
from lipscale.data.sources import imagenet, tiny_imagenet
from lipscale.errors import LipscaleError
from lipscale.store.dataset import read_dataset, write_dataset


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)


def load_tiny(path) -> Source:
    return decoded(tiny_imagenet.load(tiny_imagenet.Settings(name="tiny_imagenet", path=str(path), validation_images=3)))


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_tiny_imagenet(form, tmp_path):
    content, source = tiny_imagenet_tree(), load_tiny(FORMS[form](tmp_path, tiny_imagenet_tree()))
    assert source.classes == sorted(WNIDS)
    assert source.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert source.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert source.train.images.shape == (6, 3, 64, 64)
    for row, name in enumerate(f"train/{c}/images/{c}_{i}.JPEG" for c in WNIDS for i in range(2)):
        assert (source.train.images[row] == pixels(content[f"tiny-imagenet-200/{name}"])).all()
    for row, number in enumerate((1, 4, 2, 3, 0, 5)):
        assert (source.test.images[row] == pixels(content[f"tiny-imagenet-200/val/images/val_{number}.JPEG"])).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"wnids.txt": None}, "holds 0 files wnids.txt"),
        ({"val/val_annotations.txt": None}, "holds 0 files val/val_annotations.txt"),
        ({"val/val_annotations.txt": b"val_0.JPEG\tn01443537\n"}, "val_1.JPEG in .* has no line in val/val_annotations.txt"),
        ({"wnids.txt": b"n01443537\nn01629819\n"}, "class 'n02124075' of .* is under val/ but not under train/"),
        ({"wnids.txt": b"\n".join(name.encode() for name in (*WNIDS, "n9"))}, "class 'n9' of .* has no images under train/"),
        ({"val/val_annotations.txt": b"".join(b"val_%d.JPEG\tn9\n" % i for i in range(6))}, "class 'n9' of .* is under val/"),
    ],
)
def test_tiny_imagenet_that_is_not_whole_is_named(change, said, tmp_path):
    content = tiny_imagenet_tree() | {f"tiny-imagenet-200/{name}": data for name, data in change.items()}
    folder = write_folder(tmp_path / "images", {name: data for name, data in content.items() if data is not None})
    with pytest.raises(LipscaleError, match=said):
        load_tiny(folder)


def load_imagenet(path, image_size: int = 32) -> Source:
    settings = imagenet.Settings(name="imagenet", path=str(path), validation_images=3, image_size=image_size)
    return decoded(imagenet.load(settings))


@pytest.mark.parametrize("flat", [False, True], ids=["folders", "flat"])
@pytest.mark.parametrize("form", ["folder", "tar"])
def test_imagenet(form, flat, tmp_path):
    content = imagenet_tree(flat)
    source = load_imagenet(FORMS[form](tmp_path, content))
    assert source.classes == list(WNIDS)
    assert source.train.labels.tolist() == source.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert source.train.images.shape == source.test.images.shape == (6, 3, 32, 32)
    if not flat:
        return
    other = load_imagenet(write_folder(tmp_path / "other", imagenet_tree(flat=False)))
    assert (source.test.images == other.test.images).all()
    assert (source.train.images == other.train.images).all()


@pytest.mark.parametrize(
    ("meta", "said"),
    [
        (None, "holds images in val/ itself and 0 files meta.bin"),
        (b"no meta", "meta.bin in .* cannot be read"),
        (({}, ["n01443537"]), "holds 6 images in val/, and meta.bin the classes of 1; allowed: as many"),
        (({}, "n01443537"), "cannot be read .*no list of classes"),
        (({}, ["n9"] * 6), "class 'n9' of .* is under val/ but not under train/"),
        (({}, [np.random.default_rng]), "meta.bin in .* cannot be read"),  # code, which is not run
    ],
)
def test_a_flat_imagenet_needs_the_classes_of_its_images(meta, said, tmp_path):
    content = imagenet_tree(flat=True)
    if meta is None:
        del content["meta.bin"]
    elif isinstance(meta, bytes):
        content["meta.bin"] = meta
    else:
        buffer = io.BytesIO()
        torch.save(meta, buffer)
        content["meta.bin"] = buffer.getvalue()
    with pytest.raises(LipscaleError, match=said):
        load_imagenet(write_folder(tmp_path / "images", content))


def test_they_are_prepared(tmp_path):
    path = write_folder(tmp_path / "images", tiny_imagenet_tree())
    settings = tiny_imagenet.Settings(name="tiny_imagenet", path=str(path), validation_images=3, image_size=16)
    write_dataset(tmp_path / "data", *prepare(settings))
    dataset = read_dataset(tmp_path / "data")
    assert {split: len(dataset.labels(split)) for split in dataset.splits} == {"train": 3, "validation": 3, "test": 6}
    assert dataset.image_shape == (3, 16, 16)

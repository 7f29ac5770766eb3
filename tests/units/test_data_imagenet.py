"""Tiny ImageNet and ImageNet, in small folders and archives of exactly their layouts with generated images."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from image_folders import FORMS, decoded, picture, write_folder
from lipscale.data.prepare import prepare
from lipscale.data.source import Source
from lipscale.data.sources import imagenet, tiny_imagenet
from lipscale.errors import LipscaleError
from lipscale.store.dataset import read_dataset, write_dataset

WNIDS = ("n01443537", "n01629819", "n02124075")
BOX = "\t0\t32\t44\t62"


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1)


def tiny() -> dict[str, bytes]:
    """Two training and two validation images of each class; images of test/ have no labels."""
    top, of_val = "tiny-imagenet-200", [WNIDS[number % 3] for number in (2, 0, 1, 1, 0, 2)]
    found = {f"{top}/wnids.txt": "\n".join(reversed(WNIDS)).encode(), f"{top}/words.txt": b"n01443537\tgoldfish\n"}
    for number, name in enumerate(WNIDS):
        found[f"{top}/train/{name}/{name}_boxes.txt"] = f"{name}_0.JPEG{BOX}".encode()
        for image in range(2):
            mode = "L" if image else "RGB"  # some of its images are grey
            found[f"{top}/train/{name}/images/{name}_{image}.JPEG"] = picture(mode, (64, 64), 10 * number + image, "jpeg")
    for number in range(6):
        found[f"{top}/val/images/val_{number}.JPEG"] = picture("RGB", (64, 64), 100 + number, "jpeg")
    lines = (f"val_{number}.JPEG\t{name}{BOX}\n" for number, name in enumerate(of_val))
    found[f"{top}/val/val_annotations.txt"] = "".join(lines).encode()
    return found | {f"{top}/test/images/test_0.JPEG": picture("RGB", (64, 64), 200, "jpeg")}


def load_tiny(path) -> Source:
    return decoded(tiny_imagenet.load(tiny_imagenet.Settings(name="tiny_imagenet", path=str(path), validation_images=3)))


@pytest.mark.parametrize("form", ["folder", "zip"])
def test_tiny_imagenet(form, tmp_path):
    content, source = tiny(), load_tiny(FORMS[form](tmp_path, tiny()))
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
    content = tiny() | {f"tiny-imagenet-200/{name}": data for name, data in change.items()}
    folder = write_folder(tmp_path / "images", {name: data for name, data in content.items() if data is not None})
    with pytest.raises(LipscaleError, match=said):
        load_tiny(folder)


def imagenet_tree(flat: bool) -> dict[str, bytes]:
    """Images of many sizes; of a flat val/, meta.bin has the classes in the order of the images' names."""
    found, synsets = {}, [WNIDS[number % 3] for number in (2, 0, 1, 1, 0, 2)]
    for number, name in enumerate(WNIDS):
        for image in range(2):
            found[f"train/{name}/{name}_{image}.JPEG"] = picture("RGB", (80 + 9 * image, 70), 10 * number + image, "jpeg")
    for number, name in enumerate(synsets):
        file = f"ILSVRC2012_val_{number + 1:08}.JPEG"
        found[f"val/{file}" if flat else f"val/{name}/{file}"] = picture("RGB", (90, 66), 100 + number, "jpeg")
    buffer = io.BytesIO()
    torch.save(({name: (name,) for name in WNIDS}, synsets), buffer)
    return found | ({"meta.bin": buffer.getvalue()} if flat else {})


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
    path = write_folder(tmp_path / "images", tiny())
    settings = tiny_imagenet.Settings(name="tiny_imagenet", path=str(path), validation_images=3, image_size=16)
    write_dataset(tmp_path / "data", *prepare(settings))
    dataset = read_dataset(tmp_path / "data")
    assert {split: len(dataset.labels(split)) for split in dataset.splits} == {"train": 3, "validation": 3, "test": 6}
    assert dataset.image_shape == (3, 16, 16)

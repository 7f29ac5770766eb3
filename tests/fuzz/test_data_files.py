"""Whatever is given as prepared data, or as images in an .npz file: it is read, or refused in one line."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from fuzzing import broken, examples, refused
from image_folders import tree, write_folder
from lipscale import config as configs
from lipscale.data.dataset import SPLITS
from lipscale.data.prepare import prepare
from lipscale.steps.images import read_images
from lipscale.store.checksums import record
from lipscale.store.dataset import ARRAYS, MANIFEST, array_file, read_dataset, write_dataset
from strategies import ANYTHING, mutated

KINDS = ["uint8", "int64", "int8", "uint64", "float16", "float32", "float64", "bool", "complex64", "U3", "M8[s]"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """Prepared data that are small enough to be written again and again."""
    folder = tmp_path_factory.mktemp("prepared")
    images = write_folder(folder / "images", tree())
    section = {"name": "imagefolder", "path": str(images), "validation_images": 2, "image_size": 2}
    write_dataset(folder, *prepare(configs.check_dataset(section)))
    return folder


def check_data(folder: Path) -> bool:
    """Whether they are read."""
    for name in (*map(array_file, ARRAYS), MANIFEST):  # or the checksums would refuse all of them, and nothing would be parsed
        record(folder / name)
    with refused("prepared data") as said:
        dataset = read_dataset(folder)
    if said:
        return False
    for split in SPLITS:
        assert dataset.images(split).shape == (len(dataset.labels(split)), *dataset.image_shape)
        assert 0 <= dataset.labels(split).min() <= dataset.labels(split).max() < dataset.class_count
    assert len(dataset.mean) == dataset.image_shape[0]
    return True


def copy(prepared: Path, folder: Path) -> None:
    for name in (*map(array_file, ARRAYS), MANIFEST):
        shutil.copy(prepared / name, folder)


def any_array() -> st.SearchStrategy:
    shapes = arrays_of.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3)
    return st.sampled_from(KINDS).flatmap(lambda kind: arrays_of.arrays(kind, shapes))


def test_whole_data(prepared):
    assert check_data(prepared)


@examples(80)
@given(st.data())
def test_damaged_arrays(prepared, tmp_path, data):
    copy(prepared, tmp_path)
    name = array_file(data.draw(st.sampled_from(ARRAYS)))
    (tmp_path / name).write_bytes(data.draw(broken((prepared / name).read_bytes())))
    check_data(tmp_path)


@examples(80)
@given(st.data())
def test_other_arrays(prepared, tmp_path, data):
    copy(prepared, tmp_path)
    np.save(tmp_path / array_file(data.draw(st.sampled_from(ARRAYS))), data.draw(any_array()))
    check_data(tmp_path)


@examples(100)
@given(st.data())
def test_damaged_manifest(prepared, tmp_path, data):
    copy(prepared, tmp_path)
    whole = (prepared / MANIFEST).read_bytes()
    if data.draw(st.booleans()):
        content = data.draw(broken(whole))
    else:
        try:
            content = json.dumps(data.draw(mutated([json.loads(whole)]) | ANYTHING)).encode()
        except (ValueError, TypeError, RecursionError):  # what is no JSON
            assume(False)
    (tmp_path / MANIFEST).write_bytes(content)
    check_data(tmp_path)


@examples(80)
@given(st.dictionaries(st.sampled_from(["images", "labels", "other"]), any_array(), max_size=3))
def test_any_images_of_a_user(tmp_path, arrays):
    path = tmp_path / "images.npz"
    np.savez(path, **arrays)
    with refused("images of a user") as said:
        images, labels = read_images(path)
    if not said:
        assert images.ndim == 4
        assert len(images) > 0
        assert labels is None or (labels.dtype == np.int64 and labels.shape == (len(images),))


@examples(50)
@given(st.data())
def test_damaged_images_of_a_user(tmp_path, data):
    path = tmp_path / "images.npz"
    np.savez(path, images=np.zeros((2, 1, 2, 2), dtype=np.uint8), labels=np.array([0, 1]))
    path.write_bytes(data.draw(broken(path.read_bytes())))
    with refused("images of a user"):
        read_images(path)

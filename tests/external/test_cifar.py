"""The real images of CIFAR-10, as an archive of JPEG files."""

import os

import numpy as np
import pytest

from lipscale.data.dataset import SPLITS
from lipscale.data.prepare import prepare
from lipscale.data.sources import imagefolder
from lipscale.store.dataset import read_dataset, write_dataset

pytestmark = pytest.mark.slow


def test_cifar_jpeg_archive(tmp_path):
    """All 60,000 images, where LIPSCALE_CIFAR10_JPEG names the archive."""
    path = os.environ.get("LIPSCALE_CIFAR10_JPEG")
    if not path:
        pytest.skip("LIPSCALE_CIFAR10_JPEG does not name cifar10-jpeg.tar.xz")
    settings = imagefolder.Settings(name="imagefolder", path=path, validation_images=5000)
    write_dataset(tmp_path, *prepare(settings), jobs=2)
    dataset = read_dataset(tmp_path)
    assert [len(dataset.labels(split)) for split in SPLITS] == [45000, 5000, 10000]
    assert dataset.image_shape == (3, 32, 32)
    assert dataset.mean == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.003)  # the known means of CIFAR-10
    assert np.bincount(dataset.labels("test")).tolist() == [1000] * 10

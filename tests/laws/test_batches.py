"""Batches: each epoch is a permutation, crop-flip shifts and flips, seeds have nothing in common."""

import threading

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from lipscale.training.batches import GIB, crop_flip, epoch_batches, epoch_seed, in_order, load_splits
from lipscale.training.stored import StoredImages
from training_stand_ins import digits


def test_crop_flip_shifts_and_flips():
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).reshape(2, 3, 8, 8) + 1
    seen = set()
    for seed in range(60):
        after = crop_flip(images, torch.Generator().manual_seed(seed))
        assert after.shape == images.shape
        for before, image in zip(images, after, strict=True):
            padded = pad(before, (1, 1, 1, 1))
            options = {
                (row, column, flip): (part.flip(2) if flip else part)
                for row in range(3)
                for column in range(3)
                for flip in (False, True)
                for part in [padded[:, row : row + 8, column : column + 8]]
            }
            seen |= {key for key, option in options.items() if torch.equal(option, image)}
    assert len(seen) == 18


def test_every_epoch_sees_every_image_once_in_a_new_order():
    labels = torch.arange(1000)  # the number of each image, also in two of its pixels
    images = torch.stack([labels // 250, labels % 250], dim=1).to(torch.uint8).reshape(1000, 2, 1, 1)
    orders = []
    for epoch in range(2):
        batches = list(epoch_batches(images, labels, 128, "none", epoch_seed(0, epoch)))
        assert [len(part) for _, part in batches] == [128] * 7 + [104]
        for pixels, part in batches:
            assert pixels.dtype == torch.float32
            assert torch.equal(pixels[:, 0, 0, 0] * 255 * 250 + pixels[:, 1, 0, 0] * 255, part.float())
        orders.append(torch.cat([part for _, part in batches]))
    assert all(order.sort().values.equal(labels) for order in orders)
    assert (orders[0] != orders[1]).float().mean() > 0.9


def test_augmentation_does_not_change_the_order():
    images, labels = torch.zeros(100, 1, 8, 8, dtype=torch.uint8), torch.arange(100)
    plain, augmented = (
        [part for _, part in epoch_batches(images, labels, 30, augmentation, 7)] for augmentation in ("none", "crop-flip")
    )
    assert all(map(torch.equal, plain, augmented))


@pytest.fixture
def stored(tmp_path) -> tuple[torch.Tensor, torch.Tensor, StoredImages]:
    """Images and labels in memory, and the same images in two files."""
    images = np.random.default_rng(0).integers(0, 256, (1000, 3, 8, 8), dtype=np.uint8)
    for name, part in (("a", images[:700]), ("b", images[700:])):
        np.save(tmp_path / f"{name}.npy", part)
    mapped = [StoredImages([np.load(tmp_path / f"{name}.npy", mmap_mode="r")], torch.device("cpu")) for name in "ab"]
    return torch.from_numpy(images), torch.arange(1000), StoredImages.joined(mapped)


@pytest.mark.parametrize("augmentation", ["none", "crop-flip"])
def test_batches_from_the_disk_are_those_from_memory(augmentation, stored):
    images, labels, on_disk = stored
    there, here = (list(epoch_batches(source, labels, 128, augmentation, 7)) for source in (on_disk, images))
    assert len(there) == len(here) == 8
    for one, other in zip(there, here, strict=True):
        assert all(map(torch.equal, one, other))


def test_parts_from_the_disk_are_in_order(stored):
    images, _, on_disk = stored
    assert on_disk.shape == images.shape
    assert torch.equal(torch.cat(list(in_order(on_disk))), images)


def test_an_epoch_from_the_disk_may_stop_early(stored):
    _, labels, on_disk = stored
    before = threading.active_count()
    batches = epoch_batches(on_disk, labels, 128, "none", 7)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_memory_decides_where_images_are():
    dataset = digits()
    size = sum(dataset.images(split).nbytes for split in ("train", "validation")) / GIB
    for bound, kind in ((size, torch.Tensor), (size * 0.99, StoredImages)):
        for images, labels in load_splits(dataset, torch.device("cpu"), bound):
            assert isinstance(images, kind)
            assert images.shape[0] == len(labels)


def test_seeds_and_epochs_have_nothing_in_common():
    seeds = [epoch_seed(seed, epoch, stream) for seed in range(30) for epoch in range(30) for stream in (0, 1)]
    assert len(set(seeds)) == 1800
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert 62 < np.log2(max(seeds)) < 63

"""The batches of an epoch. Their order and augmentation depend on (seed, epoch) alone, so that no generator has to be saved."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import pad

from lipscale.data.dataset import take_rows
from lipscale.evaluation.logits import evaluation_batch
from lipscale.training.stored import StoredImages
from lipscale.units import pixels

if TYPE_CHECKING:
    from lipscale.data.dataset import Dataset

Images = torch.Tensor | StoredImages
SPLITS = ("train", "validation")

GIB = 2**30


def load_splits(dataset: "Dataset", device: torch.device, in_memory_gib: float) -> list[tuple[Images, torch.Tensor]]:
    """uint8 images and int64 labels of the training and validation splits.

    Labels are on the device. Images are there too if both splits together take at most `in_memory_gib`; if they take more,
    their batches are read when they are wanted.
    """
    arrays = [dataset.images(split) for split in SPLITS]
    if sum(array.nbytes for array in arrays) <= in_memory_gib * GIB:
        images = [torch.from_numpy(take_rows(array, slice(None))).to(device) for array in arrays]
    else:
        images = [StoredImages([array], device) for array in arrays]
    labels = (torch.from_numpy(dataset.labels(split)).to(device) for split in SPLITS)
    return list(zip(images, labels, strict=True))


def in_order(images: Images, first: int = 0, step: int = 1) -> Iterable[torch.Tensor]:
    """All images in parts for a pass without gradients; with `first` and `step`, every step-th part from that number on."""
    if isinstance(images, StoredImages):
        return images.gather(torch.arange(images.shape[0]).split(part_size(images))[first::step])
    return images.split(part_size(images))[first::step]


def part_size(images: Images) -> int:
    """Images of a part of `in_order`; the last one may have fewer."""
    return evaluation_batch(images.shape[1:])


def epoch_seed(seed: int, epoch: int, stream: int = 0) -> int:
    """A seed for each (seed, epoch) and stream, in [0, 2^63); neighbours have nothing in common.

    Args:
        seed: of the run.
        epoch: number of finished epochs.
        stream: 0 for the order and augmentation of images, 1 for the random numbers of an objective.
    """
    key = [seed, epoch, stream] if stream else [seed, epoch]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def epoch_batches(
    images: Images,
    labels: torch.Tensor,
    batch_size: int,
    augmentation: str,
    seed: int,
    kept: Callable[[int], slice] = lambda size: slice(0, size),
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Every image once, in an order that the seed gives; batches on the device of the images.

    Args:
        images: uint8, (images, C, H, W), a tensor or stored.
        labels: int64, (images,).
        batch_size: images of a batch; the last batch may have fewer.
        augmentation: `none` or `crop-flip`.
        seed: of the epoch, see `epoch_seed`.
        kept: which images of a batch of so many are wanted; order and augmentation are those of whole batches all the same.

    Yields:
        Images (B, C, H, W), float32 in [0, 1], and labels (B,).
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    whole, stored = order.to(labels.device).split(batch_size), isinstance(images, StoredImages)
    batches = [batch[kept(len(batch))] for batch in (order.split(batch_size) if stored else whole)]
    with closing(images.gather(batches) if stored else (images[batch] for batch in batches)) as parts:
        for batch, part in zip(whole, parts, strict=True):
            chosen, own = pixels(part), kept(len(batch))
            augmented = crop_flip(chosen, generator, len(batch), own) if augmentation == "crop-flip" else chosen
            yield augmented, labels[batch[own]]


def crop_flip(
    images: torch.Tensor, generator: torch.Generator, size: int | None = None, kept: slice = slice(None)
) -> torch.Tensor:
    """Each image shifted by up to an eighth of its side, zeros moving in, and flipped left to right half of the time.

    Args:
        images: (B, C, H, W), on any device; all are handled at once.
        generator: on the CPU, so that the choices do not depend on the device.
        size: of the batch, where the images are a part of it: `kept`.

    Returns:
        (B, C, H, W).
    """
    count, _, height, width = images.shape
    reach = height // 8
    drawn = count if size is None else size
    shifts = torch.randint(0, 2 * reach + 1, (2, drawn), generator=generator)[:, kept]
    flips = torch.rand(drawn, generator=generator)[kept] < 0.5
    rows = shifts[0][:, None] + torch.arange(height)  # (B, H), into the padded image
    columns = shifts[1][:, None] + torch.arange(width)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    padded = pad(images, (reach, reach, reach, reach))
    index = torch.arange(count, device=images.device)[:, None, None]
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()

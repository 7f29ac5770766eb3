"""The batches of an epoch. Their order and augmentation depend on (seed, epoch) alone, so that no generator has to be saved."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import pad

from lipscale.units import pixels

if TYPE_CHECKING:
    from lipscale.data.dataset import Dataset

EVALUATION_BATCH = 1000  # images of a pass without gradients


def split_tensors(dataset: "Dataset", split: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images and int64 labels of a split on a device."""
    return torch.from_numpy(dataset.images(split)).to(device), torch.from_numpy(dataset.labels(split)).to(device)


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
    images: torch.Tensor, labels: torch.Tensor, batch_size: int, augmentation: str, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Every image once, in an order that the seed gives; batches on the device of the images.

    Args:
        images: uint8, (images, C, H, W).
        labels: int64, (images,).
        batch_size: images of a batch; the last batch may have fewer.
        augmentation: `none` or `crop-flip`.
        seed: of the epoch, see `epoch_seed`.

    Yields:
        Images (B, C, H, W), float32 in [0, 1], and labels (B,).
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator).to(images.device)
    for batch in order.split(batch_size):
        chosen = pixels(images[batch])
        yield crop_flip(chosen, generator) if augmentation == "crop-flip" else chosen, labels[batch]


def crop_flip(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image shifted by up to an eighth of its side, zeros moving in, and flipped left to right half of the time.

    Args:
        images: (B, C, H, W), on any device; all are handled at once.
        generator: on the CPU, so that the choices do not depend on the device.

    Returns:
        (B, C, H, W).
    """
    count, _, height, width = images.shape
    reach = height // 8
    shifts = torch.randint(0, 2 * reach + 1, (2, count), generator=generator)
    flips = torch.rand(count, generator=generator) < 0.5
    rows = shifts[0][:, None] + torch.arange(height)  # (B, H), into the padded image
    columns = shifts[1][:, None] + torch.arange(width)
    columns = torch.where(flips[:, None], columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    padded = pad(images, (reach, reach, reach, reach))
    index = torch.arange(count, device=images.device)[:, None, None]
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()

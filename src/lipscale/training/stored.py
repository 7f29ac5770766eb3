"""Images that do not fit in memory: their batches are read in the background, from memory-mapped arrays."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from lipscale.data.dataset import take_rows

AHEAD = 4  # batches that are read before they are wanted, each in a thread: numpy copies without holding the interpreter


class StoredImages:
    """uint8 images of one or more arrays, one after the other, whose batches come as tensors on a device.

    Args:
        parts: (images, C, H, W) each, memory-mapped.
        device: that batches are copied to, from page-locked memory where it is a GPU.
    """

    def __init__(self, parts: Sequence[np.ndarray], device: torch.device):
        self.parts, self.device = list(parts), device
        self.starts = np.cumsum([0, *map(len, self.parts)])

    @classmethod
    def joined(cls, images: Sequence["StoredImages"]) -> "StoredImages":
        """All images of several, one after the other."""
        return cls([part for one in images for part in one.parts], images[0].device)

    @property
    def shape(self) -> tuple[int, ...]:
        """(images, C, H, W)."""
        return (int(self.starts[-1]), *self.parts[0].shape[1:])

    def gather(self, batches: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The images of each batch of numbers, in order. The next AHEAD batches are read while one is used."""
        waiting = deque()
        with ThreadPoolExecutor(AHEAD) as pool:
            try:
                for batch in batches:
                    waiting.append(pool.submit(self._read, batch.numpy()))
                    if len(waiting) > AHEAD:
                        yield self._sent(waiting.popleft().result())
                while waiting:
                    yield self._sent(waiting.popleft().result())
            finally:  # the user may stop before the last batch
                for future in waiting:
                    future.cancel()

    def _read(self, numbers: np.ndarray) -> torch.Tensor:
        if len(self.parts) == 1:
            rows = take_rows(self.parts[0], numbers)
        else:
            rows, part_of = None, np.searchsorted(self.starts, numbers, side="right") - 1
            for part in np.unique(part_of):
                found = take_rows(self.parts[part], numbers[part_of == part] - self.starts[part])
                rows = np.empty((len(numbers), *found.shape[1:]), np.uint8) if rows is None else rows
                rows[part_of == part] = found
        tensor = torch.from_numpy(rows)
        return tensor.pin_memory() if self.device.type == "cuda" else tensor

    def _sent(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device, non_blocking=True)

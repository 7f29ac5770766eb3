"""Parts of a batch, for several processes or for gradients that are summed up, and random numbers that are those of the whole.

The loss of a batch of n images is a mean over them. So is its gradient: that of the batch is the sum of (n_k / n) grad_k over
parts of n_k images with mean gradients grad_k, whatever the n_k.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise

import torch


@dataclass(frozen=True)
class Share:
    """The images from `start` to before `stop` of a batch of `size`.

    Attributes:
        weight: of their mean loss in that of the batch.
    """

    start: int
    stop: int
    size: int
    weight: float

    @property
    def whole(self) -> bool:
        return self.stop - self.start == self.size and self.weight == 1


_drawn = ContextVar("drawn", default=None)


def shares(size: int, parts: int) -> list[Share]:
    """A batch of `size` images in `parts` of nearly equal size, in order.

    Where there are fewer images than parts, the parts that are left get the last image with weight 0: every process has to take
    part in every step.
    """
    each, more = divmod(size, parts)
    bounds = [part * each + min(part, more) for part in range(parts + 1)]
    return [
        Share(start, stop, size, (stop - start) / size) if stop > start else Share(size - 1, size, size, 0.0)
        for start, stop in pairwise(bounds)
    ]


def span(parts: Sequence[Share]) -> slice:
    """The images of neighbouring shares of a batch."""
    return slice(parts[0].start, parts[-1].stop)


@contextmanager
def drawn_for(share: Share) -> Iterator[None]:
    """Within the block, `normal_like` and `uniform_for` return what the images of the share get where the batch is whole."""
    token = _drawn.set(None if share.whole else share)
    try:
        yield
    finally:
        _drawn.reset(token)


def normal_like(images: torch.Tensor) -> torch.Tensor:
    """Standard normal numbers in the shape of the images of a batch, from torch's generator."""
    share = _drawn.get()
    if share is None:
        return torch.randn_like(images)
    return torch.randn(share.size, *images.shape[1:], device=images.device, dtype=images.dtype)[share.start : share.stop]


def uniform_for(images: torch.Tensor) -> torch.Tensor:
    """A number in [0, 1) for each image of a batch, (B,), from torch's generator."""
    share, how = _drawn.get(), {"device": images.device, "dtype": images.dtype}
    if share is None:
        return torch.rand(len(images), **how)
    return torch.rand(share.size, **how)[share.start : share.stop]

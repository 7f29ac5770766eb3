"""The processes that train one network: each takes a share of every batch, and their gradients are summed.

Weights, L and the order of images are the same in all of them. What one process decides alone (T*, the next L) is that of the
first. One process is the same without anything to exchange.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from lipscale.training.shares import Share, shares

Value = TypeVar("Value")

# `lipscale.launch` ends a wait for a process that has died. The first process may wait long for a lock, or export a model.
LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True)
class Processes:
    """This process among those that train one network.

    Attributes:
        rank: its number, from 0.
        count: of all.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def shares(self, size: int, accumulate: int) -> list[Share]:
        """The shares of a batch of `size` images that this process computes, one after the other."""
        if self.count * accumulate == 1:
            return [Share(0, size, size, 1.0)]
        return shares(size, self.count * accumulate)[self.rank * accumulate : (self.rank + 1) * accumulate]

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network, whose gradients become the mean over all processes at the end of a backward pass."""
        if self.count == 1:
            return network
        # Buffers are functions of weights and L, which are the same everywhere. Batches and networks are on one device each.
        return DistributedDataParallel(network, broadcast_buffers=False)

    def without_exchange(self, parallel: nn.Module) -> AbstractContextManager:
        """Backward passes whose gradients stay in this process, to be exchanged with those of a later one."""
        return nullcontext() if self.count == 1 else parallel.no_sync()

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.count > 1:
            distributed.all_reduce(tensor)
        return tensor

    def of_first(self, value: Value, device: torch.device | None = None) -> Value:
        """The value that the first process has."""
        if self.count == 1:
            return value
        values = [value if self.first else None]
        distributed.broadcast_object_list(values, device=device)
        return values[0]


ALONE = Processes()


@contextmanager
def joined(device: torch.device) -> Iterator[Processes]:
    """This process among those that `torchrun` has started; NCCL connects GPUs, gloo connects CPUs."""
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    yield Processes(distributed.get_rank(), distributed.get_world_size())
    distributed.destroy_process_group()  # not after an error, when others may be waiting for this process

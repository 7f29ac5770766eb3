"""The devices that training and evaluation run on."""

import torch

from lipscale.errors import LipscaleError


def select_device(name: str, processes: int = 1, rank: int = 0) -> torch.device:
    """The device `cpu` or `cuda`; of several processes each has a GPU of its own.

    Raises:
        LipscaleError: torch finds no GPU, or fewer than there are processes.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise LipscaleError("compute.device is cuda, but torch finds no GPU here; allowed: a machine with a GPU, or cpu")
    if processes == 1:
        return torch.device(name)
    if name == "cuda" and (found := torch.cuda.device_count()) < processes:
        raise LipscaleError(
            f"compute.gpus is {processes}, but torch finds {found} here; allowed: at most {found}, or a machine with more GPUs"
        )
    return torch.device(name, rank) if name == "cuda" else torch.device(name)

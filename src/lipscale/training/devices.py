"""The device that training and evaluation run on."""

import torch

from lipscale.errors import LipscaleError


def select_device(name: str) -> torch.device:
    """The device `cpu` or `cuda`.

    Raises:
        LipscaleError: torch finds no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise LipscaleError("compute.device is cuda, but torch finds no GPU here; allowed: a machine with a GPU, or cpu")
    return torch.device(name)

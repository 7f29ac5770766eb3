"""Networks by the name under which they were published, or by the path of their file."""

from pathlib import Path

import torch

from lipscale.certification import model_file
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.store.published import find


def load(model: str | Path, device: str | torch.device = "cpu") -> PlainNetwork:
    """Read a network that `lipscale.save` wrote, or a published one.

    Args:
        model: path of a .safetensors file, or the name of a published network, EXPERIMENT/RUN, such as
            `digits/list-1-seed0`. A path that exists comes first.
        device: where its weights go.

    Raises:
        LipscaleError: there is no such network, or the file is not a network, whole and finite.
    """
    return model_file.load(find(model), device)

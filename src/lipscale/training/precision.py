"""Mixed precision: layers in bfloat16, orthogonalisation in float32."""

import torch
from torch import nn
from torch.nn.utils import parametrize


def fast_logits(network: nn.Module, images: torch.Tensor, precision: str) -> torch.Tensor:
    """Logits for training, float32. Weights are always orthogonalised in float32, as Cholesky factors fail in bfloat16.

    Args:
        network: its modules may have parametrized weights.
        images: (B, C, H, W).
        precision: of the passes through the layers, `float32` or `bf16`.

    Returns:
        (B, classes).
    """
    if precision == "float32":
        return network(images)
    with parametrize.cached():
        for module in network.modules():
            if parametrize.is_parametrized(module):
                module.weight  # noqa: B018 (computed here, outside autocast, and kept until the end of the block)
        with torch.autocast(images.device.type, torch.bfloat16):
            return network(images).float()

"""Mixed precision: layers in bfloat16, orthogonalisation in float32. And weights that are kept for several passes."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn
from torch.nn.utils import parametrize

_kept = ContextVar("kept", default=False)


@contextmanager
def orthogonalised_once() -> Iterator[None]:
    """Within the block each weight is orthogonalised once, for an attack and the loss at its points.

    The first pass must record gradients (not be under torch.no_grad), since the loss reuses its weights.
    """
    token = _kept.set(True)
    try:
        with parametrize.cached():
            yield
    finally:
        _kept.reset(token)


def fast_logits(network: nn.Module, images: torch.Tensor, precision: str) -> torch.Tensor:
    """Logits for training, float32. Weights are always orthogonalised in float32, as Cholesky factors fail in bfloat16.

    Args:
        network: its modules may have parametrized weights.
        images: (B, C, H, W).
        precision: of the passes through the layers, `float32` or `bf16`.

    Returns:
        (B, classes).
    """
    if precision == "float32" and not _kept.get():
        return network(images)
    with parametrize.cached():
        for module in network.modules():
            # Computed here, and kept until the end of the block: outside autocast, and outside a compiled pass, whose graph is
            # freed by the first gradient of an attack. Layers of other libraries have other parametrized tensors than `weight`.
            for name in module.parametrizations if parametrize.is_parametrized(module) else ():
                getattr(module, name)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
            return network(images).float()

"""A step of the optimiser: the gradient of a batch, from the shares of it that this process computes."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import torch

from lipscale.method.offset import logit_offset, offset_logits
from lipscale.training.precision import fast_logits
from lipscale.training.shares import Share, drawn_for

if TYPE_CHECKING:
    from lipscale.training.epochs import Training


def take_step(
    training: "Training", images: torch.Tensor, labels: torch.Tensor, lipschitz: float, parts: Sequence[Share]
) -> torch.Tensor:
    """One step of the optimiser; returns what `parts` add to the loss of the batch, a scalar without gradient.

    Args:
        images: (B, C, H, W), those of `parts`.
        labels: (B,).
        lipschitz: the L of the network now.
        parts: neighbouring shares of the batch, those of this process.
    """
    training.network.train()
    training.optimizer.zero_grad()
    if len(parts) == 1:
        loss = _backward(training, images, labels, lipschitz, parts[0])
    else:
        loss = _accumulated(training, images, labels, lipschitz, parts)
    training.optimizer.step()
    return loss


def _accumulated(
    training: "Training", images: torch.Tensor, labels: torch.Tensor, lipschitz: float, parts: Sequence[Share]
) -> torch.Tensor:
    """Gradients of several shares, summed; processes exchange the sums once. All shares draw the numbers of one batch."""
    before, losses = _generator_state(training.device), []
    for number, share in enumerate(parts):
        with ExitStack() as stack:
            if number:
                _set_generator_state(training.device, before)
            if number < len(parts) - 1:
                stack.enter_context(training.processes.without_exchange(training.parallel))
            own = slice(share.start - parts[0].start, share.stop - parts[0].start)
            losses.append(_backward(training, images[own], labels[own], lipschitz, share))
    return torch.stack(losses).sum()


def _backward(training: "Training", images: torch.Tensor, labels: torch.Tensor, lipschitz: float, share: Share) -> torch.Tensor:
    """Add the gradient of a share to that of the parameters; returns what the share adds to the loss of the batch."""
    run = training.run
    settings = run.training
    xi = logit_offset(settings.offset, settings.offset_unit, lipschitz) if settings.offset else 0.0

    def forward(images: torch.Tensor) -> torch.Tensor:
        logits = fast_logits(training.forward, images, run.compute.precision)
        return offset_logits(logits, labels, xi) if xi else logits

    with drawn_for(share):
        loss = training.objective.loss(forward, images, labels, settings.objective, lipschitz)
    divided = loss / lipschitz if settings.divide_loss and training.method.constrained else loss
    weight = share.weight * training.processes.count  # as the exchange takes the mean over processes, not the sum
    (divided if weight == 1 else weight * divided).backward()
    return loss.detach() if share.weight == 1 else share.weight * loss.detach()


def _generator_state(device: torch.device) -> torch.Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_generator_state(device: torch.device, state: torch.Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)

"""AutoAttack (Croce and Hein, ICML 2020), standard version, l2, through pyautoattack: one batch at one epsilon.

The attacked logits are divided by a temperature: at large L cross-entropy saturates, and FAB ignores gradients below 1e-8, so
that an attack on raw logits would overstate robustness. Predictions do not depend on it.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from pyautoattack import AutoAttack
from torch import nn
from tqdm import tqdm

from lipscale.certification.norms import gamma
from lipscale.evaluation.logits import exact_logits
from lipscale.progress import describe
from lipscale.units import distance, exact_pixels, pixels

if TYPE_CHECKING:
    from lipscale.certification.plain_layers import PlainNetwork

STAGES = ("apgd-ce", "apgd-t", "fab-t", "square")  # the standard version
FEWEST_CLASSES = 4  # of the targeted DLR loss in apgd-t, which is left out with fewer
MOST_TARGETS = 9  # classes that the targeted attacks try, the most likely ones first


def stages_for(classes: int) -> tuple[str, ...]:
    """The stages of AutoAttack that a network with so many classes can be attacked with."""
    return STAGES if classes >= FEWEST_CLASSES else tuple(stage for stage in STAGES if stage != "apgd-t")


class Calibrated(nn.Module):
    """The logits of a network divided by a temperature."""

    def __init__(self, network: nn.Module, temperature: float):
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images) / self.temperature


def attack_batch(
    model: nn.Module,
    images: torch.Tensor,
    labels: torch.Tensor,
    epsilon: float,
    stages: Sequence[str],
    seed: int,
    progress: tqdm,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attack images with one stage after the other; those that fall are not attacked by the next.

    Args:
        model: in float32, on the device of the images.
        images: (images, channels, height, width), float32 pixels in [0, 1].
        labels: (images,).
        epsilon: l2 budget in 1/255.
        progress: a bar, advanced by one for each stage.

    Returns:
        The images, perturbed by the first stage that changed their class, if any did; and a mask (images,) of those that
        survived all stages.
    """
    end = progress.n + len(stages)
    attack = AutoAttack(model, norm="L2", eps=distance(epsilon), seed=seed, device=images.device, version="standard")
    attack.attacks_to_run = list(stages)
    targets = min(MOST_TARGETS, model(images[:1]).shape[1] - 1)
    attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = targets
    keep_windows(attack)
    attack.square.perturb = torch.inference_mode()(attack.square.perturb)  # Square needs no gradients
    with _shown_stages(progress, epsilon):
        found, predictions = attack.run_standard_evaluation(images, labels, batch_size=len(labels))
    progress.update(end - progress.n)
    return found, predictions == labels


def keep_windows(attack: AutoAttack) -> None:
    """Let Square compute its windows once for each size, not in each of its 5,000 steps: a fifth of its time, same numbers."""
    attack.square.eta_rectangles = cache(attack.square.eta_rectangles)


@torch.no_grad()
def broken(
    network: "PlainNetwork", images: np.ndarray, labels: np.ndarray, radii: np.ndarray, found: torch.Tensor
) -> torch.Tensor:
    """Which certificates are refuted, a mask (images,): the class has changed at a distance below the radius, in float64.

    A computed norm may be too small by the factor 1 - gamma_{n + 2}, n the number of pixels, so it is raised first.

    Args:
        network: in float64.
        images: uint8 or floating in [0, 1], (images, channels, height, width).
        labels, radii: (images,).
        found: perturbed images, float32 or float64, on the device of the network.
    """
    found = found.double()
    original = exact_pixels(torch.from_numpy(images).to(found.device))
    norms = (found - original).flatten(1).norm(dim=1).cpu() * (1 + gamma(original[0].numel() + 3))
    other = exact_logits(network, found, found.device).argmax(1) != torch.from_numpy(labels)
    return other & (norms < torch.from_numpy(radii))


def single_pixels(images: torch.Tensor) -> torch.Tensor:
    """uint8 or floating images as float32 pixels in [0, 1]."""
    return images.float() if images.is_floating_point() else pixels(images)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Convolutions on a GPU in full float32: the rounding of TF32 is that of ten bits."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


@contextmanager
def _shown_stages(progress: tqdm, epsilon: float) -> Iterator[None]:
    """Advance the bar with each stage that AutoAttack reports to its logger, and pass its warnings on."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if message.startswith("running "):
                describe(progress, f"eps={epsilon:.0f}/255, {message.removeprefix('running ')}")
            elif message.startswith("robust accuracy after"):
                progress.update()
            elif record.levelno >= logging.WARNING:
                progress.write(f"AutoAttack: {message}", file=sys.stderr)

    logger, handler = logging.getLogger("auto-attack"), Handler()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate

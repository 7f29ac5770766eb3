"""Warm-ups: find an L that fits the initial weights before training, so that L0 does not shape the weights."""

import copy
import time
from typing import TYPE_CHECKING

from lipscale.method import warmup

if TYPE_CHECKING:
    from lipscale.training.loop import Training


def warm_up(training: "Training") -> None:
    """Move from L0 to an L that fits the initial weights, by `run.feedback.warmups` warm-ups; methods with feedback only.

    A warm-up trains the first steps of epoch 1 with some updates of L (see `lipscale.method.warmup`), and then restores the
    initial weights and optimiser. Only L, the measurements and `training.warmup_seconds` change.

    Raises:
        LipscaleError: the loss or the logits are no longer finite.
    """
    start = time.perf_counter()
    steps = warmup.steps(training.steps_per_epoch)
    count = training.run.feedback.warmups if training.method.feedback else 0
    network, optimizer = copy.deepcopy((training.network.state_dict(), training.optimizer.state_dict()))
    for number in range(count):
        training.train_steps(steps, warmup.UPDATE_STEPS, lambda step, first=number - count: first + step / steps)
        lipschitz = training.network.lipschitz
        training.network.load_state_dict(network)
        training.optimizer.load_state_dict(copy.deepcopy(optimizer))
        training.network.lipschitz = lipschitz
    training.warmup_seconds = time.perf_counter() - start

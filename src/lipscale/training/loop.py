"""One training loop for all methods: LiST is the loop with the feedback, fixed L the same loop without it.

After each epoch the whole state is handed to the caller as bytes. A run killed at any moment can be resumed from its last
epoch and ends with the same numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lipscale.networks.network import LipschitzNetwork
from lipscale.progress import bar, describe
from lipscale.training import checkpoint
from lipscale.training.epochs import Training
from lipscale.training.warmup import warm_up

if TYPE_CHECKING:
    from lipscale.config import Run
    from lipscale.data.dataset import Dataset

__all__ = ["Trained", "Training", "train"]


@dataclass(frozen=True)
class Trained:
    """A finished run.

    Attributes:
        network: with the L of the last update, on the device of training.
        history: a row of history.csv per epoch.
        measurements: a row of feedback.csv per measurement of T*.
        seconds: of warm-ups and training, including measurements.
        feedback_seconds: of the measurements alone.
        parameters: number of trained numbers.
    """

    network: LipschitzNetwork
    history: list[dict[str, float]]
    measurements: list[dict[str, float]]
    seconds: float
    feedback_seconds: float
    parameters: int


def train(run: "Run", dataset: "Dataset", device: torch.device, state: bytes | None, save: Callable[[bytes], None]) -> Trained:
    """Train one run to the end, or resume it.

    Args:
        run: one of `config.runs`.
        dataset: the prepared data set.
        device: see `lipscale.training.devices`.
        state: what `save` got last; None to start from the beginning.
        save: gets the whole state after each epoch.

    Raises:
        checkpoint.UnreadableState: a ValueError: `state` is no state of this run; nothing was trained.
        LipscaleError: loss, weights or logits are no longer finite. The state of the last good epoch was saved.
    """
    torch.set_num_threads(run.compute.threads)
    training = Training(run, dataset, device)
    if state is not None:
        checkpoint.restore(training, state)
    if not training.history:
        warm_up(training)
    _train_epochs(training, save)
    return Trained(
        training.network,
        [row.flat() for row in training.history],
        [row.flat() for row in training.measurements],
        seconds=training.warmup_seconds + sum(row.seconds for row in training.history),
        feedback_seconds=sum(row.seconds for row in training.measurements),
        parameters=sum(parameter.numel() for parameter in training.network.parameters()),
    )


def _train_epochs(training: Training, save: Callable[[bytes], None]) -> None:
    """The epochs that are left, with a progress bar."""
    run, steps = training.run, training.steps_per_epoch
    total, done = run.training.epochs * steps, len(training.history) * steps
    with bar(name=run.run, total=total, initial=done, unit="step") as progress:
        while len(training.history) < run.training.epochs:
            row = training.epoch(after_step=progress.update)
            save(checkpoint.to_bytes(training))
            values = f"loss={row.train_loss:.3f}, L={row.next_lipschitz:.3g}, T={row.temperature:.3f}"
            describe(progress, f"epoch {row.epoch}/{run.training.epochs}, {values}")

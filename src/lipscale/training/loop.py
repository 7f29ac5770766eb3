"""One training loop for all methods: LiST is the loop with the feedback, fixed L the same loop without it.

After each epoch the whole state is handed to the caller as bytes. A run killed at any moment can be resumed from its last
epoch and ends with the same numbers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from lipscale.networks.network import LipschitzNetwork
from lipscale.progress import bar, describe
from lipscale.training import checkpoint
from lipscale.training.control import Recorded
from lipscale.training.epochs import Training
from lipscale.training.processes import ALONE, Processes
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
        returned_after: the epoch after which the validation split was returned to training; None: it was held out.
    """

    network: LipschitzNetwork
    history: list[dict[str, float]]
    measurements: list[dict[str, float]]
    seconds: float
    feedback_seconds: float
    parameters: int
    returned_after: int | None


def train(
    run: "Run",
    dataset: "Dataset",
    device: torch.device,
    state: bytes | None,
    save: Callable[[bytes], None],
    recorded: Recorded = (),
    processes: Processes = ALONE,
) -> Trained:
    """Train one run to the end, or resume it.

    Args:
        run: one of `config.runs`.
        dataset: the prepared data set.
        device: see `lipscale.training.devices`.
        state: what `save` got last; None to start from the beginning.
        save: gets the whole state after each epoch; of several processes, only that of the first is called.
        recorded: updates of the run that this one replays, see `lipscale.training.control`.
        processes: that train the run together, each of which calls this function with the same `state`.

    Raises:
        checkpoint.UnreadableState: a ValueError: `state` is no state of this run; nothing was trained.
        LipscaleError: loss, weights or logits are no longer finite. The state of the last good epoch was saved.
    """
    torch.set_num_threads(run.compute.threads)
    training = Training(run, dataset, device, recorded, processes)
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
        returned_after=training.returned_after,
    )


def _train_epochs(training: Training, save: Callable[[bytes], None]) -> None:
    """The epochs that are left, with a progress bar; a return of the validation split changes how many steps they have."""
    run, done = training.run, _steps_done(training)
    left = training.epochs_left * training.steps_per_epoch
    first = training.processes.first
    with bar(name=run.run, total=done + left, initial=done, unit="step", shown=first) as progress:
        while training.epochs_left:
            row = training.epoch(after_step=progress.update)
            progress.total = progress.n + training.epochs_left * training.steps_per_epoch
            if first:
                save(checkpoint.to_bytes(training))
            values = f"loss={row.train_loss:.3f}, L={row.next_lipschitz:.3g}"
            values += "" if row.temperature is None else f", T={row.temperature:.3f}"
            describe(progress, f"epoch {row.epoch}/{row.epoch + training.epochs_left}, {values}")


def _steps_done(training: Training) -> int:
    """Training steps of the history: an epoch has more of them after the return of the validation split."""
    images, returned = len(training.labels), sum(row.returned for row in training.history)
    if training.returned_after is not None:
        images -= len(training.validation_labels)
    held_out = (len(training.history) - returned) * math.ceil(images / training.run.training.batch_size)
    return held_out + returned * training.steps_per_epoch

"""Epochs: training steps, measurements of T*, updates of L. Randomness is a function of (seed, epoch) alone."""

import math
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING

import torch

from lipscale import discovery
from lipscale.errors import LipscaleError
from lipscale.method.feedback import LipschitzFeedback, Update
from lipscale.method.methods import METHODS
from lipscale.method.temperature import fit_temperature
from lipscale.networks.network import LipschitzNetwork, build_network
from lipscale.training.batches import epoch_batches, epoch_seed, load_splits
from lipscale.training.control import Recorded, control
from lipscale.training.processes import ALONE, Processes
from lipscale.training.returning import return_if_converged
from lipscale.training.rows import EpochRow, Measurement
from lipscale.training.shares import Share, span
from lipscale.training.step import take_step
from lipscale.training.validation import held_out, not_held_out, validation_logits

if TYPE_CHECKING:
    from lipscale.config import Run
    from lipscale.data.dataset import Dataset


class Training:
    """The state of one run between epochs: network, optimiser, history, measurements.

    Args:
        run: one of `config.runs`.
        dataset: the prepared data set.
        device: holds the data, the network and the optimiser.
        recorded: updates of the run that this one replays, see `lipscale.training.control`.
        processes: that train the network; each has a `Training`, and all do the same steps.

    Attributes:
        parallel: the network, or what averages its gradients over processes; `forward`: that, perhaps compiled.
        returned_after: the epoch after which the validation split was returned to training; None: it is held out.

    Raises:
        LipscaleError: there is no objective of that name, or nothing was recorded of a run to replay.
    """

    def __init__(
        self,
        run: "Run",
        dataset: "Dataset",
        device: torch.device,
        recorded: Recorded = (),
        processes: Processes = ALONE,
    ):
        self.run, self.device, self.processes = run, device, processes
        self.control = control(run, recorded)
        self.method = METHODS[run.method]
        self.objective = discovery.load("lipscale.training.objectives", run.training.objective.name)
        splits = load_splits(dataset, device, run.compute.in_memory_gib)
        (self.images, self.labels), (self.validation_images, self.validation_labels) = splits
        self.classes = dataset.class_count
        self._shape = dataset.image_shape, self.classes, dataset.mean
        self.start(self.control(0.0) if self.control else run.initial_lipschitz)
        self.feedback = LipschitzFeedback(
            run.feedback.largest_step, run.feedback.lowest_lipschitz, run.feedback.highest_lipschitz
        )
        self.history: list[EpochRow] = []
        self.measurements: list[Measurement] = []
        self.warmup_seconds = 0.0
        self.returned_after: int | None = None

    def start(self, lipschitz: float) -> None:
        """Initial weights, which depend on the seed alone, with an L; and a fresh optimiser."""
        torch.manual_seed(self.run.seed)
        self.network: LipschitzNetwork = build_network(self.run.network, *self._shape, lipschitz).to(self.device)
        self.parallel = self.processes.parallel(self.network)
        self.forward = torch.compile(self.parallel) if self.run.compute.compile else self.parallel
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.run.training.learning_rate)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.labels) / self.run.training.batch_size)

    @property
    def completed(self) -> int:
        """Epochs done since training started, or started again: what learning rate and order of images depend on."""
        restarted = self.returned_after is not None and self.run.training.calibration_data == "restart"
        return len(self.history) - (self.returned_after if restarted else 0)

    @property
    def epochs_left(self) -> int:
        return self.run.training.epochs - self.completed

    def epoch(self, after_step: Callable[[], object] = lambda: None) -> EpochRow:
        """Train for one epoch, measure T*, set the next L; returns the new row of the history.

        If L has converged, the validation split may be returned to training, see `lipscale.training.returning`. After that
        nothing is measured, and L stays.

        Raises:
            LipscaleError: loss, weights or logits are no longer finite; the history has no new row.
        """
        start = time.perf_counter()
        done, steps = self.completed, self.steps_per_epoch
        loss = self.train_steps(steps, self._update_steps(), lambda step: done + step / steps, after_step)
        exponents = tuple(self.network.budget.exponents().tolist())
        row = EpochRow(
            epoch=len(self.history) + 1,
            train_loss=loss,
            returned=self.returned_after is not None,
            **(held_out(self, done + 1) if self.returned_after is None else not_held_out(self)),
            exponents=exponents,
            seconds=time.perf_counter() - start,
        )
        self.history.append(row)
        return_if_converged(self)
        return row

    def measure(self, epochs: float) -> tuple[torch.Tensor, Measurement]:
        """Validation logits (images, classes) and their T* after so many epochs.

        The feedback then sets the next L, or without feedback the method's own schedule, if it has one.

        Raises:
            LipscaleError: weights or logits are not finite.
        """
        start = time.perf_counter()
        logits, lipschitz = validation_logits(self), self.network.lipschitz
        if self.method.feedback:
            update = self.feedback.update(lipschitz, logits, self.validation_labels)
        else:
            following = self.control(epochs) if self.control else lipschitz
            update = Update(fit_temperature(logits, self.validation_labels), following, bounded=False)
        update = self.processes.of_first(update, self.device)
        if update.next_lipschitz != lipschitz:
            self.network.lipschitz = update.next_lipschitz
        row = Measurement(epochs, lipschitz, **asdict(update), seconds=time.perf_counter() - start)
        self.measurements.append(row)
        return logits, row

    def train_steps(
        self,
        steps: int,
        update_after: Collection[int],
        epochs: Callable[[int], float],
        after_step: Callable[[], object] = lambda: None,
    ) -> float:
        """The first steps of an epoch, with a measurement after some of them; returns the mean loss over their images.

        Args:
            steps: how many.
            update_after: numbers of the steps, from 1, after which T* is measured.
            epochs: the time after so many steps, for the record of measurements.
            after_step: called after each step.

        Raises:
            LipscaleError: loss, weights or logits are no longer finite.
        """
        total, seen, lipschitz = torch.zeros((), device=self.device), 0, self.network.lipschitz
        batch_size = self.run.training.batch_size
        done, steps_per_epoch, moves = self.completed, self.steps_per_epoch, self.control and self.returned_after is None
        try:
            for step, (images, labels) in enumerate(islice(self._batches(), steps)):
                self._set_learning_rate(done + step / steps_per_epoch)
                if moves:
                    self.network.lipschitz = lipschitz = self.control(done + step / steps_per_epoch)
                parts = self._shares(min(batch_size, len(self.labels) - step * batch_size))
                loss = take_step(self, images, labels, lipschitz, parts)
                total += loss * parts[0].size
                seen += parts[0].size
                if step + 1 in update_after:
                    if not self.processes.sum(loss).isfinite():
                        break
                    lipschitz = self.measure(epochs(step + 1))[1].next_lipschitz
                after_step()
            mean = self.processes.sum(total).item() / seen
        except torch.linalg.LinAlgError:  # raised by the orthogonalisation of weights that are no longer finite
            mean = math.nan
        if not math.isfinite(mean):
            raise self.diverged(f"training loss became {mean}")
        return mean

    def _update_steps(self) -> set[int]:
        """The steps of an epoch after which the feedback updates L, besides the end of the epoch."""
        number = self.run.feedback.updates_per_epoch if self.method.feedback and self.returned_after is None else 1
        return {round(self.steps_per_epoch * part / number) for part in range(1, number)} - {0, self.steps_per_epoch}

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """This process's part of those of the next epoch, see `epoch_batches`."""
        seed, done, settings = self.run.seed, self.completed, self.run.training
        torch.manual_seed(epoch_seed(seed, done, stream=1))  # for objectives that draw random numbers
        return epoch_batches(
            self.images,
            self.labels,
            settings.batch_size,
            settings.augmentation,
            epoch_seed(seed, done),
            kept=lambda size: span(self._shares(size)),
        )

    def _shares(self, size: int) -> list[Share]:
        """Those of a batch that this process computes."""
        return self.processes.shares(size, self.run.compute.accumulate)

    def _set_learning_rate(self, epochs: float) -> None:
        """A half cosine from the configured rate to 0 (Loshchilov and Hutter, ICLR 2017, without restarts)."""
        progress = epochs / self.run.training.epochs
        rate = self.run.training.learning_rate * (1 + math.cos(math.pi * progress)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def diverged(self, what: str) -> LipscaleError:
        """The error that ends a training whose numbers are no longer finite."""
        return LipscaleError(
            f"run {self.run.run}: the {what} in epoch {len(self.history) + 1} at L = {self.network.lipschitz:g}; "
            "a smaller training.learning_rate may help"
        )

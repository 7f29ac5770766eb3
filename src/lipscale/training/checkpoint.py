"""The state of a run after an epoch, as bytes.

Whether the bytes are those that were written, and of the same settings and data, is checked by whoever keeps them.
"""

import copy
import io
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from lipscale.errors import TORCH_SAYS
from lipscale.training.returning import join_splits
from lipscale.training.rows import EpochRow, Measurement

if TYPE_CHECKING:
    from lipscale.config.models import Training as TrainingSettings
    from lipscale.training.loop import Training


class UnreadableState(ValueError):
    """A state from which training cannot be resumed; the message says why, in one line."""


def to_bytes(training: "Training") -> bytes:
    """What `restore` needs to continue: network, optimiser, rows, seconds, when the validation split was returned."""
    buffer = io.BytesIO()
    torch.save(
        {
            "network": training.network.state_dict(),
            "optimizer": training.optimizer.state_dict(),
            "history": [asdict(row) for row in training.history],
            "measurements": [asdict(row) for row in training.measurements],
            "warmup_seconds": training.warmup_seconds,
            "returned_after": training.returned_after,
        },
        buffer,
    )
    return buffer.getvalue()


def restore(training: "Training", content: bytes) -> None:
    """Put `training` into the state that `to_bytes` made bytes of. No code in the bytes is run.

    Raises:
        UnreadableState: the bytes are no state of such a network. `training` is as before.
        MemoryError, RuntimeError: memory ran out, which says nothing about the bytes. `training` is as before.
    """
    before = copy.deepcopy((training.network.state_dict(), training.optimizer.state_dict()))
    try:
        state = torch.load(io.BytesIO(content), map_location=training.device, weights_only=True)
        history = [EpochRow(**row) for row in state["history"]]
        measurements = [Measurement(**row) for row in state["measurements"]]
        seconds = float(state["warmup_seconds"])
        returned_after = state["returned_after"]
        _check_epochs(history, returned_after, training.run.training)
        training.network.load_state_dict(state["network"])
        training.optimizer.load_state_dict(state["optimizer"])
        _check_optimizer(training.optimizer)
    except Exception as error:  # broken bytes make torch raise whatever its readers happen to run into
        training.network.load_state_dict(before[0])
        training.optimizer.load_state_dict(before[1])
        if _memory_ran_out(error):
            raise
        raise UnreadableState(" ".join(str(error).split()) or type(error).__name__) from None
    training.history, training.measurements, training.warmup_seconds = history, measurements, seconds
    if returned_after is not None:
        join_splits(training, returned_after)


def _check_epochs(history: list[EpochRow], returned_after: int | None, settings: "TrainingSettings") -> None:
    numbers, how = [row.epoch for row in history], settings.calibration_data
    if returned_after is not None and (how == "none" or returned_after not in numbers):
        raise ValueError(f"its validation split was returned after epoch {returned_after}")
    epochs = settings.epochs + (returned_after or 0 if how == "restart" else 0)
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) > epochs:
        raise ValueError(f"it has the epochs {numbers} of {epochs}")
    if any(row.returned != (returned_after is not None and row.epoch > returned_after) for row in history):
        raise ValueError("its rows do not say when the validation split was returned")


def _check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """`load_state_dict` does not compare shapes."""
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if name != "step" and value.shape != parameter.shape:
                raise ValueError(f"its optimiser has {name} of shape {tuple(value.shape)} for {tuple(parameter.shape)}")


def _memory_ran_out(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in TORCH_SAYS)

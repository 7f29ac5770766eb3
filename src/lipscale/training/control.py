"""L during training for methods that neither keep their first L nor follow the feedback: a function of the epochs so far."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lipscale.errors import LipscaleError
from lipscale.method.methods import METHODS

if TYPE_CHECKING:
    from lipscale.config import Run

Recorded = Sequence[tuple[float, float]]  # `epochs` and `next_lipschitz` of the rows of feedback.csv, in their order
Control = Callable[[float], float]  # epochs trained so far, as a fraction -> L


def control(run: "Run", recorded: Recorded = ()) -> Control | None:
    """What sets L before each step of a run; None where the run keeps its first L or follows the feedback.

    Args:
        run: one of `config.runs`.
        recorded: updates of the run that this one replays, for methods that replay one.

    Raises:
        LipscaleError: the method replays a run, and nothing was recorded.
    """
    method = METHODS[run.method]
    if method.replays:
        if not recorded:
            raise LipscaleError(f"run {run.run} replays the L of a {method.replays} run, and got no recorded updates of L")
        return replay(run.initial_lipschitz, recorded)
    if method.schedule:
        return lambda epochs: method.schedule(run.initial_lipschitz, epochs / run.training.epochs)
    return None


def replay(initial_lipschitz: float, recorded: Recorded) -> Control:
    """The L that a recorded run had for each step: what its last update until then set, and before any, its first L.

    Training starts with the L that warm-ups, if there were any, ended with; their own updates are not replayed.
    """
    times = [epochs for epochs, _ in recorded]

    def lipschitz(epochs: float) -> float:
        done = bisect_right(times, epochs)
        return recorded[done - 1][1] if done else initial_lipschitz

    return lipschitz

"""When L has converged, so that the validation split is no longer needed to measure T* and can be returned to training.

After an epoch, L has converged if the values of L after each of the last epochs differ by no more than 5 % (largest over
smallest at most 1.05). The last epochs are a fifth of all epochs, rounded up, and at least 3. The L at their end, L*, is then
frozen. A fixed L has converged after that many epochs; without constraint L is infinite, which counts as a fixed value.
"""

import math
from collections.abc import Sequence

LARGEST_RATIO = 1.05  # of the values of L after the last epochs
FEWEST_EPOCHS = 3
PARTS = 5  # of training; the last of them, or FEWEST_EPOCHS, are looked at


def window(epochs: int) -> int:
    """The number of last epochs over which L has to stay where it is.

    Args:
        epochs: of the whole training.
    """
    return max(FEWEST_EPOCHS, math.ceil(epochs / PARTS))


def converged(lipschitz: Sequence[float], epochs: int) -> bool:
    """Whether L has converged.

    Args:
        lipschitz: L after each epoch so far, each greater than 0, or infinite.
        epochs: of the whole training.
    """
    last = lipschitz[-window(epochs) :]
    return len(last) == window(epochs) and (max(last) == min(last) or max(last) / min(last) <= LARGEST_RATIO)

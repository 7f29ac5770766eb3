"""The feedback of LiST: after each epoch, L <- L / T*.

Dividing the logits of an L-Lipschitz network by T is the same as dividing L by T (exactly without biases, approximately
with them). The temperature T* of a validation split therefore measures how far L is from the value at which the network
is calibrated.

To use it in your own training loop::

    feedback = LipschitzFeedback()
    for epoch in range(epochs):
        train_one_epoch(network)
        with torch.no_grad():
            logits = network(validation_images)
        update = feedback.update(network.lipschitz, logits, validation_labels)
        network.lipschitz = update.next_lipschitz
        print(f"epoch {epoch + 1}: T* = {update.temperature:.3f}, next L = {update.next_lipschitz:.3g}")
"""

import math
from dataclasses import dataclass

from lipscale.errors import LipscaleError
from lipscale.method.temperature import Array, fit_temperature


@dataclass(frozen=True)
class Update:
    """The result of one measurement.

    Attributes:
        temperature: T* of the validation logits; 0.0 if they separate the labels perfectly, infinity at chance level.
        next_lipschitz: the L to continue with, in logits per unit of input distance.
        bounded: whether a bound was hit, so that next_lipschitz is not L / T*.
    """

    temperature: float
    next_lipschitz: float
    bounded: bool


@dataclass(frozen=True)
class LipschitzFeedback:
    """L <- L / T*, with bounds for the validation splits that have no finite T* (perfectly separated, chance level).

    Attributes:
        largest_step: largest factor by which one update may change L, up or down; greater than 1.
        lowest_lipschitz, highest_lipschitz: the range of L, in logits per unit of input distance.

    Raises:
        LipscaleError: one of them is out of range.
    """

    largest_step: float = 10.0
    lowest_lipschitz: float = 1e-4
    highest_lipschitz: float = 1e5

    def __post_init__(self):
        if not 1 < self.largest_step < math.inf:
            raise LipscaleError(f"feedback: largest_step is {self.largest_step}; allowed: a finite number greater than 1")
        if not 0 < self.lowest_lipschitz <= self.highest_lipschitz < math.inf:
            raise LipscaleError(
                f"feedback: the range of L is {self.lowest_lipschitz} to {self.highest_lipschitz}; "
                "allowed: finite numbers greater than 0, the lowest first"
            )

    def update(self, lipschitz: float, logits: Array, labels: Array) -> Update:
        """T* of the validation logits of a network that enforces `lipschitz`, and the next L.

        Never call it with the test split.

        Args:
            lipschitz: L, in logits per unit of input distance.
            logits: (images, classes), numpy array or torch tensor, on any device.
            labels: (images,), numpy array or torch tensor of integers from 0 to classes - 1.

        Raises:
            LipscaleError: L is not a finite number greater than 0, logits are not finite, or labels do not fit the logits.
        """
        lipschitz = _positive(lipschitz)
        temperature = fit_temperature(logits, labels)
        step = min(max(temperature, 1 / self.largest_step), self.largest_step)
        following = min(max(lipschitz / step, self.lowest_lipschitz), self.highest_lipschitz)
        return Update(temperature, following, bounded=step != temperature or following != lipschitz / step)


def _positive(lipschitz: float) -> float:
    """L as a Python number, also of an array or a tensor that holds one number."""
    try:
        number = float(lipschitz)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not 0 < number < math.inf:
        raise LipscaleError(f"feedback: lipschitz is {lipschitz}; allowed: a finite number greater than 0")
    return number

"""The feedback of LiST: after each epoch, L <- L / T*.

Dividing the logits of an L-Lipschitz network by T is the same as dividing L by T. The temperature T* that a validation
split asks for is therefore a measurement of how far L is from the value at which the network is calibrated.

To use it in a training loop of your own::

    feedback = LipschitzFeedback()
    for epoch in range(epochs):
        train_one_epoch(network)
        update = feedback.update(network.lipschitz, logits(network, validation_images), validation_labels)
        network.lipschitz = update.next_lipschitz
"""

from dataclasses import dataclass

import torch

from lipscale.method.temperature import fit_temperature


@dataclass(frozen=True)
class Update:
    """What one measurement says.

    Attributes:
        temperature: T* of the validation logits; 0.0 if they separate the labels perfectly, infinity at chance level.
        next_lipschitz: the L to go on with.
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
        lowest_lipschitz, highest_lipschitz: the range of L.
    """

    largest_step: float = 10.0
    lowest_lipschitz: float = 1e-4
    highest_lipschitz: float = 1e5

    def update(self, lipschitz: float, logits: torch.Tensor, labels: torch.Tensor) -> Update:
        """T* of validation logits (images, classes) of a network that enforces `lipschitz`, and the next L.

        Never call it with the test split.
        """
        temperature = fit_temperature(logits, labels)
        step = min(max(temperature, 1 / self.largest_step), self.largest_step)
        following = min(max(lipschitz / step, self.lowest_lipschitz), self.highest_lipschitz)
        return Update(temperature, following, bounded=step != temperature or following != lipschitz / step)

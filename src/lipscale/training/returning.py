"""The return of the validation split to training, once L has converged (`training.calibration_data`).

`continue`: the epochs that are left train on both splits, at the L that was reached. `restart`: training starts again from the
initial weights, with all epochs, on both splits at that L. In both cases L stays, and nothing is measured any more: the
validation split is no longer held out.
"""

from typing import TYPE_CHECKING

import torch

from lipscale.method.convergence import converged
from lipscale.training.stored import StoredImages

if TYPE_CHECKING:
    from lipscale.training.loop import Training


def return_if_converged(training: "Training") -> None:
    """Return the validation split after an epoch, if the config wants it, L has just converged, and epochs are left."""
    how, epochs, done = training.run.training.calibration_data, training.run.training.epochs, len(training.history)
    if how == "none" or training.returned_after is not None or (how == "continue" and done == epochs):
        return
    if converged([row.next_lipschitz for row in training.history], epochs):
        join_splits(training, done)
        if how == "restart":
            training.start(training.network.lipschitz)


def join_splits(training: "Training", returned_after: int) -> None:
    """Train on both splits from the epoch after `returned_after` on."""
    both = [training.images, training.validation_images]
    training.images = StoredImages.joined(both) if isinstance(training.images, StoredImages) else torch.cat(both)
    training.labels = torch.cat([training.labels, training.validation_labels])
    training.returned_after = returned_after

"""What the row of an epoch says about L and the validation split."""

from typing import TYPE_CHECKING

import torch
from torch.nn.utils import parametrize

from lipscale.evaluation.metrics import accuracy, expected_calibration_error, probabilities
from lipscale.method.temperature import nll
from lipscale.training.batches import in_order, part_size
from lipscale.units import pixels

if TYPE_CHECKING:
    from lipscale.training.epochs import Training

MEASURED = ("temperature", "validation_nll", "validation_accuracy", "validation_ece")


def held_out(training: "Training", epochs: float) -> dict[str, float]:
    """Values by column after so many epochs: T* is measured, and the next L set."""
    logits, measured = training.measure(epochs)
    numbers, labels = logits.cpu().numpy(), training.validation_labels.cpu().numpy()
    return {
        **{name: getattr(measured, name) for name in ("lipschitz", "temperature", "next_lipschitz", "bounded")},
        "validation_nll": nll(logits, training.validation_labels),
        "validation_accuracy": accuracy(numbers, labels),
        "validation_ece": expected_calibration_error(probabilities(numbers), labels),
    }


def not_held_out(training: "Training") -> dict[str, float | None]:
    """The same where the network was trained on the validation split: nothing is measured, and L stays.

    Raises:
        LipscaleError: weights or logits are not finite.
    """
    validation_logits(training)
    lipschitz = training.network.lipschitz
    return dict.fromkeys(MEASURED) | {"lipschitz": lipschitz, "next_lipschitz": lipschitz, "bounded": False}


@torch.no_grad()
def validation_logits(training: "Training") -> torch.Tensor:
    """Logits of the validation split, (images, classes); each weight is orthogonalised once for the whole pass.

    Several processes compute the parts of the split in turn. A part is the same whoever computes it, so that the logits of a
    network do not depend on the number of processes.

    Raises:
        LipscaleError: weights or logits are not finite. The last step can do that unseen, as its loss was computed before.
    """
    network, processes = training.network, training.processes
    network.eval()
    try:
        with parametrize.cached():
            parts = [network(pixels(part)) for part in in_order(training.validation_images, processes.rank, processes.count)]
    except torch.linalg.LinAlgError:
        raise training.diverged("weights are no longer finite") from None
    logits = torch.cat(parts) if processes.count == 1 else _gathered(training, parts)
    if not logits.isfinite().all():
        raise training.diverged("validation logits are no longer finite")
    return logits


def _gathered(training: "Training", parts: list[torch.Tensor]) -> torch.Tensor:
    """The logits of all parts, in the order of the images: a sum in which all but one of the terms are 0."""
    logits = torch.zeros(len(training.validation_labels), training.classes, device=training.device)
    of_part = logits.split(part_size(training.validation_images))
    for place, part in zip(of_part[training.processes.rank :: training.processes.count], parts, strict=True):
        place.copy_(part)
    return training.processes.sum(logits)

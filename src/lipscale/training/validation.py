"""What the row of an epoch says about L and the validation split."""

from typing import TYPE_CHECKING

from lipscale.evaluation.metrics import accuracy, expected_calibration_error, probabilities
from lipscale.method.temperature import nll

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
    training.validation_logits()
    lipschitz = training.network.lipschitz
    return dict.fromkeys(MEASURED) | {"lipschitz": lipschitz, "next_lipschitz": lipschitz, "bounded": False}

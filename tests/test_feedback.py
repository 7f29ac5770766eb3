import math

import pytest
import torch

from lipscale.method.feedback import LipschitzFeedback
from test_temperature import one_margin


@pytest.mark.parametrize("temperature", [0.2, 0.9, 1.0, 1.1, 5.0])
def test_update_goes_the_right_way_to_the_right_value(temperature):
    """T* > 1 (over-confident) tightens, T* < 1 relaxes, to L / T*, T* known in closed form."""
    logits, labels = one_margin(temperature * math.log(81), 90, 10, 10)
    update = LipschitzFeedback().update(8.0, logits, labels)
    assert update.temperature == pytest.approx(temperature, rel=1e-6)
    assert update.next_lipschitz == pytest.approx(8.0 / temperature, rel=1e-6)
    assert not update.bounded


def test_after_the_update_the_network_is_calibrated():
    """Without biases logits are proportional to L, so one update brings T* to 1."""
    logits, labels = one_margin(3 * math.log(81), 90, 10, 10)
    feedback = LipschitzFeedback()
    update = feedback.update(8.0, logits, labels)
    again = feedback.update(update.next_lipschitz, logits * (update.next_lipschitz / 8.0), labels)
    assert again.temperature == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "labels", "following"),
    [(*one_margin(1.0, 50, 0, 10), 40.0), (torch.zeros(50, 10), one_margin(1.0, 50, 0, 10)[1], 2.5)],
    ids=["separable", "chance level"],
)
def test_without_a_finite_temperature_the_step_is_bounded(logits, labels, following):
    update = LipschitzFeedback(largest_step=4.0).update(10.0, logits, labels)
    assert update.next_lipschitz == following
    assert update.bounded


def test_lipschitz_is_bounded():
    logits, labels = one_margin(0.5 * math.log(81), 90, 10, 10)  # T* = 1/2
    update = LipschitzFeedback(highest_lipschitz=15.0).update(10.0, logits, labels)
    assert (update.next_lipschitz, update.bounded) == (15.0, True)

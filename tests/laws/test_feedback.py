"""L <- L / T*: direction, value and bounds of an update, and what is refused."""

import math
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lipscale.errors import LipscaleError
from lipscale.method import feedback as module
from lipscale.method import warmup
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


def test_numpy_arrays_give_what_tensors_give():
    logits, labels = one_margin(3.0, 90, 10, 10)
    update = LipschitzFeedback().update(8.0, logits, labels)
    assert LipschitzFeedback().update(8.0, logits.numpy(), labels.numpy()) == update
    assert LipschitzFeedback().update(np.float64(8), logits.numpy(), labels) == update
    assert LipschitzFeedback().update(torch.tensor(8.0), logits, labels.numpy()) == update


@pytest.mark.parametrize("lipschitz", [0, -1.0, math.nan, math.inf, -math.inf, None, "tight", torch.zeros(2), np.zeros(2)])
def test_lipschitz_constants_that_are_none_are_refused(lipschitz):
    with pytest.raises(LipscaleError, match=r"feedback: lipschitz is .*; allowed: a finite number greater than 0"):
        LipschitzFeedback().update(lipschitz, *one_margin(3.0, 90, 10, 10))


def test_labels_that_do_not_fit_are_named():
    logits, labels = one_margin(3.0, 90, 10, 10)
    with pytest.raises(LipscaleError, match="labels range from 1 to 10; allowed: 0 to 9"):
        LipschitzFeedback().update(8.0, logits, labels + 1)


@pytest.mark.parametrize(
    "bounds",
    [
        {"largest_step": 1.0},
        {"largest_step": math.inf},
        {"largest_step": math.nan},
        {"lowest_lipschitz": 0.0},
        {"lowest_lipschitz": math.nan},
        {"highest_lipschitz": math.inf},
        {"lowest_lipschitz": 2.0, "highest_lipschitz": 1.0},
    ],
)
def test_bounds_out_of_range_are_refused(bounds):
    with pytest.raises(LipscaleError, match=r"feedback: .*; allowed: "):
        LipschitzFeedback(**bounds)


def test_the_example_runs(capsys):
    """The code at the top of the module, with a network whose logits are L times those of `one_margin`."""
    logits, labels = one_margin(3 * math.log(81), 90, 10, 10)  # T* = 3 at L = 1

    class Network(SimpleNamespace):
        def __call__(self, images):
            return self.lipschitz * images

    network = Network(lipschitz=1.0)
    names = {"train_one_epoch": lambda network: None, "network": network, "epochs": 2, "torch": torch}
    names |= {"validation_images": logits, "validation_labels": labels, "LipschitzFeedback": LipschitzFeedback}
    exec(textwrap.dedent(module.__doc__.partition("::\n")[2]), names)
    assert network.lipschitz == pytest.approx(1 / 3)
    assert capsys.readouterr().out == "epoch 1: T* = 3.000, next L = 0.333\nepoch 2: T* = 1.000, next L = 0.333\n"


def test_a_warm_up_is_no_longer_than_an_epoch():
    assert [warmup.steps(steps) for steps in (1, 10, 64, 65, 1000)] == [1, 10, 64, 64, 64]


def test_the_number_of_steps_is_known_without_torch():
    code = "import sys, lipscale.method.warmup; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

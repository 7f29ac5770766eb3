import math

import numpy as np
import pytest
import torch

from lipscale.errors import LipscaleError
from lipscale.method.temperature import fit_temperature, nll

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"))]


def one_margin(margin: float, right: int, wrong: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits with one class `margin` above all others, which is the label for `right` of right + wrong images.

    NLL is least where softmax gives the top class right / (right + wrong), so T* = margin / log(right (K - 1) / wrong).
    """
    top = torch.arange(right + wrong) % classes
    logits = torch.zeros(right + wrong, classes, dtype=torch.float64)
    logits[torch.arange(right + wrong), top] = margin
    labels = top.clone()
    labels[right:] = (top[right:] + 1) % classes
    return logits, labels


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("classes", [2, 10, 100])
@pytest.mark.parametrize("expected", np.geomspace(1e-3, 1e3, 13))
def test_closed_form(expected, classes, device):
    right, wrong = 90, 10
    logits, labels = one_margin(expected * math.log(right * (classes - 1) / wrong), right, wrong, classes)
    assert fit_temperature(logits.to(device), labels.to(device)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_random_logits_against_the_slope(scale):
    """At T* the NLL is stationary: no temperature a part in a thousand away is better."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (500,), generator=generator)
    logits = torch.randn(500, 10, generator=generator, dtype=torch.float64)
    logits[torch.arange(500), labels] += 1.5
    logits *= scale
    best = fit_temperature(logits, labels)
    assert all(nll(logits, labels, best) < nll(logits, labels, best * factor) for factor in (0.999, 1.001))
    assert fit_temperature(logits / best, labels) == pytest.approx(1, rel=1e-9)


def test_float32_logits_are_solved_in_float64():
    logits, labels = one_margin(3.0, 90, 10, 10)
    assert fit_temperature(logits.float(), labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-6)


def test_separable_is_zero():
    logits, labels = one_margin(0.5, 100, 0, 10)
    assert fit_temperature(logits, labels) == 0.0


@pytest.mark.parametrize("logits", [torch.zeros(50, 10), one_margin(2.0, 0, 50, 10)[0]])
def test_chance_level_is_infinity(logits):
    labels = one_margin(2.0, 0, 50, 10)[1]
    assert fit_temperature(logits, labels) == math.inf


def test_almost_separable_and_almost_chance_end():
    logits, labels = one_margin(1.0, 10**6 - 1, 1, 10)
    assert 0 < fit_temperature(logits, labels) < 0.1
    logits, labels = one_margin(1.0, 10**4 + 1, 9 * 10**4, 10)
    assert 1000 < fit_temperature(logits, labels) < math.inf


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.full((3, 2), math.nan), torch.zeros(3, dtype=torch.int64), "NaN or infinity"),
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), "at least one image"),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.int64), "allowed: .images, classes."),
    ],
)
def test_bad_input_is_named(logits, labels, message):
    with pytest.raises(LipscaleError, match=message):
        fit_temperature(logits, labels)

"""T*: closed forms, stationarity, the cases without a finite T*, and what is refused."""

import math

import numpy as np
import pytest
import torch

from lipscale.errors import LipscaleError
from lipscale.method.temperature import fit_temperature, nll

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]


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


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("label_dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_numpy_arrays_give_what_tensors_give(dtype, label_dtype):
    logits, labels = one_margin(3.0, 90, 10, 10)
    logits, labels = logits.numpy().astype(dtype), labels.numpy().astype(label_dtype)
    logits.setflags(write=False)
    expected = fit_temperature(torch.tensor(logits), torch.tensor(labels))
    assert fit_temperature(logits, labels) == fit_temperature(logits[::-1], labels[::-1]) == expected
    assert nll(logits, labels, 2.0) == nll(torch.tensor(logits), torch.tensor(labels), 2.0)


def test_logits_with_a_gradient_are_accepted():
    logits, labels = one_margin(3.0, 90, 10, 10)
    assert fit_temperature(logits.clone().requires_grad_(), labels.int()) == fit_temperature(logits, labels)


LABELS = torch.zeros(3, dtype=torch.int64)


@pytest.mark.parametrize("kind", ["torch", "numpy"])
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.full((3, 2), math.nan), LABELS, "NaN or infinity"),
        (torch.zeros(0, 2), LABELS[:0], "at least one image"),
        (torch.zeros(3, 0), LABELS, "at least one image"),
        (torch.zeros(3, 2), LABELS[:2], r"logits have shape \(3, 2\) and labels \(2,\); allowed: \(images, classes\)"),
        (torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.int64), r"labels \(3, 2\); allowed"),
        (torch.zeros(3, 2), LABELS.float(), "labels are float32; allowed: integers"),
        (torch.zeros(3, 2), LABELS.bool(), "labels are bool; allowed: integers"),
        (torch.zeros(3, 2, dtype=torch.complex64), LABELS, "logits are complex64; allowed: real numbers"),
        (torch.zeros(3, 2), LABELS - 1, "labels range from -1 to -1; allowed: 0 to 1, as the logits have 2 classes"),
        (torch.zeros(3, 2), torch.arange(3), "labels range from 0 to 2; allowed: 0 to 1"),
    ],
)
def test_bad_input_is_named(logits, labels, message, kind):
    if kind == "numpy":
        logits, labels = logits.numpy(), labels.numpy()
    with pytest.raises(LipscaleError, match=message):
        fit_temperature(logits, labels)


@pytest.mark.parametrize("labels", [["cat", "dog"], [None, 1], [[0], [1, 2]]])
def test_labels_that_are_no_numbers_are_named(labels):
    with pytest.raises(LipscaleError, match=r"temperature: labels are no array of numbers; allowed: a numpy array or a torch"):
        fit_temperature(torch.zeros(2, 2), labels)

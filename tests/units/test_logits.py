"""Logits in float64."""

import numpy as np
import pytest
import torch

import synthetic
from lipscale.errors import LipscaleError
from lipscale.evaluation.logits import check_labels, exact_logits
from lipscale.units import exact_pixels, pixels

CPU = torch.device("cpu")


def test_bytes_and_their_pixels_have_the_same_logits():
    network, images = synthetic.network().double(), torch.from_numpy(synthetic.images(1003))
    logits = exact_logits(network, images, CPU)
    assert logits.shape == (1003, 6)
    assert logits.dtype == torch.float64
    assert torch.equal(logits, exact_logits(network, images.double() / 255, CPU))


@pytest.mark.parametrize("shape", [(2, 1, 8, 9), (2, 1, 9, 8), (2, 3, 8, 8), (2, 8, 8), (2, 1, 4, 16), (2, 64)])
def test_images_of_another_shape_are_refused(shape):
    """(1, 4, 16) and (64,) would pass a network that begins by flattening, but its certificate is for (1, 8, 8)."""
    with pytest.raises(LipscaleError, match=r"the images have shape .*; allowed: \(1, 8, 8\), the image_shape of the network"):
        exact_logits(synthetic.network().double(), torch.zeros(shape, dtype=torch.uint8), CPU)


def test_exact_pixels_are_quotients_in_float64():
    levels = np.arange(256, dtype=np.uint8)
    assert exact_pixels(torch.from_numpy(levels)).numpy().tolist() == (levels / 255).tolist() == pixels(levels).tolist()
    assert exact_pixels(torch.tensor([0.1])).item() == np.float32(0.1)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 3], "the images have label 3; allowed: 0 to 2"),
        ([0, -1, 1], "the images have label -1; allowed: 0 to 2"),
        ([0, 1], r"the labels have shape \(2,\), int64; allowed: a class number for each of 3 images"),
        ([0.0, 1.0, 2.0], r"the labels have shape \(3,\), float64"),
    ],
)
def test_labels_that_do_not_fit_the_logits_are_refused(labels, message):
    with pytest.raises(LipscaleError, match=message):
        check_labels(np.array(labels), np.zeros((3, 3)))
    check_labels(np.array([0, 1, 2], dtype=np.uint8), np.zeros((3, 3)))

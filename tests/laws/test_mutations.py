"""Mistakes that would break a certificate, planted one by one; for each, the test that catches it is named and run.

A mutation that its test did not catch would make the test here fail.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

import test_certificate
import test_float32
import test_networks
import test_norms
import test_sll_convolutions
import test_torus
from lipscale.attacks import at_own_radius, certified_images, falsification
from lipscale.attacks.falsification import falsify
from lipscale.certification import arithmetic, bounds, certificate, freezing, norms, plain_layers, torus
from lipscale.networks import circular
from lipscale.networks.network import build_network

pytestmark = pytest.mark.slow


def caught(test, *arguments) -> None:
    """`test` fails."""
    with pytest.raises(AssertionError):
        test(*arguments)


def scaled_weight(weight, entry, side, family):
    return 1.02 * within_unit_norm(weight, entry, side, family)


within_unit_norm = freezing._within_unit_norm


def test_a_layer_scaled_by_1_02(monkeypatch):
    monkeypatch.setattr(freezing, "_within_unit_norm", scaled_weight)
    caught(test_networks.test_jacobian_norm_is_at_most_lipschitz, "mlp", "softmax", True, 5.0)
    caught(test_networks.test_exported_norms_and_scales_multiply_to_at_most_lipschitz, "mlp")


def test_radii_stay_sound_with_a_layer_scaled_by_1_02(monkeypatch):
    """What is enforced is then wrong, and the certified constant, which is larger, is what radii rest on."""
    monkeypatch.setattr(freezing, "_within_unit_norm", scaled_weight)
    promise = certificate.certificate(freezing.freeze(test_networks.make("mlp", 5.0), test_networks.SHAPE))
    assert promise.lipschitz_certified > 5.0
    radius = certificate.certified_radii(np.eye(10)[:1], np.array([0]), promise)[1]
    assert radius <= 1 / (math.sqrt(2) * promise.lipschitz_certified)


def test_wrong_padding_in_the_bound(monkeypatch):
    right = norms.conv_norm_bound

    def circular(kernel, size, stride, padding, padding_mode):
        try:
            return right(kernel, size, stride, padding, "circular")
        except ValueError:  # not a shape that a circular convolution has
            return right(kernel, size, stride, padding, padding_mode)

    monkeypatch.setattr(test_norms, "conv_norm_bound", circular)
    caught(test_norms.test_conv_bound_is_never_below, "zeros", (1, 4), 0, monkeypatch)


@pytest.mark.parametrize(
    ("meets", "test"),
    [
        (lambda tap, side, stride, padding, outputs: True, test_torus.test_taps_that_meet_no_pixel_count_for_nothing),
        (
            lambda tap, side, stride, padding, outputs: padding <= tap < side + padding,  # at the first output only
            lambda: test_torus.test_bounds_are_never_below_and_not_far_above("zeros", list(test_torus.random_shapes(250))),
        ),
    ],
    ids=["none", "too many"],
)
def test_wrong_taps_cropped_from_a_kernel(meets, test, monkeypatch):
    monkeypatch.setattr(norms, "LARGEST_MATRIX", 0)
    monkeypatch.setattr(torus, "_meets_a_pixel", meets)
    caught(test)


def test_wrong_padding_in_the_exported_network(monkeypatch):
    kinds = plain_layers.KINDS
    monkeypatch.setattr(plain_layers, "_build", lambda specification, where="": [
        kinds["conv"].build(**{**entry, "padding_mode": "zeros"}) if (entry := dict(one)).pop("layer") == "conv"
        else kinds[one["layer"]].build(**entry)
        for one in specification
    ])  # fmt: skip
    caught(test_networks.test_exporting_keeps_the_function, "convnet")


def test_a_forgotten_scale_in_the_bound(monkeypatch):
    monkeypatch.setitem(bounds.PROOFS, "scale", bounds._selection)
    caught(test_certificate.test_slope_of_a_layer_is_never_below_its_jacobian, "scale")
    caught(test_certificate.test_whole_networks)


def test_a_block_taken_for_1_lipschitz_whatever_its_weights(monkeypatch):
    monkeypatch.setitem(bounds.PROOFS, "sll_conv", bounds._selection)
    caught(test_certificate.test_slope_of_a_layer_is_never_below_its_jacobian, "sll_conv of norm 1.5")


def test_a_block_with_its_kernel_in_place_of_the_transposed_one(monkeypatch):
    def wrong(hidden, weight, bias):
        inner = functional.conv2d(circular.padded(hidden, 1, 1), weight, bias).relu()
        return hidden - 2 * functional.conv2d(circular.padded(inner, 1, 1), weight)

    monkeypatch.setattr(test_sll_convolutions, "sll_conv", wrong)
    caught(test_sll_convolutions.test_a_block_is_made_of_a_matrix_and_its_transpose, 3, (4, 6))


def test_a_forgotten_scale_in_the_exported_network(monkeypatch):
    right = freezing._scales_within
    monkeypatch.setattr(freezing, "_scales_within", lambda network: [*right(network)[:-1], 1.0])
    caught(test_networks.test_exporting_keeps_the_function, "mlp")


def without_sqrt2(logits, labels, promise):
    margins, radii, _ = certificate_radii(logits, labels, promise)
    return margins, math.sqrt(2) * radii, math.sqrt(2) * radii


certificate_radii = certificate.certified_radii


def test_a_radius_without_sqrt_2(monkeypatch):
    monkeypatch.setattr(test_certificate, "certified_radii", without_sqrt2)
    caught(test_certificate.test_radius_of_three_images)
    caught(test_certificate.test_radius_is_reached_and_not_passed)


def test_pairs_of_classes_at_half_their_distance(monkeypatch):
    right = certificate._pairs
    monkeypatch.setattr(certificate, "_pairs", lambda network, slope: right(network, slope) / 2)
    caught(test_certificate.test_pairs_of_a_single_dense_layer_are_exact, (0.5,))


def test_rounding_of_one_operation_for_that_of_a_sum(monkeypatch):
    monkeypatch.setattr(arithmetic.Arithmetic, "gamma", lambda self, n: self.unit)
    caught(test_certificate.test_rounding_of_long_sums_is_within_its_bound)


def test_numbers_below_the_smallest_normal_one_forgotten(monkeypatch):
    monkeypatch.setattr(arithmetic.Arithmetic, "lost", lambda self, length, outputs, norm: (0.0, 0.0))
    caught(test_float32.test_rounding_of_a_layer_is_within_its_bound, "dense without bias", 2.0**-140, False)


def test_rounding_that_is_left_out_of_norms(monkeypatch):
    monkeypatch.setattr(norms, "gamma", lambda n: 0.0)
    monkeypatch.setattr(norms, "UNIT", 0.0)
    caught(test_norms.test_matrix_bound_is_never_below_in_exact_arithmetic)


def test_radii_that_are_not_rounded_down(monkeypatch):
    monkeypatch.setattr(certificate, "KEPT", 1.0)
    caught(test_certificate.test_radii_are_rounded_down)


def test_errors_that_are_not_amplified(monkeypatch):
    monkeypatch.setattr(bounds.Bounds, "then", lambda before, after: bounds.Bounds(
        after.slope * before.slope, after.offset, before.relative + after.relative, before.absolute + after.absolute
    ))  # fmt: skip
    caught(test_certificate.test_bounds_behind_one_another)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    images, labels = load_digits(return_X_y=True)
    return (images.reshape(-1, 1, 8, 8) * (255 / 16)).round().astype(np.uint8), labels


@pytest.fixture(scope="module")
def tight(digits) -> plain_layers.PlainNetwork:
    """A network with L = 1, whose certificates are tight."""
    torch.manual_seed(0)
    settings = SimpleNamespace(architecture="mlp", widths=[16], bias=True, allocation="softmax", family="orthogonal")
    network = build_network(settings, (1, 8, 8), 10, [0.3], 1.0)
    images, labels = torch.from_numpy(digits[0]).float() / 255, torch.from_numpy(digits[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(10 * network(images), labels).backward()
        optimizer.step()
    return freezing.freeze(network, (1, 8, 8))


def broken(network, digits) -> list[dict]:
    return falsify(network, *digits, images_at_most=60, batch_size=60).broken


def test_falsification_breaks_nothing_without_a_mistake(tight, digits):
    assert not broken(tight, digits)


@pytest.fixture
def apgd_alone(monkeypatch):
    """The first of the attacks: what it finds, all of them find."""
    monkeypatch.setattr(falsification, "attacks", lambda classes: {"apgd-ce": at_own_radius.attacks(classes)["apgd-ce"]})


def test_falsification_finds_a_radius_without_sqrt_2(monkeypatch, tight, digits, apgd_alone):
    monkeypatch.setattr(certified_images, "certified_radii", without_sqrt2)
    assert broken(tight, digits)


def test_falsification_finds_a_normalisation_outside_the_model(monkeypatch, tight, digits, apgd_alone):
    """Images are divided by a standard deviation of 0.5 before the network sees them, and radii stay as they were."""
    forward = plain_layers.PlainNetwork.forward
    monkeypatch.setattr(plain_layers.PlainNetwork, "forward", lambda network, images: forward(network, images / 0.5))
    assert broken(tight, digits)

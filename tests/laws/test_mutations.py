"""Mistakes that would break a certificate, planted one by one; for each, the test that catches it is named and run.

A mutation that its test did not catch would make the test here fail.
"""

import math

import numpy as np
import pytest

import test_certificate
import test_networks
import test_norms
import test_training
from conftest import TINY
from lipscale import config as configs
from lipscale.attacks import falsification as audit
from lipscale.certification import certificate, export, layers, norms
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError
from lipscale.training import loop as training

pytestmark = pytest.mark.slow


def caught(test, *arguments) -> None:
    """`test` fails."""
    with pytest.raises(AssertionError):
        test(*arguments)


def scaled_weight(weight, entry, side):
    return 1.02 * export_within_unit_norm(weight, entry, side)


export_within_unit_norm = export._within_unit_norm


def test_a_layer_scaled_by_1_02(monkeypatch):
    monkeypatch.setattr(export, "_within_unit_norm", scaled_weight)
    caught(test_networks.test_jacobian_norm_is_at_most_lipschitz, "mlp", "softmax", True, 5.0)
    caught(test_networks.test_exported_norms_and_scales_multiply_to_at_most_lipschitz, "mlp")


def test_radii_stay_sound_with_a_layer_scaled_by_1_02(monkeypatch):
    """What is enforced is then wrong, and the certified constant, which is larger, is what radii rest on."""
    monkeypatch.setattr(export, "_within_unit_norm", scaled_weight)
    promise = certificate.certificate(export.export(test_networks.make("mlp", 5.0), test_networks.SHAPE))
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
    caught(test_norms.test_conv_bound_is_never_below, "zeros", (4, 4), 0, monkeypatch)


def test_wrong_padding_in_the_exported_network(monkeypatch):
    build = layers.KINDS["conv"].build
    monkeypatch.setattr(layers, "_build", lambda specification, where="": [
        build(**{**entry, "padding_mode": "zeros"}) if (entry := dict(one)).pop("layer") == "conv"
        else (layers.KINDS[one["layer"]].build(**entry))
        for one in specification
    ])  # fmt: skip
    caught(test_networks.test_exporting_keeps_the_function, "convnet")


def test_a_forgotten_scale_in_the_bound(monkeypatch):
    monkeypatch.setitem(layers.KINDS, "scale", layers.Kind(layers.Scale, ("scale",), layers._selection, {}))
    caught(test_certificate.test_slope_of_a_layer_is_never_below_its_jacobian, "scale")
    caught(test_certificate.test_whole_networks)


def test_a_forgotten_scale_in_the_exported_network(monkeypatch):
    right = export._scales_within
    monkeypatch.setattr(export, "_scales_within", lambda network: [*right(network)[:-1], 1.0])
    caught(test_networks.test_exporting_keeps_the_function, "mlp")


def without_sqrt2(logits, labels, promise):
    margins, radii, _ = certificate_radii(logits, labels, promise)
    return margins, math.sqrt(2) * radii, math.sqrt(2) * radii


certificate_radii = certificate.certified_radii


def test_a_radius_without_sqrt_2(monkeypatch):
    monkeypatch.setattr(test_certificate, "certified_radii", without_sqrt2)
    caught(test_certificate.test_radius_by_hand)
    caught(test_certificate.test_radius_is_reached_and_not_passed)


def test_pairs_of_classes_at_half_their_distance(monkeypatch):
    right = certificate._pairs
    monkeypatch.setattr(certificate, "_pairs", lambda network, slope: right(network, slope) / 2)
    caught(test_certificate.test_pairs_of_a_single_dense_layer_are_exact, (0.5,))


def test_rounding_of_one_operation_for_that_of_a_sum(monkeypatch):
    monkeypatch.setattr(layers, "gamma", lambda n: 2.0**-53)
    caught(test_certificate.test_rounding_of_long_sums_is_within_its_bound)


def test_rounding_that_is_left_out_of_norms(monkeypatch):
    monkeypatch.setattr(norms, "gamma", lambda n: 0.0)
    monkeypatch.setattr(norms, "UNIT", 0.0)
    caught(test_norms.test_matrix_bound_is_never_below_in_exact_arithmetic)


def test_radii_that_are_not_rounded_down(monkeypatch):
    monkeypatch.setattr(certificate, "gamma", lambda n: 0.0)
    caught(test_certificate.test_radii_are_rounded_down)


def test_errors_that_are_not_amplified(monkeypatch):
    monkeypatch.setattr(layers.Bounds, "then", lambda before, after: layers.Bounds(
        after.slope * before.slope, after.offset, before.relative + after.relative, before.absolute + after.absolute
    ))  # fmt: skip
    caught(test_certificate.test_bounds_behind_one_another_by_hand)


def test_an_l_that_is_not_updated_after_the_last_epoch(monkeypatch, settings, digits, tmp_path):
    """Also found while the workflow runs: tests/workflow/test_checksums.py, the model that does not have the last L of its history."""
    right = export.export

    def with_the_l_before(network, image_shape):
        network.lipschitz = 1.1 * network.lipschitz
        return right(network, image_shape)

    monkeypatch.setattr(export, "export", with_the_l_before)
    training.train(settings(), Dataset(digits), tmp_path)
    caught(test_training.test_model_has_the_last_lipschitz, tmp_path)


@pytest.fixture(scope="module")
def tight(tmp_path_factory, digits):
    """The model of a run with L = 1, whose certificates are tight."""
    folder = tmp_path_factory.mktemp("tight")
    settings = [run for run in configs.runs(configs.check(TINY)) if run["run"] == "fixed-1-seed0"]
    training.train(settings[0], Dataset(digits), folder)
    return folder / "model.safetensors"


def attack_certificates(model, digits, stem) -> None:
    audit.audit(model, Dataset(digits), audit.Options(images=60, batch_size=60, seed=0), "cpu", 1, stem)


def test_the_audit_breaks_nothing_by_itself(tight, digits, tmp_path):
    attack_certificates(tight, digits, tmp_path / "audit")


def test_the_audit_finds_a_radius_without_sqrt_2(monkeypatch, tight, digits, tmp_path):
    monkeypatch.setattr(audit, "certified_radii", without_sqrt2)
    with pytest.raises(LipscaleError, match=r"the certificate of .* is broken for images test "):
        attack_certificates(tight, digits, tmp_path / "audit")
    assert (tmp_path / "audit.csv").exists()


def test_a_normalisation_outside_the_model(monkeypatch, tight, digits, tmp_path):
    """Images are divided by a standard deviation of 0.5 before the network sees them, and radii stay as they were."""
    forward = layers.PlainNetwork.forward
    monkeypatch.setattr(layers.PlainNetwork, "forward", lambda network, images: forward(network, images / 0.5))
    with pytest.raises(LipscaleError, match="is broken for images"):
        attack_certificates(tight, digits, tmp_path / "audit")

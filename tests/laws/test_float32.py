"""What is guaranteed of float32 evaluation."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from torch import nn

import synthetic
from lipscale.certification.arithmetic import FLOAT32, FLOAT64
from lipscale.certification.bounds import bounds
from lipscale.certification.certificate import certificate, certified_radii, float32_radii
from lipscale.certification.certify import certify
from lipscale.certification.own import from_modules
from lipscale.certification.plain_layers import Scale
from lipscale.evaluation.logits import exact_logits, float32_logits
from test_certificate import LAYERS, SHAPE, brought

CPU = torch.device("cpu")


@pytest.fixture(params=[False, True], ids=["gradual underflow", "flushed to zero"])
def flushed(request):
    if not torch.set_flush_denormal(request.param) and request.param:
        pytest.skip("this processor does not flush denormal numbers")
    yield request.param
    torch.set_flush_denormal(False)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [1.0, 2.0**-126, 2.0**-140])
def test_rounding_of_a_layer_is_within_its_bound(name, size, flushed):
    """Against float64, whose own rounding is 2^-29 of that; also where most numbers are too small for float32."""
    torch.manual_seed(0)
    layer = LAYERS[name].float()
    layers = layer if isinstance(layer, nn.Sequential) else nn.Sequential(layer)
    found = bounds(layers, SHAPE, FLOAT32)
    images = torch.randn(64, *SHAPE) * size
    rounded = layers(images)
    torch.set_flush_denormal(False)
    errors = (rounded.double() - layers.double()(images.double())).flatten(1).norm(dim=1)
    allowed = found.relative * images.double().flatten(1).norm(dim=1) + found.absolute
    assert (errors <= allowed).all()


def test_inner_products_against_fractions(flushed):
    """Sums of products that cancel, with weights down to the smallest number there is."""
    generator = np.random.default_rng(0)
    for features, size in ((7, 0), (64, -70), (300, -125), (64, -149)):
        dense = nn.Linear(features, 1)
        dense.weight.data[0] = torch.from_numpy(np.ldexp(generator.standard_normal(features), size).astype(np.float32))
        dense.bias.data[:] = float(np.ldexp(0.3, size))
        images = torch.from_numpy(generator.random((20, features)).astype(np.float32))
        found = bounds(nn.Sequential(nn.Flatten(), dense), (1, 1, features), FLOAT32)
        computed = dense(images)[:, 0].tolist()
        torch.set_flush_denormal(False)
        weights, bias = [Fraction(weight) for weight in dense.weight[0].tolist()], Fraction(dense.bias.item())
        for image, value in zip(images, computed, strict=True):
            exact = sum((w * Fraction(x) for w, x in zip(weights, image.tolist(), strict=True)), bias)
            assert abs(Fraction(value) - exact) <= Fraction(found.relative * image.double().norm().item() + found.absolute)
        torch.set_flush_denormal(flushed)


def test_rounding_of_whole_networks():
    plain = from_modules(brought(), SHAPE)
    promise = certificate(plain)
    images = torch.rand(200, *SHAPE)
    errors = (float32_logits(plain, images, CPU).double() - exact_logits(plain.double(), images, CPU)).norm(dim=1)
    assert errors.max() <= promise.rounding_float32
    assert promise.rounding_float32 == pytest.approx(promise.rounding * 2**29, rel=0.1)


def test_radii_are_at_most_those_of_float64_and_near_them():
    images = synthetic.images(200)
    found = certify(synthetic.network(), images)
    assert (found.radii_float32 <= found.radii).all()
    certain = found.radii > np.median(found.radii)
    assert (found.radii_float32[certain] > 0.99 * found.radii[certain]).all()


def test_float32_logits_keep_the_class_within_the_radius():
    """A linear network, where the nearest image of another class is known: just within the radius float32 keeps its class."""
    torch.manual_seed(0)
    rows = torch.linalg.qr(torch.randn(64, 2))[0].T.contiguous()  # their difference has the norm sqrt(2): radii are tight
    dense = nn.Linear(64, 2)
    dense.weight.data, dense.bias.data = rows, torch.tensor([0.7, 0.7])
    plain = from_modules(nn.Sequential(nn.Flatten(), dense), (1, 8, 8))
    images = torch.rand(2000, 1, 8, 8).double() * 0.5 + 0.25
    found = certify(plain, images)
    towards = (rows[1] - rows[0]).double() / math.sqrt(2)
    signs = torch.from_numpy(np.where(found.predictions == 0, 1.0, -1.0))
    near = (found.radii_float32 > 0) & (found.radii_float32 < 0.2)
    assert near.sum() > 500
    steps = signs.reshape(-1, 1, 1, 1) * towards.reshape(1, 1, 8, 8)
    moved = images + torch.from_numpy(found.radii_float32 * (1 - 1e-9)).reshape(-1, 1, 1, 1) * steps
    inside = ((moved >= 0) & (moved <= 1)).flatten(1).all(1).numpy() & near
    assert inside.sum() > 500
    classes = float32_logits(plain, moved.float(), CPU).argmax(1).numpy()
    assert (classes == found.predictions)[inside].all()
    beyond = images + torch.from_numpy(found.radii * 1.0001).reshape(-1, 1, 1, 1) * steps
    assert (exact_logits(plain.double(), beyond.clamp(0, 1), CPU).argmax(1).numpy() != found.predictions)[inside].mean() > 0.9


@pytest.mark.parametrize("scales", [(1e30, 1e-30), (1e6, 1e-6), (2.0**17,)])
def test_numbers_that_may_overflow_have_no_radius(scales):
    plain = from_modules(nn.Sequential(nn.Flatten(), nn.Linear(16, 2), *map(Scale, scales)), (1, 4, 4))
    promise = certificate(plain)
    assert math.isfinite(promise.rounding)
    assert promise.rounding_float32 == math.inf
    margins, radii, _ = certified_radii(np.array([[3.0, 1.0]]), np.array([0]), promise)
    assert radii > 0
    assert float32_radii(margins, promise) == 0


def test_weights_that_are_no_float32_numbers_have_no_radius():
    plain = from_modules(nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), (1, 4, 4)).double()
    assert math.isfinite(certificate(plain).rounding_float32)
    plain[1].weight.data[0, 0] = 0.1
    assert certificate(plain).rounding_float32 == math.inf


def test_margins_are_lowered_by_both_roundings():
    plain = synthetic.network()
    promise = certificate(plain)
    expected = (2 - math.sqrt(2) * (promise.rounding + promise.rounding_float32)) / (math.sqrt(2) * promise.lipschitz_certified)
    assert float32_radii(np.array([2.0]), promise) == pytest.approx([expected], rel=1e-12)


def test_sums_that_are_too_long_have_no_bound():
    assert FLOAT32.gamma(2**24) == math.inf
    assert FLOAT64.gamma(2**24) < 1e-8
    assert FLOAT32.gamma(1) >= 2.0**-24

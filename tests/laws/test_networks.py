"""Laws of the scaled networks: Lipschitz, dual to temperature, sound when exported."""

import math
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch
from torch.func import jacrev, vmap

from lipscale.certification.certificate import certificate, certified_radii
from lipscale.certification.freezing import freeze
from lipscale.certification.norms import matrix_norm_bound
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.errors import LipscaleError
from lipscale.networks.network import build_network

ARCHITECTURES = {
    "mlp": {"architecture": "mlp", "widths": [32, 32]},
    "convnet": {"architecture": "convnet", "channels": [4, 8], "depth": 1, "patch": 1, "widths": [16]},
    "convnet of patches": {"architecture": "convnet", "channels": [4], "depth": 2, "patch": 2, "widths": [16]},
    "convnet without hidden dense layers": {"architecture": "convnet", "channels": [4], "depth": 1, "patch": 1, "widths": []},
}
SHAPE = (1, 8, 8)


def make(architecture: str, lipschitz: float = 5.0, bias: bool = True, allocation: str = "softmax"):
    torch.manual_seed(0)
    return build_network(section(architecture, bias=bias, allocation=allocation), SHAPE, 10, [0.3], lipschitz)


def section(architecture: str, bias: bool = True, allocation: str = "softmax", family: str = "orthogonal") -> SimpleNamespace:
    """The checked section `network` of a config."""
    return SimpleNamespace(**ARCHITECTURES[architecture], bias=bias, allocation=allocation, family=family)


def steps(network: torch.nn.Module, count: int) -> None:
    """Optimiser steps large enough to move every parameter."""
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    images, labels = torch.rand(64, *SHAPE), torch.randint(10, (64,))
    for _ in range(count):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()


def largest_jacobian_norm(network: torch.nn.Module) -> float:
    """The largest norm of the full Jacobian, (10, 64), over images inside and outside the pixel range."""
    images = torch.cat([torch.rand(16, *SHAPE), 3 * torch.randn(16, *SHAPE)]).double()
    jacobians = vmap(jacrev(lambda image: network(image[None])[0]))(images)
    return torch.linalg.matrix_norm(jacobians.flatten(2), 2).max().item()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("allocation", ["softmax", "unconfined"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("lipschitz", [0.05, 40.0])
def test_jacobian_norm_is_at_most_lipschitz(architecture, allocation, bias, lipschitz):
    network = make(architecture, lipschitz, bias, allocation)
    for count in (0, 10):
        steps(network, count)
        plain = freeze(network, SHAPE).double()
        # A product of n matrices of size m in float64, each product off by at most gamma_m ||A||_F ||B||_F <= m^2 u, and
        # LAPACK's singular value behind it; m <= 256 features, n <= 7.
        allowance = 8 * 256**2 * 2.0**-53
        certified = certificate(plain).lipschitz_certified
        assert largest_jacobian_norm(plain) <= certified * (1 + allowance)
        # the product of norms is at most L by export's own proof; that of their bounds is rounded up once more, 7 n times
        assert 0.999 * lipschitz < certified <= lipschitz * (1 + 20 * 40 * 2.0**-53)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exporting_keeps_the_function(architecture):
    network = make(architecture)
    steps(network, 5)
    images = torch.rand(32, *SHAPE)
    plain = freeze(network, SHAPE)
    # Exporting divides layer k by a bound d_k on its norm, which changes logits by at most |1 - 1/d_k| times L times what
    # enters, an image's distance from the mean (at most 8) and biases (less than that again); the rest is float32, 7 layers.
    weights = {name: layer.weight for name, layer in network.layers.named_children()}
    kept = {name: layer.weight for name, layer in zip(weights, (m for m in plain if hasattr(m, "weight")), strict=True)}
    change = sum(abs(1 - (kept[name].norm() / weights[name].norm()).item()) for name in weights)
    assert change < 0.01
    assert (plain(images) - network.eval()(images)).abs().max() < 5.0 * 16 * (change + 7 * 1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_exported_norms_and_scales_multiply_to_at_most_lipschitz(architecture):
    network = make(architecture, 0.7, allocation="unconfined")
    torch.nn.init.normal_(network.budget.weights)
    plain = freeze(network, SHAPE)
    scales = [Fraction(entry["scale"]) for entry in plain.specification if entry["layer"] == "scale"]
    assert math.prod(scales) <= Fraction(0.7)
    dense = [layer.weight.double() for layer in plain if isinstance(layer, torch.nn.Linear)]
    assert all(matrix_norm_bound(weight) <= 1 for weight in dense)
    assert plain.lipschitz == 0.7


@pytest.mark.parametrize("temperature", [0.01, 0.5, 3.0, 100.0])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_duality_is_exact_without_biases(architecture, temperature):
    """f_{L/T} = f_L / T. The layers are homogeneous, so only rounding is left."""
    network = make(architecture, bias=False).double()
    torch.nn.init.normal_(network.budget.weights)
    images = torch.rand(16, *SHAPE, dtype=torch.float64)
    logits = network(images)
    network.budget.lipschitz = 5.0 / temperature
    # scales have relative errors of a few units in the last place times |alpha log L|; layers up to m = 256 add gamma_m each
    allowance = 7 * (256 + 64) * 2.0**-53 * 5.0 / temperature * 8
    assert (network(images) - logits / temperature).abs().max() <= allowance


def test_without_biases_the_exponents_have_no_gradient():
    network = make("mlp", bias=False).double()
    torch.nn.init.normal_(network.budget.weights)
    network(torch.rand(8, *SHAPE, dtype=torch.float64)).square().sum().backward()
    assert network.budget.weights.grad.abs().max() < 1e-10  # terms of the size of the squared logits, about 100, cancel


def test_with_biases_the_duality_has_a_measured_gap():
    """The gap exists, and is what the biases contribute: it grows with them and vanishes with them."""
    gaps = []
    for size in (0.0, 0.01, 0.1):
        network = make("mlp").double()
        for layer in network.layers:
            torch.nn.init.constant_(layer.bias, size)
        images = torch.rand(16, *SHAPE, dtype=torch.float64)
        logits = network(images)
        network.budget.lipschitz = 5.0 / 3
        gaps.append(((network(images) - logits / 3).norm() / (logits / 3).norm()).item())
    assert gaps[0] < 1e-12
    assert 1e-4 < gaps[1] < gaps[2] < 1


def test_unknown_layer_is_an_error_that_names_it():
    with pytest.raises(LipscaleError, match="layer 1 is 'attention'"):
        PlainNetwork([{"layer": "centre", "channels": 1}, {"layer": "attention"}], 1.0, SHAPE)


def test_unknown_trained_layer_is_an_error():
    network = make("convnet")
    network.layers[0].padding_mode = "zeros"
    with pytest.raises(LipscaleError, match="circular padding"):
        freeze(network, SHAPE)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_constraint_the_same_layers_and_no_certificate(architecture):
    torch.manual_seed(0)
    network = build_network(section(architecture), SHAPE, 10, [0.3], math.inf)
    shapes = [layer.weight.shape for layer in make(architecture).layers]
    assert [layer.weight.shape for layer in network.layers] == shapes
    plain = freeze(network, SHAPE)
    images = torch.rand(8, *SHAPE)
    assert plain.lipschitz == math.inf
    torch.testing.assert_close(plain(images), network(images))
    logits = plain(images).double().numpy()
    _, radii, pair_radii = certified_radii(logits, logits.argmax(1), certificate(plain))
    assert (radii == 0).all()
    assert (pair_radii == 0).all()


def test_families_are_checked():
    with pytest.raises(LipscaleError, match="there is no 'lazy'; allowed: aol, bro, cayley, orthogonal, sll, unconstrained"):
        build_network(section("mlp", family="lazy"), SHAPE, 10, [0.3], 1.0)
    with pytest.raises(LipscaleError, match=r"network\.family is unconstrained, .*allowed: a family of 1-Lipschitz layers"):
        build_network(section("mlp", family="unconstrained"), SHAPE, 10, [0.3], 1.0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_freezing_draws_no_random_numbers(architecture):
    network = make(architecture)
    state = torch.get_rng_state()
    freeze(network, SHAPE)
    assert torch.equal(state, torch.get_rng_state())

"""What a certificate guarantees: bounds of layers, radii, rounding."""

import itertools
import json
import math
from fractions import Fraction

import numpy as np
import orthogonium.layers
import pytest
import torch
from torch import nn
from torch.func import jacrev, vmap

from lipscale.certification.bounds import PROOFS, Bounds, bounds, layer_bounds
from lipscale.certification.certificate import RADII_COLUMNS, Certificate, certificate, certified_radii, description, radii_rows
from lipscale.certification.norms import conv_norm_bound
from lipscale.certification.own import from_modules
from lipscale.certification.plain_layers import KINDS, Centre, GroupSort2, PlainNetwork, Residual, Scale
from lipscale.errors import LipscaleError
from lipscale.evaluation.logits import exact_logits
from lipscale.networks.maxmin import MaxMin
from lipscale.networks.sll import SLL, SLLConv

SHAPE = (2, 8, 8)


def scaled_sll(factor: float) -> SLL:
    layer = SLL(128)
    layer.weight.data *= factor
    layer.bias.data += torch.linspace(-0.1, 0.1, 128)
    return layer


def scaled_sll_conv(factor: float) -> SLLConv:
    """With a kernel of the norm `factor`, nearly."""
    generator, layer = torch.Generator().manual_seed(0), SLLConv(2, 5)
    layer.weight.data = torch.randn(2, 2, 5, 5, generator=generator)
    layer.weight.data *= factor / conv_norm_bound(layer.weight.data.double(), SHAPE[1:], (1, 1), (2, 2), "circular")
    layer.bias.data += torch.tensor([-0.1, 0.1])
    return layer


LAYERS = {
    "centre": Centre(2),
    "dense": nn.Sequential(nn.Flatten(), nn.Linear(128, 7)),
    "dense without bias": nn.Sequential(nn.Flatten(), nn.Linear(128, 7, bias=False)),
    "conv": nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular"),
    "conv, zeros, strided": nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(1, 0)),
    "scale": Scale(-1.7),
    "maxmin": MaxMin(),
    "maxmin of orthogonium": orthogonium.layers.MaxMin(),
    "groupsort2": GroupSort2(),
    "relu": nn.ReLU(),
    "flatten": nn.Flatten(),
    "average_pool": nn.AvgPool2d(2),
    "max_pool": nn.MaxPool2d(2),
    "residual": Residual(nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())),
    "sll": nn.Sequential(nn.Flatten(), SLL(128)),
    "sll of norm 1.5": nn.Sequential(nn.Flatten(), scaled_sll(1.5)),
    "sll of norm 0.5": nn.Sequential(nn.Flatten(), scaled_sll(0.5)),
    "sll_conv": SLLConv(2, 3, bias=False),
    "sll_conv of norm 1.5": scaled_sll_conv(1.5),
    "sll_conv of norm 0.5": scaled_sll_conv(0.5),
}


def brought() -> nn.Sequential:
    """A network of every kind of layer, as somebody might bring it."""
    torch.manual_seed(0)
    network = nn.Sequential(
        Centre(2), nn.Conv2d(2, 8, 3, padding=1), MaxMin(), Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())),
        nn.AvgPool2d(2), nn.Conv2d(8, 8, 2, stride=2), GroupSort2(), Scale(2.0), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 5),
        Scale(3.0),
    )  # fmt: skip
    network[0].mean += 0.4
    return network


def largest_jacobian_norm(network: nn.Module, shape=SHAPE) -> float:
    """The largest norm of the full Jacobian over images inside and outside the pixel range."""
    torch.manual_seed(1)
    images = torch.cat([torch.rand(16, *shape), 3 * torch.randn(16, *shape)]).double()
    jacobians = vmap(jacrev(lambda image: network(image[None])[0].flatten()))(images)
    return torch.linalg.matrix_norm(jacobians.flatten(2), 2).max().item()


@pytest.mark.parametrize("name", LAYERS)
def test_slope_of_a_layer_is_never_below_its_jacobian(name):
    torch.manual_seed(0)
    layer = LAYERS[name].double()
    layers = layer if isinstance(layer, nn.Sequential) else nn.Sequential(layer)
    assert bounds(layers, SHAPE).slope >= largest_jacobian_norm(layers) * (1 - 1e-12)  # of LAPACK, for matrices of side 256


@pytest.mark.parametrize("name", LAYERS)
def test_offset_of_a_layer_is_never_below_its_output_for_zeros(name):
    torch.manual_seed(0)
    layer = LAYERS[name].double()
    layers = layer if isinstance(layer, nn.Sequential) else nn.Sequential(layer)
    for part in layers.modules():
        if isinstance(part, Centre):
            part.mean += 0.4
    assert bounds(layers, SHAPE).offset >= layers(torch.zeros(1, *SHAPE).double()).norm().item()


def test_every_kind_is_tested():
    tested = {type(part) for layer in LAYERS.values() for part in layer.modules()}
    assert tested >= {kind.build for kind in KINDS.values()}
    assert list(PROOFS) == list(KINDS)


def test_bounds_behind_one_another():
    """An input of norm r: the error before, 0.1 r + 0.2, times 3; 0.5 of what enters, 2 r + 1 and that error; and 0.7."""
    whole = Bounds(2.0, 1.0, 0.1, 0.2).then(Bounds(3.0, 5.0, 0.5, 0.7))
    assert whole.slope == pytest.approx(6)
    assert whole.offset == pytest.approx(3 * 1 + 5)
    assert whole.relative == pytest.approx(3 * 0.1 + 0.5 * (2 + 0.1))
    assert whole.absolute == pytest.approx(3 * 0.2 + 0.5 * (1 + 0.2) + 0.7)
    assert whole.slope >= 6
    assert whole.absolute >= 3 * 0.2 + 0.5 * 1.2 + 0.7


def test_rounding_of_long_sums_is_within_its_bound():
    """One output, exact by fractions: all terms positive, where errors are largest; also where they cancel."""
    torch.manual_seed(0)
    for features, sign in itertools.product((7, 64, 1000), (False, True)):
        layer = nn.Linear(features, 1).double()
        weights, images = torch.rand(features).double(), torch.rand(8, features).double()
        layer.weight.data[0] = weights - 0.5 * sign
        found = bounds(nn.Sequential(nn.Flatten(), layer), (1, 1, features))
        for image, computed in zip(images, layer(images)[:, 0], strict=True):
            terms = zip(layer.weight[0].tolist(), image.tolist(), strict=True)
            exact = sum((Fraction(weight) * Fraction(pixel) for weight, pixel in terms), Fraction(layer.bias.item()))
            assert abs(Fraction(computed.item()) - exact) <= found.relative * image.norm().item() + found.absolute
        assert found.relative >= (features + 1) * 2.0**-53 * layer.weight.norm().item()


@pytest.mark.parametrize("name", LAYERS)
def test_rounding_of_a_layer_is_within_its_bound(name):
    """float32 stands for float64, where exact values could not be known: the bound is scaled by the ratio of the units."""
    torch.manual_seed(0)
    layer = LAYERS[name].float()
    layers = layer if isinstance(layer, nn.Sequential) else nn.Sequential(layer)
    found = bounds(layers, SHAPE)
    images = torch.randn(64, *SHAPE)
    rounded = layers(images).double()
    exact = layers.double()(images.double())
    errors = (rounded - exact).flatten(1).norm(dim=1)
    allowed = (found.relative * images.double().flatten(1).norm(dim=1) + found.absolute) * 2**29
    assert (errors <= allowed).all()


def test_whole_networks():
    plain = from_modules(brought(), SHAPE).double()
    promise = certificate(plain)
    assert largest_jacobian_norm(plain) <= promise.lipschitz_certified == promise.lipschitz
    images = torch.rand(200, *SHAPE)
    rounded = from_modules(brought(), SHAPE)(images).double()
    errors = (rounded - exact_logits(plain, images, torch.device("cpu"))).norm(dim=1)
    assert errors.max() <= promise.rounding * 2**29


def test_pairs_of_classes():
    """No pair has a larger constant than sqrt(2) L, and none a smaller one than its Jacobian shows."""
    plain = from_modules(brought(), SHAPE).double()
    promise = certificate(plain)
    assert (promise.pairs <= math.sqrt(2) * promise.lipschitz_certified * (1 + 1e-12)).all()
    assert (promise.pairs < math.sqrt(2) * promise.lipschitz_certified).any()
    images = torch.rand(32, *SHAPE).double()
    jacobians = vmap(jacrev(lambda image: plain(image[None])[0].flatten()))(images).flatten(2)  # (images, classes, pixels)
    found = (jacobians[:, :, None] - jacobians[:, None]).norm(dim=3).amax(0)
    assert (found.numpy() <= promise.pairs).all()


@pytest.mark.parametrize("scales", [(0.5,), (3.0,), (0.5, -3.0)])
def test_pairs_of_a_single_dense_layer_are_exact(scales):
    """f_i - f_j is linear there, with the norm of the difference of two rows, times all scales behind."""
    torch.manual_seed(0)
    dense = nn.Linear(9, 4)
    plain = from_modules(nn.Sequential(nn.Flatten(), dense, *map(Scale, scales)), (1, 3, 3))
    rows = [[Fraction(weight) for weight in row] for row in dense.weight.tolist()]
    for i, j in itertools.permutations(range(4), 2):
        square = sum((a - b) ** 2 for a, b in zip(rows[i], rows[j], strict=True)) * math.prod(map(Fraction, scales)) ** 2
        assert square <= Fraction(certificate(plain).pairs[i, j]) ** 2 <= square * (1 + Fraction(1, 10**12))


def test_radii_are_rounded_down():
    """radius^2 2 L^2 <= margin^2, exactly, for logits and L taken as they are."""
    generator = np.random.default_rng(0)
    for lipschitz, margin in zip(generator.uniform(0.1, 10, 500), generator.uniform(0.1, 10, 500), strict=True):
        promise = promised(float(lipschitz), 2)
        _, radius, _ = certified_radii(np.array([[margin, 0.0]]), np.array([0]), promise)
        assert 2 * (Fraction(radius[0]) * Fraction(lipschitz)) ** 2 <= Fraction(margin) ** 2


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int64])
def test_logits_in_other_than_float64_are_refused(dtype):
    """For float32 logits of random linear networks, 7,581 of 30,000 radii exceeded the distance to the border."""
    with pytest.raises(LipscaleError, match=f"the logits are {np.dtype(dtype)}; allowed: float64"):
        certified_radii(np.eye(3, dtype=dtype), np.arange(3), promised(1.0, 3))


def test_pixels_k_over_255_are_rounded_too():
    """f(x) = x on two pixels: the border between the classes is where they are equal, |a - b| / (255 sqrt(2)) away."""
    promise = certificate(from_modules(nn.Sequential(nn.Flatten()), (1, 1, 2)))
    pixels = np.array([(a, b) for a in range(256) for b in range(a)])
    radii = certified_radii(pixels / 255, np.zeros(len(pixels), int), promise)[1]
    for (a, b), radius in zip(pixels.tolist(), radii.tolist(), strict=True):
        assert 2 * (Fraction(radius) * 255) ** 2 < (a - b) ** 2


def test_numbers_that_would_overflow_are_refused():
    dense = nn.Linear(16, 2, bias=False)
    torch.nn.init.constant_(dense.weight, 0.25)
    for scales in ((1e308, 1e-308), (1e60, 1e-60)):
        network = nn.Sequential(nn.Flatten(), Scale(scales[0]), dense, Scale(scales[1]))
        with pytest.raises(LipscaleError, match="layer 1: numbers that are not finite, or too large"):
            certificate(from_modules(network, (1, 4, 4)))
    with pytest.raises(LipscaleError, match="the logits hold NaN or infinity"):
        certified_radii(np.array([[np.inf, 0.0]]), np.array([0]), promised(1.0, 2))


def test_tiny_scales_give_no_infinite_radius():
    scales = [Scale(1e-30), Scale(1e-200), Scale(1e30), Scale(1e-200)]
    plain = from_modules(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), *scales), (1, 2, 2))
    promise = certificate(plain)
    assert promise.lipschitz_certified > 0
    assert (promise.pairs[0, 1], promise.pairs[1, 0]) > (0, 0)


def test_a_network_of_zeros_certifies_its_biases():
    """A constant function: no perturbation changes anything, and there is no NaN."""
    dense = nn.Linear(4, 2)
    torch.nn.init.zeros_(dense.weight)
    dense.bias.data[:] = torch.tensor([1.0, 0.0])
    plain = from_modules(nn.Sequential(nn.Flatten(), dense), (1, 2, 2))
    _, radii, pair_radii = certified_radii(np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([0, 1]), certificate(plain))
    assert radii[0] > 1e200
    assert pair_radii[0] > 1e200
    assert (radii[1], pair_radii[1]) == (0, 0)


def promised(lipschitz: float, classes: int, rounding: float = 0.0) -> Certificate:
    return Certificate(lipschitz, lipschitz, np.full((classes, classes), math.sqrt(2) * lipschitz), rounding)


def test_radius_of_three_images():
    """Margin 3 - 1 = 2 at L = 4: R = 2 / (4 sqrt 2). A misclassified image, and one on the border, have none."""
    logits = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0], [1.0, 1.0, 0.0]])
    margins, radii, pair_radii = certified_radii(logits, np.array([0, 0, 0]), promised(4.0, 3))
    assert margins.tolist() == [2.0, -2.0, 0.0]
    assert radii == pytest.approx([2 / (4 * np.sqrt(2)), 0, 0], rel=1e-14)
    assert pair_radii == pytest.approx(radii, rel=1e-14)


def test_radius_is_reached_and_not_passed():
    """f(x) = (L x, -L x) / sqrt(2) is L-Lipschitz with its decision border at 0, so the radius of x > 0 is x and no more."""
    lipschitz = 7.0
    for x in np.random.default_rng(0).random(1000):
        logits = lipschitz * np.array([[x, -x]]) / np.sqrt(2)
        radius = certified_radii(logits, np.array([0]), promised(lipschitz, 2))[1]
        assert radius == pytest.approx([x], rel=1e-14)
        # the logits are rounded twice, which `rounding` would be there for; up to that the radius is not passed
        assert Fraction(radius[0]) <= Fraction(x) * (1 + Fraction(4, 2**53))


def test_radius_rests_on_the_larger_constant():
    logits, labels = np.array([[3.0, 1.0]]), np.array([0])
    loose = Certificate(4.0, 5.0, np.full((2, 2), 8.0), 0.0)
    assert certified_radii(logits, labels, loose)[1] == pytest.approx([2 / (5 * np.sqrt(2))])
    claimed = Certificate(5.0, 4.0, np.full((2, 2), 8.0), 0.0)
    assert certified_radii(logits, labels, claimed)[1] == pytest.approx([2 / (5 * np.sqrt(2))])
    assert certified_radii(logits, labels, claimed)[2] == pytest.approx([2 / 8])


def test_radius_is_lowered_by_rounding():
    logits, labels = np.array([[3.0, 1.0]]), np.array([0])
    radius = certified_radii(logits, labels, promised(1.0, 2, rounding=0.1))[1]
    assert radius == pytest.approx([(2 - 2 * np.sqrt(2) * 0.1) / np.sqrt(2)])
    assert certified_radii(logits, labels, promised(1.0, 2, rounding=1.0))[1] == [0.0]


def test_pair_radius_is_the_nearest_class_in_pixels():
    """The runner-up is twice as far away in logits as the third class, whose functional is ten times as steep."""
    pairs = np.array([[0.0, 1.0, 10.0], [1.0, 0.0, 10.0], [10.0, 10.0, 0.0]])
    radius = certified_radii(np.array([[3.0, 2.0, 1.0]]), np.array([0]), Certificate(10.0, 10.0, pairs, 0.0))
    assert radius[2] == pytest.approx([0.2])


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.Tanh(), "layer 1 is Tanh; allowed: centre, dense"),
        (type("Mine", (nn.ReLU,), {})(), "layer 1 is Mine"),
        (nn.utils.parametrizations.orthogonal(nn.Linear(128, 128)), "layer 1 is ParametrizedLinear; .* unparametrized"),
        (nn.Conv2d(2, 2, 3, groups=2), "has groups 2; allowed: 1"),
        (nn.Conv2d(2, 2, 3, dilation=2), r"has dilation \(2, 2\)"),
        (nn.Conv2d(2, 2, 3, padding="same"), "has padding 'same'; allowed: numbers"),
        (nn.Conv2d(2, 2, 3, padding=1, padding_mode="reflect"), "padding mode 'reflect'; allowed: zeros, circular"),
        (nn.AvgPool2d(3, stride=1), "windows that overlap"),
        (nn.MaxPool2d(2, padding=1), "has padding 1"),
        (nn.MaxPool2d(3, stride=1), "windows that overlap"),
        (nn.MaxPool2d(3, ceil_mode=True), "has ceil_mode True"),
        (nn.MaxPool2d(2, return_indices=True), "has return_indices True"),
        (nn.ReLU(inplace=True), "has inplace True"),
        (nn.utils.spectral_norm(nn.Conv2d(2, 2, 3)), "has a hook"),
        (Residual(type("Mine", (nn.Sequential,), {})(nn.ReLU())), "the branch 1 is Mine; allowed: torch.nn.Sequential"),
        (Residual(nn.Linear(8, 8)), "the branch 1 is Linear"),
        (orthogonium.layers.MaxMin(axis=2), "has axis 2"),
        (nn.Flatten(2), "has start_dim 2"),
        (nn.Linear(8, 3), "allowed: a flattened one of 8 numbers"),
        (Centre(1), r"input of shape \[2, 8, 8\] \(allowed: 1 channels, height and width"),
        (Residual(nn.Sequential(nn.AvgPool2d(8))), "changes the shape of its input"),
        (Residual(nn.Sequential(nn.Dropout())), r"layer 1\.0 is Dropout"),
    ],
)
def test_anything_else_is_an_error_that_names_the_layer(layer, message):
    network = nn.Sequential(nn.ReLU(), layer)
    with pytest.raises(LipscaleError, match=message):
        bounds(network, SHAPE)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e300])
def test_a_scale_that_is_not_finite_is_refused(value):
    plain = PlainNetwork(
        [{"layer": "flatten"}, {"layer": "scale", "scale": value}, {"layer": "scale", "scale": 1e300}], 1, SHAPE
    )
    with pytest.raises(LipscaleError, match="numbers that are not finite, or too large"):
        certificate(plain)


def test_bounds_of_a_single_layer_name_it():
    with pytest.raises(LipscaleError, match=r"layer 3 \(conv\): .*allowed: some output"):
        layer_bounds(nn.Conv2d(2, 2, 9), SHAPE, "3")


def test_sorted_pairs_are_no_farther_apart():
    """The proof of MaxMin and GroupSort2, on pairs of points: sorting is 1-Lipschitz, keeps the norm and rounds nothing."""
    torch.manual_seed(0)
    first, second = 3 * torch.randn(500, 8, 3, dtype=torch.float64), 3 * torch.randn(500, 8, 3, dtype=torch.float64)
    for layer in (MaxMin(), orthogonium.layers.MaxMin(), GroupSort2()):
        before, after = (first - second).flatten(1).norm(dim=1), (layer(first) - layer(second)).flatten(1).norm(dim=1)
        assert (after <= before * (1 + 8 * 2.0**-53)).all()
        assert torch.equal(layer(first).flatten(1).sort()[0], first.flatten(1).sort()[0])


def test_description_is_strict_json_also_without_constraint():
    plain = from_modules(brought(), SHAPE)
    described = description(plain, certificate(plain))
    assert described["lipschitz"] == certificate(plain).lipschitz_certified
    assert [layer["layer"] for layer in described["layers"]] == [entry["layer"] for entry in plain.specification]
    plain.lipschitz = math.inf
    read = json.loads(json.dumps(description(plain, certificate(plain)), allow_nan=False))
    assert read["lipschitz"] == "inf"
    assert float(read["lipschitz"]) == math.inf


def test_rows_of_radii():
    logits, labels = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 1.0]]), np.array([0, 0])
    rows = list(radii_rows(logits, labels, promised(4.0, 3)))
    assert [tuple(row) for row in rows] == [RADII_COLUMNS] * 2
    assert [row["prediction"] for row in rows] == [0, 1]
    assert [row["radius"] for row in rows] == certified_radii(logits, labels, promised(4.0, 3))[1].tolist()

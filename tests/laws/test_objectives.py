"""Laws of the objectives: special cases, formulas, attacks that stay where they may, gradients that reach all parameters."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrize

from fuzzing import examples
from lipscale import discovery
from lipscale.training.adversarial import Ball, ascend
from lipscale.training.objectives import brier, caat, flsd, focal, label_smoothing, pgd, trades
from lipscale.training.precision import fast_logits
from lipscale.units import distance
from test_networks import SHAPE, make

NAMES = discovery.names("lipscale.training.objectives")
PLAIN = ["brier", "cross_entropy", "flsd", "focal", "label_smoothing"]
ADVERSARIAL = ["caat", "pgd", "trades"]
ROUNDING = 1e-6  # of float32 distances around 1

LOGITS = arrays(np.float32, (4, 5), elements=st.floats(-30, 30, width=32))
LABELS = torch.tensor([0, 1, 2, 4])


def loss_of(logits: torch.Tensor, module, labels: torch.Tensor = LABELS, **settings) -> torch.Tensor:
    """The loss of given logits."""
    return module.loss(lambda images: logits, None, labels, module.Settings(**settings), math.inf)


def value_and_gradient(logits: np.ndarray, loss) -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.from_numpy(logits).double().requires_grad_()
    value = loss(logits)
    return value.detach(), torch.autograd.grad(value, logits)[0]


def batch(count: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, many of whose pixels are at the border of [0, 1], and labels."""
    generator = torch.Generator().manual_seed(1)
    images = (2 * torch.rand(count, *SHAPE, generator=generator) - 0.5).clamp(0, 1)
    images[0], images[1] = 0, 1
    return images, torch.randint(10, (count,), generator=generator)


def objective(name: str, **settings):
    """`objective(...)(forward, images, labels)`: the loss."""
    module = discovery.load("lipscale.training.objectives", name)
    return lambda forward, images, labels: module.loss(forward, images, labels, module.Settings(**settings), 5.0)


def recorded(network: torch.nn.Module, seen: list):
    """The network as a function that notes each batch that it gets."""

    def forward(images):
        seen.append(images.detach().clone())
        return network(images)

    return forward


def test_all_objectives_are_tested():
    assert sorted(PLAIN + ADVERSARIAL) == NAMES


@examples(60)
@given(LOGITS)
def test_special_cases_are_cross_entropy(logits):
    expected = value_and_gradient(logits, lambda logits: cross_entropy(logits, LABELS))
    for module, settings in ((focal, {"gamma": 0}), (label_smoothing, {"alpha": 0})):
        torch.testing.assert_close(value_and_gradient(logits, lambda logits: loss_of(logits, module, **settings)), expected)  # noqa: B023


@examples(60)
@given(LOGITS, st.floats(0, 0.99))
def test_label_smoothing_is_the_cross_entropy_of_its_target(logits, alpha):
    logits = torch.from_numpy(logits).double()
    target = (1 - alpha) * torch.eye(5)[LABELS] + alpha / 5
    expected = -(target * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(loss_of(logits, label_smoothing, alpha=alpha), expected)


@examples(60)
@given(LOGITS, st.floats(0, 6))
def test_focal_loss_is_its_formula(logits, gamma):
    logits = torch.from_numpy(logits).double()
    right = logits.softmax(1)[range(4), LABELS]
    expected = -((1 - right) ** gamma * right.log()).mean()
    torch.testing.assert_close(loss_of(logits, focal, gamma=gamma), expected, rtol=1e-6, atol=1e-9)


@examples(60)
@given(LOGITS)
def test_brier_score_is_its_formula(logits):
    logits = torch.from_numpy(logits).double()
    expected = sum(
        (p - (k == label)) ** 2
        for row, label in zip(logits.softmax(1).tolist(), LABELS.tolist(), strict=True)
        for k, p in enumerate(row)
    )
    assert loss_of(logits, brier).item() == pytest.approx(expected / 4, abs=1e-9)


@pytest.mark.parametrize(("probability", "gamma"), [(0.001, 5), (0.199, 5), (0.201, 3), (0.999, 3)])
def test_flsd_is_focal_loss_on_each_side_of_its_threshold(probability, gamma):
    """In value and gradient: gamma is a constant on each side."""
    others = (1 - probability) / 4
    logits = np.log(np.array([[probability, others, others, others, others]]))
    found, expected = (
        value_and_gradient(logits, lambda logits: loss_of(logits, module, torch.tensor([0]), **settings))  # noqa: B023
        for module, settings in ((flsd, {}), (focal, {"gamma": gamma}))
    )
    torch.testing.assert_close(found, expected)


def test_flsd_chooses_gamma_image_by_image():
    logits = torch.tensor([[0.0, 3.0, 0.0], [3.0, 0.0, 0.0]])  # p_0 below and above 0.2
    labels = torch.tensor([0, 0])
    each = [loss_of(logits[i : i + 1], focal, labels[:1], gamma=gamma) for i, gamma in enumerate((5, 3))]
    torch.testing.assert_close(loss_of(logits, flsd, labels), torch.stack(each).mean())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [0.0, 1e-4, 50.0, 1e4])
def test_loss_and_gradients_are_finite_for_extreme_logits(name, size):
    """Right, wrong and undecided ones, in float32."""
    weights = torch.eye(10, 64) * size
    weights.requires_grad_()
    images, labels = batch()
    value = objective(name)(lambda images: images.flatten(1) @ weights.T, images, labels)
    value.backward()
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert weights.grad.isfinite().all()


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 3])
def test_focal_loss_has_finite_gradients_where_the_probability_rounds_to_one(gamma):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    loss_of(logits, focal, torch.tensor([0, 0]), gamma=gamma).backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[1].abs().min() > 0.4


@pytest.mark.parametrize("lipschitz", [5.0, math.inf])
@pytest.mark.parametrize("architecture", ["mlp", "convnet"])
@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_all_parameters(name, architecture, lipschitz):
    """And the mode of the network stays, and nothing of an attack is left: neither gradients nor kept weights."""
    network = make(architecture, lipschitz)
    images, labels = batch()
    for training in (True, False):
        network.train(training)
        value = objective(name)(network, images, labels)
        assert value.shape == ()
        assert value.isfinite()
        assert network.training is training
        assert all(parameter.grad is None for parameter in network.parameters())
        assert not images.requires_grad
    value.backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all()
        assert (parameter.grad != 0).any(), parameter_name
    before = network(images)
    with torch.no_grad():
        next(network.parameters()).mul_(-2).add_(0.1)
    assert not torch.equal(network(images), before)


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_weights_are_orthogonalised_once(name, monkeypatch):
    network = make("mlp")
    layer = network.layers[0].parametrizations.weight
    calls, forward = [], layer.forward
    monkeypatch.setattr(layer, "forward", lambda: calls.append(1) or forward())
    objective(name)(network, *batch())
    assert len(calls) == 1


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_kept_weights_are_orthogonalised_outside_the_pass(precision, monkeypatch):
    """So that a compiled pass, whose graph is freed by the first gradient of an attack, does not contain it."""
    network, where = make("mlp"), []
    layer = network.layers[0].parametrizations.weight
    orthogonalise, forward = layer.forward, network.forward
    monkeypatch.setattr(layer, "forward", lambda: where.append(bool(inside)) or orthogonalise())
    inside = []
    monkeypatch.setattr(network, "forward", lambda images: inside.append(1) or forward(images))
    value = objective("pgd", steps=2)(lambda images: fast_logits(network, images, precision), *batch())
    value.backward()
    assert where == [False]
    assert len(inside) == 3
    fast_logits(network, batch()[0], "float32")
    assert where == [False, True]  # nothing is kept after the block, and a plain pass is left as it is


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_gradients_are_those_of_the_loss_at_fixed_points(name):
    """As if weights were orthogonalised in each pass, and the attack had used another copy of the network."""
    images, labels = batch()
    images, network, seen = images.double(), make("convnet").double(), []
    torch.manual_seed(3)
    value = objective(name)(recorded(network, seen), images, labels)
    value.backward()
    found = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    points = seen[-1]
    if name == "trades":
        logits = network(images)
        expected = cross_entropy(logits, labels) + 6 * trades.divergence(logits, network(points)).mean()
    elif name == "caat":
        half = len(images)
        expected = cross_entropy(network(points[:half]), labels) + cross_entropy(network(points[half:]), labels)
    else:
        expected = cross_entropy(network(points), labels)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(found, list(torch.autograd.grad(expected, list(network.parameters()))))


@pytest.mark.parametrize("lipschitz", [5.0, math.inf])
@pytest.mark.parametrize("epsilon", [1, 36, 2550])
@pytest.mark.parametrize("name", ADVERSARIAL)
def test_every_point_is_in_the_ball_and_in_the_pixel_range(name, epsilon, lipschitz):
    network, seen = make("convnet", lipschitz), []
    images, labels = batch()
    objective(name, epsilon=epsilon)(recorded(network, seen), images, labels)
    assert len(seen) > 10
    for points in seen:
        offset = points - images.repeat(len(points) // len(images), 1, 1, 1)
        assert offset.flatten(1).norm(dim=1).max() <= distance(epsilon) + ROUNDING
        assert points.min() >= 0
        assert points.max() <= 1
    moved = (seen[-1] - images.repeat(len(seen[-1]) // len(images), 1, 1, 1)).flatten(1).norm(dim=1)
    if name != "caat":  # where a step could change the class, none is kept
        assert moved.min() > 0


@examples(100)
@given(
    arrays(np.float32, (3, 1, 2, 2), elements=st.floats(0, 1, width=32)),
    arrays(np.float32, (3, 1, 2, 2), elements=st.floats(-(2.0**60), 2.0**60, width=32)),
    st.integers(1, 1000),
    st.floats(2.0**-20, 100),
)
def test_a_step_stays_in_the_ball_whatever_the_gradient(images, gradient, epsilon, relative_step):
    images, gradient = torch.from_numpy(images), torch.from_numpy(gradient)
    ball = Ball.of(images, pgd.Settings(epsilon=epsilon, relative_step=relative_step))
    for points in (ball.random_point(), ball.step(images, gradient), ball.step(ball.random_point(), gradient)):
        assert points.isfinite().all()
        assert (points - images).flatten(1).norm(dim=1).max() <= distance(epsilon) + ROUNDING
        assert points.min() >= 0
        assert points.max() <= 1


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1.0, 1e30])
def test_steps_have_their_length_whatever_the_size_of_the_gradient(size):
    images = torch.full((2, 1, 2, 2), 0.5)
    gradient = size * torch.tensor([1.0, -2, 3, 0]).reshape(1, 1, 2, 2).repeat(2, 1, 1, 1)
    gradient[1] = 0
    ball = Ball.of(images, pgd.Settings(epsilon=36, steps=10))
    moved = (ball.step(images, gradient) - images).flatten(1).norm(dim=1)
    assert moved.tolist() == pytest.approx([2.5 * distance(36) / 10, 0], rel=1e-2 if size < 1e-38 else 1e-5)


def test_random_points_fill_the_ball():
    images = torch.full((2000, 1, 2, 2), 0.5)
    torch.manual_seed(0)
    distances = (Ball.of(images, pgd.Settings()).random_point() - images).flatten(1).norm(dim=1) / distance(36)
    assert distances.quantile(torch.tensor([0.1, 0.5, 0.9])).tolist() == pytest.approx([0.1, 0.5, 0.9], abs=0.04)


def test_more_steps_raise_the_loss():
    network = make("mlp", 20.0)
    images, labels = batch(64)
    losses = []
    for steps in (1, 3, 10):
        ball = Ball(images, radius=0.5, steps=steps, length=0.1)
        points = ascend(network, lambda logits: cross_entropy(logits, labels, reduction="none"), images, ball)
        losses.append(cross_entropy(network(points), labels).item())
    assert cross_entropy(network(images), labels).item() < losses[0] < losses[1] < losses[2]


def test_pgd_finds_the_worst_case_of_a_linear_network():
    """Logits +-w x / 2: the cross-entropy at distance eps is known."""
    weights = torch.randn(64, generator=torch.Generator().manual_seed(0))
    images, labels = torch.full((2, *SHAPE), 0.5), torch.tensor([0, 1])

    def forward(images):
        margin = (images - 0.5).flatten(1) @ weights
        return torch.stack([margin, -margin], 1) / 2

    expected = math.log(1 + math.exp(distance(36) * weights.norm().item()))
    torch.manual_seed(0)
    assert objective("pgd")(forward, images, labels).item() == pytest.approx(expected, rel=1e-3)


def trained_a_little() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A network that classifies about half of its images as labelled."""
    torch.manual_seed(0)
    network, (images, labels) = make("convnet", 20.0), batch(64)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    for _ in range(10):
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()
    return network, images, labels


@pytest.mark.parametrize("epsilon", [9, 36, 255])
def test_caat_keeps_classes_and_moves_the_cross_entropy_apart(epsilon):
    """x_under raises that of the label, x_over lowers it: on average by far, and for each image never the other way."""
    network, images, labels = trained_a_little()
    logits = network(images)
    assert 0.2 < (logits.argmax(1) == labels).float().mean() < 1
    points = caat.calibration_attack(network, images, labels, caat.Settings(epsilon=epsilon))
    moved = network(points)
    assert (moved.argmax(1) == logits.argmax(1).repeat(2)).all()
    under, over = (cross_entropy(part, labels, reduction="none") for part in moved.chunk(2))
    clean = cross_entropy(logits, labels, reduction="none")
    assert over.mean() < 0.99 * clean.mean() < clean.mean() < 0.99 * under.mean()
    assert (under >= clean - 1e-3).float().mean() > 0.95
    assert (over <= clean + 1e-3).float().mean() > 0.95


def test_caat_keeps_no_step_across_a_boundary():
    """Images beside the boundary of a linear network: x_under stays where it is, x_over moves."""
    weights = torch.ones(64) / 8  # norm 1
    images = torch.full((1, *SHAPE), 0.5) + 1e-4
    settings = caat.Settings(epsilon=36)

    def forward(images):
        margin = (images - 0.5).flatten(1) @ weights
        return torch.stack([margin, -margin], 1)

    points = caat.calibration_attack(forward, images, torch.tensor([0]), settings)
    assert torch.equal(points[0], images[0])
    assert (points[1] - images[0]).norm().item() == pytest.approx(distance(36), rel=1e-4)


def test_trades_without_divergence_is_cross_entropy():
    network, (images, labels) = make("mlp"), batch()
    found = objective("trades", beta=0)(network, images, labels)
    expected = cross_entropy(network(images), labels)
    torch.testing.assert_close(found, expected)
    parameters = list(network.parameters())
    torch.testing.assert_close(torch.autograd.grad(found, parameters), torch.autograd.grad(expected, parameters))


def test_trades_adds_beta_times_the_divergence():
    """KL(p(x) || p(x')) in its own formula; it grows from the start by the attack."""
    network, (images, labels) = make("mlp", 20.0), batch()
    clean = cross_entropy(network(images), labels).item()
    values, divergences = [], []
    for beta in (1, 6):
        seen = []
        torch.manual_seed(0)
        values.append(objective("trades", beta=beta)(recorded(network, seen), images, labels).item() - clean)
        p, start, end = (network(points).softmax(1).double() for points in (images, seen[1], seen[-1]))
        divergences += [(p * (p / q).log()).sum(1).mean().item() for q in (start, end)]
    assert values == pytest.approx([divergences[1], 6 * divergences[3]], rel=1e-3)
    assert divergences[1] > 10 * divergences[0] > 0


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_random_numbers_are_those_of_torchs_generator(name):
    network, (images, labels) = make("mlp"), batch()
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        values.append(objective(name)(network, images, labels).item())
    assert values[0] == values[1]
    assert (values[1] == values[2]) == (name == "caat")  # which draws none


def test_attacks_work_within_a_block_that_keeps_weights():
    """`lipscale.training.precision` opens such blocks, too."""
    network, (images, labels) = make("mlp"), batch()
    with parametrize.cached():
        value = objective("caat")(network, images, labels)
    value.backward()
    assert all(parameter.grad is not None for parameter in network.parameters())

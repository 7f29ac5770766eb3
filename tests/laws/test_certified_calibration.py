"""Certified calibration: no perturbation and no rounding takes confidences, NLL, Brier score or ECE beyond their bounds."""

import itertools
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch

import synthetic
from lipscale.certification.certificate import Certificate, certificate, certified_radii
from lipscale.certification.certified_calibration import certified_calibration
from lipscale.certification.confidence_intervals import confidence_intervals
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.errors import LipscaleError
from lipscale.evaluation.logits import exact_logits
from lipscale.evaluation.metrics import bin_of, brier_scores, expected_calibration_error, log_losses, probabilities
from lipscale.units import distance, exact_pixels

EPSILONS = (0, 1, 8, 36, 72, 144)


def promise(classes: int, lipschitz: float = 4.0, rounding: float = 0.0, generator=None) -> Certificate:
    """Constants of pairs at sqrt(2) L, or random ones below, as a dense last layer gives."""
    pairs = np.full((classes, classes), math.sqrt(2) * lipschitz)
    if generator is not None:
        pairs *= generator.uniform(0.3, 1, pairs.shape)
        pairs = np.minimum(pairs, pairs.T)
    return Certificate(lipschitz, lipschitz, pairs, rounding)


def random_logits(generator, images: int, classes: int) -> np.ndarray:
    """Of sizes from 1e-3 to 1e3, some of them equal."""
    logits = generator.normal(size=(images, classes)) * 10.0 ** generator.integers(-3, 4, (images, 1))
    return np.where(generator.random(logits.shape) < 0.1, logits[:, :1], logits)


def decimals(values) -> list[Decimal]:
    return [Decimal(float(value)) for value in values]


def exact_ends(logits: np.ndarray, c: int, found: Certificate, epsilon: int, pairs: bool) -> tuple[Decimal, Decimal]:
    """The log-odds of class c at worst and at best, by the formulas of `confidence_intervals`, in 60 digits.

    `pairs`: whether the first one counts.
    """
    length, rounding = Decimal(epsilon) / 255, Decimal(found.rounding)
    root, z = Decimal(2).sqrt(), decimals(logits)
    reach = Decimal(found.lipschitz_certified) * length + 2 * rounding
    moves = [pair * length + 2 * root * rounding for pair in decimals(found.pairs[c])]
    others = [j for j in range(len(z)) if j != c]
    top = max(z[j] for j in others)
    odds = -sum((z[j] - z[c]).exp() for j in others).ln()
    rivals = sum((z[j] - top).exp() for j in others) - 1
    growth = reach * (1 + 1 / (1 + rivals * (-root * reach).exp())).sqrt()
    if not pairs:
        return odds - growth, odds + growth
    by_pairs = [-sum((z[j] - z[c] + sign * moves[j]).exp() for j in others).ln() for sign in (1, -1)]
    return max(by_pairs[0], odds - growth), min(by_pairs[1], odds + growth)


@pytest.fixture(params=["all pairs", "many classes"])
def all_pairs(request, monkeypatch) -> bool:
    """Whether all classes are compared with each other; if not, as with many classes, only the one with the largest logit."""
    if request.param == "many classes":
        monkeypatch.setattr("lipscale.certification.confidence_intervals.ALL_PAIRS", 1)
    return request.param == "all pairs"


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("rounding", [0.0, 1e-9])
def test_intervals_are_rounded_outward(classes, rounding, all_pairs):
    """Against 60 digits, without any tolerance; and not by much."""
    generator = np.random.default_rng(classes)
    logits, found = random_logits(generator, 150, classes), promise(classes, 4.0, rounding, generator)
    for epsilon in (0, 1, 36):
        intervals = confidence_intervals(logits, found, epsilon)
        lows, highs = intervals.low, intervals.high
        for i, c in zip(range(len(logits)), itertools.cycle(range(classes)), strict=False):
            with localcontext(prec=60, Emin=-(10**6), Emax=10**6):
                odds = exact_ends(logits[i], c, found, epsilon, pairs=all_pairs or c == logits[i].argmax())
                low, high = (1 / (1 + (-end).exp()) for end in odds)
                computed = decimals([intervals.log_odds_low[i, c], intervals.log_odds_high[i, c]])
                assert computed[0] <= odds[0]
                assert odds[1] <= computed[1]
                size = 1 + np.abs(logits[i]).max()
                assert max(odds[0] - computed[0], computed[1] - odds[1]) < Decimal(1e-13 * size)
                assert Decimal(float(lows[i, c])) <= low
                assert high <= Decimal(float(highs[i, c]))


def test_intervals_of_many_classes_hold_those_of_all_pairs(monkeypatch):
    """1,000 classes; the log-odds alone are not much wider, and the label of the largest logit has the same ends."""
    generator = np.random.default_rng(0)
    logits, found = 3 * generator.normal(size=(4, 1000)), promise(1000, 4.0, 1e-9, generator)
    fast = confidence_intervals(logits, found, 36)
    monkeypatch.setattr("lipscale.certification.confidence_intervals.ALL_PAIRS", 1000)
    whole = confidence_intervals(logits, found, 36)
    rows, top, rounding = np.arange(4), logits.argmax(axis=1), 1e-9  # of sums in another order
    assert (fast.log_odds_low <= whole.log_odds_low + rounding).all()
    assert (fast.log_odds_high >= whole.log_odds_high - rounding).all()
    assert (fast.possible >= whole.possible).all()
    for name in ("log_odds_low", "log_odds_high"):
        assert np.array_equal(getattr(fast, name)[rows, top], getattr(whole, name)[rows, top])


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_losses_and_scores_are_rounded_outward(classes):
    """Of single images at epsilon 0, against 60 digits."""
    generator = np.random.default_rng(classes)
    logits, found = random_logits(generator, 50, classes), promise(classes)
    for z in logits:
        label = int(generator.integers(classes))
        bounds = certified_calibration(z[None], np.array([label]), found, 0)
        with localcontext(prec=60, Emin=-(10**6), Emax=10**6):
            terms = [(value - decimals(z)[label]).exp() for value in decimals(z)]
            table = [term / sum(terms) for term in terms]
            others = sum(terms[:label] + terms[label + 1 :])
            loss = (1 + others).ln() if others > 1e-20 else others - others**2 / 2
            score = sum((p - (k == label)) ** 2 for k, p in enumerate(table))
            assert loss <= Decimal(bounds.certified_nll) <= loss * (1 + Decimal("1e-10")) + Decimal("1e-11")
            assert score <= Decimal(bounds.certified_brier) <= score + Decimal("1e-10")


@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.usefixtures("all_pairs")
def test_logits_that_move_within_the_ball_stay_in_the_intervals(classes):
    """Logits of constant L = 1 in themselves, moved by eps in random directions, and along the gradients of the log-odds."""
    generator = np.random.default_rng(0)
    epsilon = 200
    logits, found = generator.normal(size=(300, classes)), promise(classes, 1.0)
    intervals = confidence_intervals(logits, found, epsilon)
    for attempt in range(40):
        c = attempt % classes
        table = probabilities(logits)
        steps = table / (1 - table[:, c : c + 1])  # against class c
        steps[:, c] = -1
        steps = steps if attempt < classes else -steps if attempt < 2 * classes else generator.normal(size=logits.shape)
        moved = logits + distance(epsilon) * steps / np.linalg.norm(steps, axis=1, keepdims=True)
        confidences = probabilities(moved)
        assert (intervals.low <= confidences).all()
        assert (confidences <= intervals.high).all()
        assert intervals.possible[np.arange(len(moved)), moved.argmax(axis=1)].all()


def test_the_log_odds_are_tighter_than_pairs_where_no_pair_is_close():
    """Ten equal classes: r sqrt(1 + m) with m near 1/9, below the sqrt(2) r of the pairs; two classes: both the same."""
    ten, two = (confidence_intervals(np.zeros((1, k)), promise(k, 1.0), 10) for k in (10, 2))
    reach = distance(10)
    assert math.log(1 / 9) - ten.log_odds_low[0, 0] == pytest.approx(reach * math.sqrt(1 + 1 / 9), rel=0.01)
    assert -two.log_odds_low[0, 0] == pytest.approx(reach * math.sqrt(2), rel=1e-9)


@pytest.mark.usefixtures("all_pairs")
def test_extreme_logits():
    logits = np.array([[1e3, -1e3, 0], [0, 0, 0], [-1e300, 1e300, 1e300], [1, 1, 1 - 1e-16]])
    for epsilon in EPSILONS:
        intervals = confidence_intervals(logits, promise(3), epsilon)
        assert not np.isnan([intervals.log_odds_low, intervals.log_odds_high]).any()
        assert ((intervals.low >= 0) & (intervals.low <= intervals.high) & (intervals.high <= 1)).all()
        assert intervals.decided.tolist() == [True, False, False, False]
        for label in range(3):
            bounds = certified_calibration(logits, np.full(4, label), promise(3), epsilon)
            assert 0 <= bounds.worst_case_ece <= 1
            assert math.isfinite(bounds.certified_nll)


# A network and attacks on it


@pytest.fixture(scope="module")
def attacked():
    """A network, logits and labels of 150 images, two thirds of them its predictions, and logits under attack by epsilon."""
    network = synthetic.network(classes=6, lipschitz=8.0).double()
    pixels = exact_pixels(torch.from_numpy(synthetic.images(150)))
    clean = exact_logits(network, pixels, torch.device("cpu")).numpy()
    generator = np.random.default_rng(1)
    labels = np.where(generator.random(150) < 0.67, clean.argmax(axis=1), generator.integers(0, 6, 150))
    found = certificate(network)
    reached = {}
    for epsilon in EPSILONS[1:]:
        signs = certified_calibration(clean, labels, found, epsilon).signs
        reached[epsilon] = list(attacks(network, pixels, labels, signs, epsilon))
    return network, clean, labels, found, reached


def attacks(network: PlainNetwork, pixels: torch.Tensor, labels: np.ndarray, signs: np.ndarray, epsilon: int):
    """Logits of perturbed images: after noise, and after 25 normalised-gradient steps for each of four aims."""
    generator, targets = torch.Generator().manual_seed(0), torch.from_numpy(labels)
    guide = torch.from_numpy(signs.astype(float))
    aims = {
        "label down": lambda logits: torch.nn.functional.cross_entropy(logits, targets, reduction="none"),
        "top up": lambda logits: logits.softmax(1).amax(1),
        "top down": lambda logits: -logits.softmax(1).amax(1),
        "as the signs say": lambda logits: (
            guide[torch.from_numpy(bin_of(logits.softmax(1).amax(1).detach().numpy()))] * logits.softmax(1).amax(1)
        ),
    }
    for aim in (None, *aims.values()):
        moves = torch.randn(pixels.shape, generator=generator, dtype=torch.float64)
        moves = project(moves * 1e3, pixels, epsilon)
        for _ in range(25 if aim else 0):
            images = (pixels + moves).requires_grad_()
            (gradient,) = torch.autograd.grad(aim(network(images)).sum(), images)
            lengths = gradient.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None, None]
            moves = project(moves + distance(epsilon) / 4 * gradient / lengths, pixels, epsilon)
        with torch.no_grad():
            yield network(pixels + moves).numpy()


def project(moves: torch.Tensor, pixels: torch.Tensor, epsilon: int) -> torch.Tensor:
    lengths = moves.flatten(1).norm(dim=1)[:, None, None, None]
    moves = moves * (distance(epsilon) * (1 - 1e-12) / lengths).clamp_max(1)
    return (pixels + moves).clamp(0, 1) - pixels


@pytest.mark.parametrize("epsilon", EPSILONS[1:])
def test_no_attack_exceeds_a_bound(attacked, epsilon):
    _, clean, labels, found, reached = attacked
    bounds, rows = certified_calibration(clean, labels, found, epsilon), np.arange(len(labels))
    intervals = confidence_intervals(clean, found, epsilon)
    low, high = intervals.low, intervals.high
    for logits in reached[epsilon]:
        table = probabilities(logits)
        assert (low <= table).all()
        assert (table <= high).all()
        assert intervals.possible[rows, table.argmax(axis=1)].all()
        assert log_losses(logits, labels).mean() <= bounds.certified_nll
        assert brier_scores(logits, labels).mean() <= bounds.certified_brier
        assert expected_calibration_error(table, labels) <= bounds.worst_case_ece
    # the best attack of each image, of which an attacker may choose
    assert np.max([log_losses(logits, labels) for logits in reached[epsilon]], axis=0).mean() <= bounds.certified_nll
    assert np.max([brier_scores(logits, labels) for logits in reached[epsilon]], axis=0).mean() <= bounds.certified_brier


def test_bounds_are_not_far_from_attacks(attacked):
    """So that bounds that say nothing do not pass: at 8/255, attacks reach half of the gap to the clean value."""
    _, clean, labels, found, reached = attacked
    bounds = certified_calibration(clean, labels, found, 8)
    clean_loss, clean_score = log_losses(clean, labels).mean(), brier_scores(clean, labels).mean()
    loss = max(log_losses(logits, labels).mean() for logits in reached[8])
    score = max(brier_scores(logits, labels).mean() for logits in reached[8])
    assert loss - clean_loss > 0.5 * (bounds.certified_nll - clean_loss)
    assert score - clean_score > 0.5 * (bounds.certified_brier - clean_score)


def test_bounds_rise_with_epsilon_from_the_clean_values(attacked):
    _, clean, labels, found, _ = attacked
    bounds = [certified_calibration(clean, labels, found, epsilon) for epsilon in EPSILONS]
    for name in ("certified_nll", "certified_brier", "worst_case_ece"):
        values = [getattr(bound, name) for bound in bounds]
        assert values == sorted(values)
        assert values[0] < values[1]
    table = probabilities(clean)
    # no confidence is on the edge of a bin, so that the ECE is the plain one
    assert bounds[0].certified_nll == pytest.approx(log_losses(clean, labels).mean(), rel=1e-10)
    assert bounds[0].certified_brier == pytest.approx(brier_scores(clean, labels).mean(), rel=1e-10)
    assert bounds[0].worst_case_ece == pytest.approx(expected_calibration_error(table, labels), abs=1e-10)


@pytest.mark.usefixtures("all_pairs")
def test_decided_images_are_those_whose_pair_radius_is_larger(attacked):
    _, clean, _, found, _ = attacked
    _, _, radii = certified_radii(clean, clean.argmax(axis=1), found)
    for epsilon in EPSILONS[1:]:
        assert np.array_equal(confidence_intervals(clean, found, epsilon).decided, radii > distance(epsilon))


def test_a_linear_network_of_two_classes_reaches_its_bounds():
    """f(x) = W x: moving along w_0 - w_1 changes the log-odds by eps |w_0 - w_1|, which the bound cannot undercut."""
    specification = [
        {"layer": "flatten"},
        {"layer": "dense", "in_features": 4, "out_features": 2, "bias": False},
    ]
    network = PlainNetwork(specification, 1.0, (1, 2, 2)).double()
    weight = torch.tensor([[1.0, 0.5, 0.0, 0.0], [0.0, -0.5, 1.0, 0.0]], dtype=torch.float64)
    network.load_state_dict({"1.weight": weight}, assign=True)
    image = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    with torch.no_grad():
        clean = network(image).numpy()
        step = weight[1] - weight[0]
        moved = network(image + (distance(36) * step / step.norm()).reshape(image.shape)).numpy()
    bounds = certified_calibration(clean, np.array([0]), certificate(network), 36)
    reached = log_losses(moved, np.array([0]))[0]
    assert reached <= bounds.certified_nll <= reached * (1 + 1e-9)
    score = brier_scores(moved, np.array([0]))[0]
    assert score <= bounds.certified_brier <= score * (1 + 1e-9)


# What is not certified, and what is refused


def test_nothing_is_certified_without_constraint():
    logits, labels = np.random.default_rng(0).normal(size=(50, 4)), np.arange(50) % 4
    unconstrained = Certificate(math.inf, 7.0, np.full((4, 4), 10.0), 0.0)
    bounds = certified_calibration(logits, labels, unconstrained, 1)
    assert (bounds.certified_nll, bounds.certified_brier) == (math.inf, 2)
    assert bounds.worst_case_ece == pytest.approx(1)
    intervals = confidence_intervals(logits, unconstrained, 1)
    assert (intervals.low == 0).all()
    assert (intervals.high == 1).all()
    clean = certified_calibration(logits, labels, unconstrained, 0)
    assert clean.certified_nll == pytest.approx(log_losses(logits, labels).mean())


@pytest.mark.parametrize(
    ("logits", "labels", "classes", "epsilon", "message"),
    [
        (np.zeros((2, 3), np.float32), [0, 1], 3, 36, "float32; allowed"),
        (np.zeros((0, 3)), [], 3, 36, "an image and two classes or more"),
        (np.zeros((2, 1)), [0, 0], 1, 36, "an image and two classes or more"),
        (np.full((2, 3), np.nan), [0, 1], 3, 36, "NaN"),
        (np.full((2, 3), 1e308), [0, 1], 3, 36, "above 2"),
        (np.zeros((2, 3)), [0, 1], 4, 36, "the certificate is for 4 classes; allowed: 3"),
        (np.zeros((2, 3)), [0, 3], 3, 36, "label 3; allowed: 0 to 2"),
        (np.zeros((2, 3)), [0], 3, 36, "a class number for each of 2 images"),
        (np.zeros((2, 3)), [0, 1], 3, -1, "epsilon is -1; allowed"),
        (np.zeros((2, 3)), [0, 1], 3, math.inf, "epsilon is inf; allowed"),
    ],
)
def test_what_cannot_be_certified_is_refused(logits, labels, classes, epsilon, message):
    with pytest.raises(LipscaleError, match=message):
        certified_calibration(logits, np.array(labels, dtype=int), promise(classes), epsilon)

"""checker/check.py proves what certificates claim of confidences, NLL, Brier score and ECE, and refuses planted mistakes."""

import copy
import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import synthetic
from conftest import ROOT
from lipscale.certification import confidence_intervals
from lipscale.certification.certify import certify
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.certification.worst_case_ece import worst_case_ece
from test_certified_calibration import exact_ends, promise, random_logits
from test_checker import NETWORKS, SHAPE, Files
from test_worst_case_ece import brute_force, random_intervals

EPSILONS = (8, 36)


@pytest.fixture
def checker(monkeypatch) -> SimpleNamespace:
    """The files of the checker that compute."""
    monkeypatch.syspath_prepend(ROOT / "checker")
    names = ("exponentials", "confidences", "worst_case", "calibration")
    return SimpleNamespace(**{name: import_module(name) for name in names})


# What the checker computes


def between(low: int, exact: Decimal, high: int, bits: int) -> bool:
    return Decimal(low) <= exact * 2**bits <= Decimal(high)


def test_exponentials_are_between_their_bounds(checker):
    """Against 700 digits; and the bounds are a unit, or 2^-128 of the value, apart."""
    generator = np.random.default_rng(0)
    with localcontext(prec=700, Emin=-(10**6), Emax=10**6):
        for bits in (128, 128, 300):
            for t in (generator.uniform(-1, 1, 100) * 10.0 ** generator.integers(-40, 4, 100)).clip(-1024, 1024):
                whole = math.floor(Fraction(t) * 2**bits)
                low, high = checker.exponentials.exponential(whole, bits)
                assert between(low, (Decimal(whole) / 2**bits).exp(), high, bits)
                assert high - low <= 3 + (high >> 128)


def test_exponentials_beyond_the_largest_exponent(checker):
    largest, exponential = 1024 << 128, checker.exponentials.exponential
    assert exponential(largest + 1, 128) == (exponential(largest, 128)[0], None)
    assert exponential(-largest - 1, 128) == (0, exponential(-largest, 128)[1])


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_confidences_are_bounded_by_both_lemmas(classes, checker):
    """Against 60 digits, rounded outward by next to nothing."""
    generator, one = np.random.default_rng(classes), checker.confidences.ONE
    logits, found = random_logits(generator, 40, classes), promise(classes, generator=generator)
    for epsilon in (0, 1, 36):
        squares = [[Fraction(pair) ** 2 for pair in row] for row in found.pairs.tolist()]
        possible = confidence_intervals.confidence_intervals(logits, found, epsilon).possible
        reach = checker.confidences.Reach(Fraction(epsilon), squares, Fraction(found.lipschitz_certified))
        for i, z in enumerate(logits):
            c, values = i % classes, [Fraction(value) for value in z.tolist()]
            denominator = math.lcm(*(value.denominator for value in values))
            computed = checker.confidences.Confidences([int(value * denominator) for value in values], denominator, reach)
            assert computed.possible(c) == possible[i, c]
            with localcontext(prec=60, Emin=-(10**6), Emax=10**6):
                low, high = (1 / (1 + (-odds).exp()) for odds in exact_ends(z, c, found, epsilon, True))
                room = Decimal("1e-30")
                assert low - room <= Decimal(computed.low(c)) / one <= low
                assert high <= Decimal(computed.high(c)) / one <= high + room


@pytest.mark.parametrize("grid", [None, 60])
def test_the_largest_ece_is_that_of_lipscale_and_of_brute_force(grid, checker):
    """On random ends, and on ends at the edges of bins, which lipscale counts to both bins."""
    generator = np.random.default_rng(0)
    for images in (1, 2, 2, 2, 3, 30, 300):
        low, high_wrong, high_right = random_intervals(generator, images, grid)
        columns = [[Fraction(value) for value in column.tolist()] for column in (low, high_right, high_wrong)]
        ece = float(checker.worst_case.largest_sum(*columns)) / images
        assert ece <= worst_case_ece(low, high_wrong, high_right).ece
        if grid is None:
            assert ece == pytest.approx(worst_case_ece(low, high_wrong, high_right).ece, abs=1e-12)
        if grid is None and images <= 3:
            assert ece == pytest.approx(brute_force(low, high_wrong, high_right, 15), abs=1e-13)


def test_the_largest_brier_score_is_that_of_a_search(checker):
    generator, one = np.random.default_rng(0), checker.confidences.ONE
    for _ in range(100):
        low, highs = generator.random() / 2, generator.random(3)
        bound = checker.calibration.brier_score(int(low * one), [int(high * one) for high in highs]) / one**2
        draws = generator.dirichlet((0.3, 0.3, 0.3, 0.3), 1000)
        draws = draws[(draws[:, 0] >= low) & (draws[:, 1:] <= highs).all(axis=1)]
        scores = (1 - draws[:, 0]) ** 2 + (draws[:, 1:] ** 2).sum(axis=1)
        assert (scores <= bound + 1e-12).all()
    assert checker.calibration.brier_score(one // 4, [one // 4, one // 2]) / one**2 == 0.75**2 + 0.5**2 + 0.25**2


# What it accepts


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Files:
    """Claims for 12 images of a network with L = 4, of which 3 have wrong labels."""
    network, images = synthetic.network(), synthetic.images(12)
    labels = certify(network, images).predictions
    labels[:9:4] = (labels[:9:4] + 1) % 6
    return Files(tmp_path_factory.mktemp("labelled"), network, images, labels, EPSILONS)


@pytest.fixture
def files(made) -> Files:
    found = copy.copy(made)
    found.content = copy.deepcopy(made.content)
    return found


def accepted(files: Files, ending: str, *options: object) -> None:
    result = files.check(*options)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith(f"{ending}\n")


def test_calibration_is_proven(files):
    """Of images that are surely right, surely wrong, and free."""
    parts = [{name: np.array(values) for name, values in part.items()} for part in files.content["calibration"]]
    assert any((part["high_wrong"] < part["low"]).any() for part in parts)
    assert any((part["high_right"] < part["low"]).any() for part in parts)
    assert any((np.minimum(part["high_right"], part["high_wrong"]) >= part["low"]).any() for part in parts)
    accepted(files, "the radii of 12 of 12 images, calibration at 8 and 36")


def test_of_a_sample_of_images_only_confidences_are_proven(files):
    files.content["calibration"][0]["certified_nll"] /= 2
    ending = "the radii of 3 of 12 images, confidences at 8 and 36, not the calibration of all images"
    accepted(files, ending, "--images", 3)


def test_without_labels_confidences_are_proven(made, tmp_path):
    files = Files(tmp_path, made.network, made.arrays["images"], None, EPSILONS)
    assert {*files.content["calibration"][0]} == {"epsilon", "low", "high_right", "high_wrong"}
    accepted(files, "the radii of 12 of 12 images, confidences at 8 and 36")
    files.content["calibration"][1]["high_wrong"][5] *= 0.99
    files.refused("high_wrong", "image 5 at 36")


def test_calibration_for_labels_of_the_certificate_alone_is_refused(made, tmp_path):
    files = Files(tmp_path, made.network, made.arrays["images"], None, EPSILONS)
    files.content = copy.deepcopy(made.content)
    files.sign()
    files.refused("the certificate claims calibration, and the file of images has no labels")


def test_certificates_of_earlier_versions_have_no_calibration(files):
    del files.content["calibration"]
    accepted(files, "the radii of 12 of 12 images")


def test_nothing_is_claimed_without_constraint(made, tmp_path):
    network = PlainNetwork(made.network.specification, math.inf, made.network.image_shape)
    network.load_state_dict(made.network.state_dict())
    files = Files(tmp_path, network, made.arrays["images"], made.arrays["labels"], EPSILONS)
    assert files.content["calibration"] == []
    accepted(files, "the radii of 12 of 12 images")


@pytest.mark.parametrize("lipschitz", [1e-3, 30.0, 1e3, 1e5])
@pytest.mark.parametrize("classes", [2, 6])
def test_claims_of_any_size_are_proven(lipschitz, classes, tmp_path):
    """Nearly equal confidences, some that cannot be told from 0 and 1, and intervals from 0 to 1."""
    labels = np.arange(6) % classes
    files = Files(tmp_path, synthetic.network(classes, lipschitz), synthetic.images(6), labels, (1, 36))
    accepted(files, "calibration at 1 and 36")


def test_a_last_layer_that_is_not_dense(tmp_path):
    """Where only L is known, the bound of log-odds is the tighter one."""
    torch.manual_seed(0)
    network = PlainNetwork([*NETWORKS["dense"][:-2], {"layer": "maxmin"}], 0.0, SHAPE)
    images = np.random.default_rng(0).integers(0, 256, (4, *SHAPE), dtype=np.uint8)
    accepted(Files(tmp_path, network, images, np.arange(4), (8,)), "calibration at 8")


# What it refuses: numbers are of image 5


def scaled(name: str, factor: float) -> Callable:
    """A claim of all images, or of image 5. The rounding errors of this network are below a billionth of it."""

    def mistake(part: dict) -> None:
        if isinstance(part[name], list):
            part[name][5] *= factor
        else:
            part[name] *= factor

    mistake.__name__ = f"{name} times {factor}"
    return mistake


def epsilon_raised(part: dict) -> None:
    part["epsilon"] = 36.001


def right_and_wrong_exchanged(part: dict) -> None:
    part["high_right"], part["high_wrong"] = part["high_wrong"], part["high_right"]


def images_exchanged(part: dict) -> None:
    for name in ("low", "high_right", "high_wrong", "nll", "brier"):
        part[name][5], part[name][6] = part[name][6], part[name][5]


def a_mean_of_other_numbers(part: dict) -> None:
    part["nll"][5] += 0.1


def surely_right(part: dict) -> None:
    part["high_wrong"][5] = 0.0


def above_one(part: dict) -> None:
    part["high_wrong"][5] = 1.0000001


def no_number(part: dict) -> None:
    part["nll"][5] = float("nan")


def an_image_left_out(part: dict) -> None:
    part["nll"].pop()


def a_key_left_out(part: dict) -> None:
    del part["worst_case_ece"]


def negative_epsilon(part: dict) -> None:
    part["epsilon"] = -36


MISTAKES = {  # and words of the refusal
    **{
        scaled(name, 1 - 1e-9): [f"the claim {name}", "of image 5 at 36"]
        for name in ("nll", "brier", "high_right", "high_wrong")
    },
    **{scaled(name, 1 - 1e-9): [name, "at 36"] for name in ("certified_nll", "certified_brier", "worst_case_ece")},
    scaled("low", 1 + 1e-9): ["the claim low", "of image 5 at 36"],
    epsilon_raised: ["at 36.001 is not proven"],
    right_and_wrong_exchanged: ["the claim high_"],
    images_exchanged: ["of image 5 at 36"],
    a_mean_of_other_numbers: ["certified_nll", "at 36"],
    surely_right: ["the claim high_wrong", "of image 5 at 36"],
    above_one: ["the claim high_wrong", "of image 5 at 36"],
    no_number: ["nll of an image at 36 is nan"],
    an_image_left_out: ["another number of images"],
    a_key_left_out: ["of which not all is proven"],
    negative_epsilon: ["negative"],
}


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.__name__)
def test_a_mistake_in_a_claim(mistake, files):
    part = files.content["calibration"][1]
    assert min(part["high_right"][5], part["high_wrong"][5]) > part["low"][5], "image 5 can be right or wrong"
    mistake(part)
    files.refused(*MISTAKES[mistake])


def test_two_classes_exchanged_in_the_network(files, tmp_path):
    """Radii, margins and labels of the new network, and claims of the old one."""
    network = copy.deepcopy(files.network)
    network[3].weight[[0, 1]] = network[3].weight[[1, 0]]
    other = Files(tmp_path, network, files.arrays["images"], files.arrays["labels"])
    other.content["calibration"] = files.content["calibration"]
    other.refused("at 8 is not proven")


MOVES = {  # a mistake in lipscale: what it takes for the movement of all logits, and of their differences
    "half of how far differences move": lambda reach, moves: (reach, moves / 2),
    "the root of 2 forgotten": lambda reach, moves: (reach, np.minimum(moves, reach)),
    "half of how far all logits move": lambda reach, moves: (reach / 2, moves),
}


@pytest.mark.parametrize("mistake", MOVES)
def test_a_mistake_in_lipscale(mistake, made, tmp_path, monkeypatch):
    right = confidence_intervals._movements
    monkeypatch.setattr(confidence_intervals, "_movements", lambda *arguments: MOVES[mistake](*right(*arguments)))
    files = Files(tmp_path, made.network, made.arrays["images"], made.arrays["labels"], EPSILONS)
    files.refused("is not proven")

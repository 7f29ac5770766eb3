"""The attack on calibration: in the ball and the pixel range, never below clean values, never above a sound bound."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import synthetic
from lipscale.attacks import on_calibration
from lipscale.attacks.on_calibration import Options, Target, attack_calibration, within
from lipscale.attacks.reached import Reached, choose
from lipscale.certification.certificate import certificate
from lipscale.errors import LipscaleError
from lipscale.evaluation.logits import exact_logits
from lipscale.evaluation.metrics import BINS, brier_scores, expected_calibration_error, log_losses, probabilities
from lipscale.units import distance

EPSILONS = (8, 36, 144)
TEMPERATURES = {"": 1.0, "_scaled": 0.7}
CHOSEN = np.arange(0, 60, 2)


@pytest.fixture(scope="module")
def attacked():
    """A network with its split, logits and certificate; labels are mostly its predictions."""
    network = synthetic.network(lipschitz=8.0)
    images = synthetic.images(60)
    logits = exact_logits(network.double(), torch.from_numpy(images), torch.device("cpu")).numpy()
    labels = np.where(np.arange(60) % 5 == 0, np.arange(60) % 6, logits.argmax(axis=1))
    return network, SimpleNamespace(images=images, labels=labels), logits, certificate(network)


def target(attacked, promise=None, batch_size=16) -> Target:
    network, split, logits, found = attacked
    return Target(network, split, logits, promise or found, CHOSEN, TEMPERATURES, Options(EPSILONS, batch_size))


def attack(attacked, promise=None, **options):
    return attack_calibration(target(attacked, promise), **options)


def test_between_clean_values_and_bounds(attacked):
    _, split, logits, _ = attacked
    found, labels = attack(attacked), split.labels[CHOSEN]
    before = {suffix: (0.0, 0.0, 0.0) for suffix in TEMPERATURES}
    for case, row in zip(found.cases, found.summary(), strict=True):
        scaled = logits[CHOSEN] / case.temperature
        table, values = probabilities(scaled), found.attacked[case.key]
        assert (values["nll"] >= log_losses(scaled, labels) - 1e-12).all()
        assert (values["brier"] >= brier_scores(scaled, labels) - 1e-12).all()
        assert row["attacked_ece"] >= expected_calibration_error(table, labels) - 1e-12
        assert (values["nll"] <= case.bounds.nll[CHOSEN]).all()
        assert (values["brier"] <= case.bounds.brier[CHOSEN]).all()
        reached = tuple(row[f"attacked_{name}"] for name in ("nll", "brier", "ece"))
        for name, value, least in zip(
            ("certified_nll", "certified_brier", "worst_case_ece"), reached, before[case.suffix], strict=True
        ):
            assert least <= value <= row[f"evaluated_{name}"]
        before[case.suffix] = reached
    assert reached[0] > 1.5 * log_losses(logits[CHOSEN] / 0.7, labels).mean()  # it does attack


def test_every_visited_point_is_in_the_ball_and_the_pixel_range(attacked, monkeypatch):
    _, split, _, _ = attacked
    images, counted = torch.from_numpy(split.images[CHOSEN]).double() / 255, []

    def visit(self, logits, inside, bounds):
        counted.append(bool(inside.all()))

    monkeypatch.setattr(Reached, "visit", visit)
    seen = []

    def watched(start, points, epsilon):
        inside = within(start, points, epsilon)
        seen.append(((points - start).flatten(1).norm(dim=1).max().item(), epsilon))
        assert ((points >= 0) & (points <= 1)).all()
        return inside

    monkeypatch.setattr(on_calibration, "within", watched)
    whole = target(attacked, batch_size=30)
    on_calibration._Attack(whole, whole.cases()).batch(CHOSEN)
    assert counted
    assert all(counted)
    assert all(norm <= distance(epsilon) for norm, epsilon in seen)
    assert max(norm / distance(epsilon) for norm, epsilon in seen) > 1 - 1e-9  # the whole ball is used
    assert not within(images, images + 1.1 * distance(8) / 8, 8).any()


def test_a_certificate_that_promises_too_much_is_broken_and_names_the_images(attacked):
    found = attacked[3]
    planted = replace(found, lipschitz_certified=found.lipschitz_certified / 4, pairs=found.pairs / 4)
    with pytest.raises(LipscaleError, match=r"run network: an attack on calibration reaches .* at 8/255") as error:
        attack(attacked, planted)
    named = [int(number) for number in re.search(r"test images ([\d, ]+) at", str(error.value))[1].split(",")]
    assert named
    assert set(named) <= set(CHOSEN.tolist())


def test_a_single_planted_label_bound_is_named(attacked, monkeypatch):
    """One image whose Brier bound is too small."""
    bounds = on_calibration.bounds_of_images

    def planted(*arguments):
        found = bounds(*arguments)
        found.brier[6] = 1e-6
        return found

    monkeypatch.setattr(on_calibration, "bounds_of_images", planted)
    with pytest.raises(LipscaleError, match=r"a Brier score of test images 6 at 8/255"):
        attack(attacked)


def test_resumed_attack_gives_the_same(attacked):
    states, whole = [], None
    whole = attack(attacked, save=lambda state: states.append(list(state)))
    assert [len(state) for state in states] == [1, 2]
    left = []
    resumed = attack(attacked, state=states[0], save=lambda state: left.append(len(state)))
    assert left == [2]
    assert list(resumed.rows()) == list(whole.rows())
    assert resumed.summary() == whole.summary()


def test_rows_are_of_all_images(attacked):
    found = attack(attacked)
    rows = list(found.rows())
    assert [row["index"] for row in rows] == list(range(60))
    assert list(rows[0]) == found.columns()
    assert rows[1]["attacked_nll_36"] is None
    assert rows[2]["attacked_right_scaled_36"] in (0, 1)
    assert replace(target(attacked), options=Options((72, 36), 16)).task["epsilons"] == [36, 72]


def test_choice_for_signs_is_the_best_of_each_image():
    """Against all points of each image, for the signs that are found; and never below the ECE of any start."""
    generator = np.random.default_rng(0)
    for _ in range(30):
        points = [(generator.uniform(0.1, 1, 8), generator.random(8) < 0.5) for _ in range(20)]
        ends = np.full((20, 2, BINS, 2), (np.inf, -np.inf))
        for image, (confidences, right) in enumerate(points):
            for confidence, c in zip(confidences, right.astype(int), strict=True):
                low, high = ends[image, c, int(np.ceil(confidence * BINS)) - 1]
                ends[image, c, int(np.ceil(confidence * BINS)) - 1] = min(low, confidence), max(high, confidence)
        starts = [generator.choice([-1, 1], BINS) for _ in range(3)]
        confidence, right, signs = choose(ends, starts)
        index = np.ceil(confidence * BINS).astype(int) - 1
        reached = np.abs(np.bincount(index, weights=confidence - right, minlength=BINS)).sum()

        def best(signs, points=points):
            return sum((signs[np.ceil(v * BINS).astype(int) - 1] * (v - c)).max() for v, c in points)

        assert (signs[index] * (confidence - right)).sum() == pytest.approx(best(signs), abs=1e-12)
        assert reached >= max(best(start) for start in starts) - 1e-12

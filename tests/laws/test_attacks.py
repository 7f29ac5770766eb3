"""What holds of every attack: linear classifiers fall at their distance, and budgets are kept."""

import copy

import numpy as np
import pytest
import torch

import synthetic
from lipscale.attacks.at_own_radius import Batch, attacks, within
from lipscale.attacks.autoattack import STAGES, Calibrated, attack_batch, broken, stages_for
from lipscale.attacks.certified_images import find_certified
from lipscale.attacks.falsification import SHARE, falsify
from lipscale.certification.certificate import certificate
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.evaluation.logits import exact_logits
from lipscale.progress import bar

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few_queries(monkeypatch):
    synthetic.ask_less(monkeypatch)


def linear(classes: int) -> PlainNetwork:
    specification = [{"layer": "flatten"}, {"layer": "dense", "in_features": 64, "out_features": classes, "bias": True}]
    network = PlainNetwork(specification, 1.0, synthetic.SHAPE)
    torch.nn.init.normal_(network[1].weight, std=0.05, generator=torch.Generator().manual_seed(0))
    torch.nn.init.zeros_(network[1].bias)
    network.lipschitz = certificate(network).lipschitz_certified
    return network


def test_stages():
    assert stages_for(10) == stages_for(4) == STAGES
    assert stages_for(3) == stages_for(2) == ("apgd-ce", "fab-t", "square")


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_linear_classifiers_fall_at_their_distance(classes):
    """min_j (f_y - f_j) / |w_y - w_j|; the targeted DLR loss of apgd-t needs four classes, the other stages do without."""
    torch.manual_seed(0)
    network, images = linear(classes), 0.3 + 0.4 * torch.rand(6, 1, 8, 8)
    logits, weight = network(images), network[1].weight
    labels = logits.argmax(1)
    gaps = logits.gather(1, labels[:, None]) - logits
    distances = (gaps / (weight[labels][:, None] - weight).norm(dim=2)).nan_to_num(torch.inf).amin(1)
    epsilon = distances.median().item()
    with bar(name="test", total=10, unit="stage") as progress:
        _, survivors = attack_batch(network, images, labels, epsilon * 255, stages_for(classes), 0, progress)
    assert survivors[distances > epsilon].all()
    assert not survivors[distances < 0.8 * epsilon].any()  # closer ones may be out of reach within the pixel range
    assert 0 < survivors.sum() < 6


@pytest.mark.parametrize("classes", [2, 5])
def test_pair_radii_of_linear_classifiers_are_tight(classes):
    """Away from the ends of the pixel range the distance to the next class is the pair radius, and 0.001 of the margin is left
    at 0.999 of it."""
    network = linear(classes)
    found = falsify(network, np.random.default_rng(0).uniform(0.45, 0.55, (8, *synthetic.SHAPE)))
    assert found.summary["attacks"] == [name for name in (*STAGES, "pgd") if name in stages_for(classes) or name == "pgd"]
    assert [row["margin_left"] for row in found.rows] == pytest.approx([1 - SHARE] * len(found.rows), rel=0.05)


def test_every_perturbation_stays_within_its_budget():
    """Each attack yields points in the pixel range, not farther than 0.999 of the radius, but for float32."""
    network, exact = synthetic.network(), synthetic.network().double()
    certified = find_certified(exact, [("images", synthetic.images(20), None)], 20, 0, CPU)
    budgets = SHARE * certified.pair_radii
    batch = Batch(
        Calibrated(network, 1.0), exact, torch.from_numpy(certified.images), torch.from_numpy(certified.labels),
        torch.from_numpy(budgets).reshape(-1, 1, 1, 1), seed=0,
    )  # fmt: skip
    pixels = torch.from_numpy(certified.images).double() / 255
    # 64 pixels of float32, whose images, steps and projections are each off by some units in the last place, 6e-8
    slack = 64 * 2.0**-23
    for name, attack in attacks(6).items():
        count = 0
        for found in attack(batch):
            count += 1
            norms = (found.double() - pixels).flatten(1).norm(dim=1).numpy()
            assert (norms <= budgets * (1 + slack) + slack).all(), name
            assert found.min() >= 0, name
            assert found.max() <= 1, name
        assert count == {"apgd-ce": 2, "apgd-t": 10, "fab-t": 5, "square": 1, "pgd": 2}[name]


def test_square_finds_what_pyautoattack_finds_bit_for_bit():
    network = synthetic.network()
    images = torch.from_numpy(synthetic.images(8)).float() / 255
    labels, epsilon = network(images).argmax(1), 20
    attack = synthetic.FewQueries(network, norm="L2", eps=epsilon / 255, seed=3, device="cpu", version="standard")
    attack.attacks_to_run = ["square"]
    with torch.no_grad():
        expected = attack.run_standard_evaluation(images, labels, batch_size=8)
    with bar(name="test", total=1, unit="stage") as progress:
        found, survived = attack_batch(network, images, labels, epsilon, ["square"], 3, progress)
    assert torch.equal(found, expected[0])
    assert 0 < survived.sum() < 8


def test_points_within_their_budgets_stay():
    images = torch.rand(5, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    near = (images + 0.01).clamp(max=1)
    assert torch.equal(within(near, images, torch.ones(5, 1, 1, 1)), images + (near - images))
    assert torch.equal(within(images, images, torch.zeros(5, 1, 1, 1)), images)


def test_what_refutes_a_certificate():
    """Another class in float64 at a distance below the radius: neither a float32 flip nor one beyond the radius counts."""
    network, images = synthetic.network().double(), synthetic.images(60)
    labels = exact_logits(network, torch.from_numpy(images), CPU).argmax(1).numpy()
    pixels = torch.from_numpy(images).double() / 255
    other = pixels.roll(1, 0)
    distances = (other - pixels).flatten(1).norm(dim=1).numpy()
    flips = exact_logits(network, other, CPU).argmax(1).numpy() != labels
    assert flips.any()
    assert broken(network, images, labels, distances * (1 + 1e-12), other).numpy().tolist() == flips.tolist()
    assert broken(network, images / 255, labels, distances * (1 + 1e-12), other).numpy().tolist() == flips.tolist()
    assert not broken(network, images, labels, distances, other).any()
    assert not broken(network, images, labels, distances * 2, pixels).any()


def test_calibrated_predictions_are_the_network_s():
    network = synthetic.network()
    images = torch.rand(5, 1, 8, 8)
    divided = Calibrated(copy.deepcopy(network), 0.25)(images)
    assert torch.equal(divided, 4 * network(images))

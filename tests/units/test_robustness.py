"""Robust accuracy of a small network: rows, order, resumption."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import synthetic
from lipscale.attacks import autoattack, robustness
from lipscale.attacks.robustness import evaluate_robustness
from lipscale.attacks.sample import Options, task
from lipscale.attacks.selection import choose, select
from lipscale.certification.certificate import certificate, certified_radii
from lipscale.errors import LipscaleError
from lipscale.evaluation.logits import exact_logits

OPTIONS = Options(epsilons=(40, 10), images=40, spot_checks=4, batch_size=40, seed=0)


@pytest.fixture(scope="module")
def case():
    """A network, a split with one label of eight wrong, and what the certificate says of it."""
    network, images = synthetic.network(), synthetic.images(80)
    exact = copy.deepcopy(network).double()
    logits = exact_logits(exact, torch.from_numpy(images), torch.device("cpu")).numpy()
    labels = logits.argmax(axis=1)
    labels[::8] = (labels[::8] + 1) % 6
    _, radii, pair_radii = certified_radii(logits, labels, certificate(exact))
    return network, SimpleNamespace(images=images, labels=labels), logits, radii, pair_radii


@pytest.fixture(scope="module")
def found(case):
    with pytest.MonkeyPatch.context() as monkeypatch:
        synthetic.ask_less(monkeypatch)
        return evaluate_robustness(*case, 0.1, OPTIONS)


def test_rows_of_the_attack(found):
    rows = list(found.rows())
    assert found.columns() == list(rows[0]) == ["index", "robust_10", "attacked_10", "robust_40", "attacked_40"]
    assert [row["index"] for row in rows] == choose(np.arange(80), 40, seed=0).tolist()
    assert {value for row in rows for name, value in row.items() if name != "index"} == {0, 1}
    assert all(type(value) is int for row in rows for value in row.values())
    assert found.robust[40].sum() < found.robust[10].sum()  # the attack breaks something, and epsilon matters
    assert found.attack == "AutoAttack l2: apgd-ce, apgd-t, fab-t, square"
    assert found.temperature == 0.1


def test_who_was_attacked(case, found):
    """What either radius certifies is left out, except for the spot checks; pair radii certify more images here."""
    _, split, logits, radii, pair_radii = case
    robust, left_out = logits.argmax(axis=1) == split.labels, 0
    for epsilon in (10, 40):
        selection = select(found.index, robust, np.maximum(radii, pair_radii), epsilon, 4, seed=0)
        assert found.index[found.attacked[epsilon]].tolist() == selection.attacked.tolist()
        assert len(selection.attacked) > len(selection.spot_checks)
        unattacked = np.setdiff1d(selection.certified, selection.attacked)
        assert (pair_radii[selection.certified] >= epsilon / 255).all()
        left_out += (radii[unattacked] < epsilon / 255).sum()
        robust[found.index] = found.robust[epsilon]
    assert left_out > 0


def test_order_holds_image_by_image(case, found):
    """Certified (by either radius) <= robust <= clean, and each is a different number."""
    _, split, logits, radii, pair_radii = case
    right = (logits.argmax(axis=1) == split.labels)[found.index]
    for epsilon in (10, 40):
        certified = np.maximum(radii, pair_radii)[found.index] >= epsilon / 255
        assert (certified <= found.robust[epsilon]).all()
        assert (found.robust[epsilon] <= right).all()
    assert (found.robust[40] <= found.robust[10]).all()
    assert 0 < (radii[found.index] >= epsilon / 255).sum() < found.robust[40].sum() < found.robust[10].sum() < right.sum() < 40


def test_the_network_stays_as_it_is(case, found):
    assert all(tensor.dtype == torch.float32 for tensor in case[0].state_dict().values())
    assert torch.equal(case[0][1].weight, synthetic.network()[1].weight)


def test_an_attack_that_was_stopped_ends_with_the_same_rows(case, monkeypatch):
    """Stopped in the third batch, then resumed: only the batches that are left are attacked, and the rows are the same."""
    monkeypatch.setattr(autoattack, "STAGES", ("apgd-ce",))
    options, attack, calls = replace(OPTIONS, batch_size=8), robustness.attack_batch, []
    stop = None

    def stopping(*arguments):
        calls.append(arguments)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return attack(*arguments)

    monkeypatch.setattr(robustness, "attack_batch", stopping)
    states = []

    def save(state):
        states.append(copy.deepcopy(state))

    unbroken = evaluate_robustness(*case, 0.1, options, save=save)
    batches = len(calls)
    assert len(states) == batches
    assert sum(map(len, states[-1].values())) == sum(mask.sum() for mask in unbroken.attacked.values())

    calls.clear(), states.clear()
    stop = 3
    with pytest.raises(KeyboardInterrupt):
        evaluate_robustness(*case, 0.1, options, save=save)
    assert len(states) == 2
    assert states[-1].keys() <= {"10", "40"}  # JSON keeps it as it is
    stop, left = None, states[-1]
    calls.clear()
    resumed = evaluate_robustness(*case, 0.1, options, state=left, save=save)
    assert len(calls) == batches - 2
    assert list(resumed.rows()) == list(unbroken.rows())
    assert left == states[1]  # what was passed in is not changed


def test_a_finished_state_is_attacked_no_more(case, monkeypatch):
    monkeypatch.setattr(autoattack, "STAGES", ("apgd-ce",))
    states = {}
    found = evaluate_robustness(*case, 0.1, OPTIONS, save=states.update)
    monkeypatch.setattr(robustness, "attack_batch", None)
    assert list(evaluate_robustness(*case, 0.1, OPTIONS, state=states).rows()) == list(found.rows())


def test_a_task_says_what_verdicts_depend_on():
    assert task(OPTIONS, 6, 0.5) == {
        "attack": "AutoAttack l2: apgd-ce, apgd-t, fab-t, square",
        "epsilons": [10, 40],
        "images": 40,
        "spot_checks": 4,
        "certified_by": "radius or pair_radius",
        "batch_size": 40,
        "seed": 0,
        "temperature": 0.5,
    }
    assert task(OPTIONS, 3, 0.5)["attack"] == "AutoAttack l2: apgd-ce, fab-t, square"
    changes = [replace(OPTIONS, seed=1), replace(OPTIONS, batch_size=7), replace(OPTIONS, epsilons=(10,))]
    assert all(task(changed, 6, 0.5) != task(OPTIONS, 6, 0.5) for changed in changes)


def test_a_split_that_does_not_fit_the_network_is_refused(case):
    network, split, *others = case
    wrong = SimpleNamespace(images=split.images, labels=split.labels + 1)
    with pytest.raises(LipscaleError, match="the images have label 6; allowed: 0 to 5"):
        evaluate_robustness(network, wrong, *others, 0.1, OPTIONS)
    wrong = SimpleNamespace(images=split.images.reshape(-1, 1, 4, 16), labels=split.labels)
    with pytest.raises(LipscaleError, match=r"the images have shape \(1, 4, 16\); allowed: \(1, 8, 8\)"):
        evaluate_robustness(network, wrong, *others, 0.1, OPTIONS)


def test_a_broken_certificate_counts_as_not_robust(case, monkeypatch):
    """A certificate that claims too much is refuted by the spot checks."""
    network, split, logits, radii, _ = case
    far = 200 / 255 * (radii > 0)
    monkeypatch.setattr(autoattack, "STAGES", ("apgd-ce",))
    result = evaluate_robustness(network, split, logits, far, far, 0.1, replace(OPTIONS, epsilons=(150,), spot_checks=40))
    assert not result.robust[150].all()
    assert (~result.robust[150] & (far[result.index] > 0)).any()

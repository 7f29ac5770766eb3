"""The validation split returned to training once L has converged."""

import math

import numpy as np
import pytest
import torch

from lipscale.evaluation.calibration import MEASURES, calibrate
from lipscale.training import checkpoint, loop
from training_stand_ins import CPU, digits, make_run, make_training, without_seconds

UNKNOWN = ("temperature", "validation_nll", "validation_accuracy", "validation_ece")


def trained(run, state=None, save=lambda _: None) -> loop.Trained:
    return loop.train(run, digits(), CPU, state, save)


def fixed(how: str, epochs: int = 5):
    """A run of a fixed L, which has converged after three epochs."""
    return make_run("fixed", 4.0, training={"calibration_data": how, "epochs": epochs})


@pytest.fixture(scope="module")
def without() -> loop.Trained:
    return trained(fixed("none"))


@pytest.mark.parametrize(("how", "epochs"), [("continue", 5), ("restart", 3 + 5)])
def test_rows_say_what_was_measured(how, epochs, without):
    found = trained(fixed(how))
    assert found.returned_after == 3
    assert [row["epoch"] for row in found.history] == list(range(1, epochs + 1))
    assert [row["returned"] for row in found.history] == [0] * 3 + [1] * (epochs - 3)
    assert without_seconds(found.history[:3]) == without_seconds(without.history[:3])
    for row in found.history[3:]:
        assert {row[name] for name in UNKNOWN} == {None}
        assert (row["lipschitz"], row["next_lipschitz"], row["bounded"]) == (4.0, 4.0, 0)
        assert math.isfinite(row["train_loss"])
    assert [row["epochs"] for row in found.measurements] == [1, 2, 3]


def test_nothing_is_returned_unless_asked_for(without):
    assert without.returned_after is None
    assert {row["returned"] for row in without.history} == {0}


def test_continue_goes_on_with_more_images_and_the_same_schedule():
    run, rates, images = fixed("continue"), [], []
    training = make_training("fixed", 4.0, training={"calibration_data": "continue", "epochs": 5})
    while training.epochs_left:
        training.epoch(after_step=lambda: rates.append(training.optimizer.param_groups[0]["lr"]))
        images.append(len(training.labels))
    assert images == [1197, 1197, 1497, 1497, 1497]
    steps = [10, 10, 10, 12, 12]
    progress = [(epoch + step / count) / 5 for epoch, count in enumerate(steps) for step in range(count)]
    assert rates == pytest.approx([run.training.learning_rate * (1 + math.cos(math.pi * part)) / 2 for part in progress])


def test_restart_is_a_training_from_the_start_on_both_splits():
    """The same as a fixed L trained on the union, with the same seed: bit for bit the same losses."""
    training = make_training("fixed", 4.0, training={"calibration_data": "restart", "epochs": 3})
    first = {name: value.clone() for name, value in training.network.state_dict().items()}
    for _ in range(3):
        training.epoch()
    assert training.returned_after == 3
    assert all(torch.equal(value, first[name]) for name, value in training.network.state_dict().items())
    assert not training.optimizer.state
    other = make_training("fixed", 4.0, training={"epochs": 3})
    other.images = torch.cat([other.images, other.validation_images])
    other.labels = torch.cat([other.labels, other.validation_labels])
    losses = [[one.epoch().train_loss for _ in range(3)] for one in (training, other)]
    assert losses[0] == losses[1]
    assert training.epochs_left == 0


def test_list_is_frozen_at_the_lipschitz_that_it_reached():
    changes = {
        "feedback": {"updates_per_epoch": 2, "warmups": 1},
        "training": {"calibration_data": "restart", "learning_rate": 1e-6},
    }
    found = trained(make_run("list", 1.0, **changes))  # hardly learns, so L stays
    after = found.returned_after
    assert after is not None
    frozen = found.history[after - 1]["next_lipschitz"]
    assert {row["lipschitz"] for row in found.history[after:]} == {found.network.lipschitz} == {frozen}


def test_a_run_that_does_not_converge_ends_as_without():
    rows = [trained(make_run("list", 0.1, training={"calibration_data": how, "epochs": 3})) for how in ("none", "restart")]
    assert rows[1].returned_after is None
    assert without_seconds(rows[0].history) == without_seconds(rows[1].history)


@pytest.mark.parametrize("how", ["continue", "restart"])
def test_resumed_run_ends_as_an_unbroken_one(how):
    """From the state after each epoch."""
    run, states = fixed(how, epochs=4), []
    whole = trained(run, save=states.append)
    assert len(states) == len(whole.history) == (4 if how == "continue" else 7)
    for done, state in enumerate(states, 1):
        later = []
        resumed = trained(run, state, later.append)
        assert len(later) == len(states) - done
        assert without_seconds(resumed.history) == without_seconds(whole.history)
        assert (resumed.returned_after, resumed.measurements[:done]) == (3, whole.measurements[:done])
        pairs = zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_state_that_contradicts_itself_is_refused():
    states = []
    trained(fixed("continue"), save=states.append)
    with pytest.raises(checkpoint.UnreadableState, match="its validation split was returned after epoch 3"):
        checkpoint.restore(make_training("fixed", 4.0), states[-1])


def test_progress_counts_the_steps_of_both_kinds_of_epochs(monkeypatch):
    totals, bar = [], loop.bar

    def kept(**options):
        totals.append(bar(**options))
        return totals[-1]

    monkeypatch.setattr(loop, "bar", kept)
    for how, steps in (("continue", 3 * 10 + 2 * 12), ("restart", 3 * 10 + 5 * 12)):
        states = []
        trained(fixed(how), save=states.append)
        assert totals[-1].n == totals[-1].total == steps
        trained(fixed(how), states[3])
        assert totals[-1].n == totals[-1].total == steps


def test_calibration_without_a_held_out_split():
    """No temperature, and nothing that rests on one."""
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(2, 200, 3)), generator.integers(0, 3, (2, 200))
    split = logits[0], labels[0], logits[1], labels[1]
    usual, returned = (calibrate(*split, lipschitz=1.0, held_out=held_out) for held_out in (True, False))
    summary = returned.summary()
    assert list(summary) == list(usual.summary())
    assert {name for name, value in summary.items() if value is not None} == set(MEASURES)
    assert (summary["ece"], summary["nll"], returned.sweep) == (usual.ece, usual.nll, usual.sweep)
    assert returned.reliability == [row for row in usual.reliability if not row["scaled"]]


def test_images_that_are_read_batch_by_batch_give_the_same_numbers():
    """Also after their return, when the batches come from two splits."""
    run = make_run("fixed", 4.0, training={"calibration_data": "continue", "epochs": 5}, compute={"in_memory_gib": 0})
    stored, loaded = trained(run), trained(fixed("continue"))
    assert without_seconds(stored.history) == without_seconds(loaded.history)
    assert without_seconds(stored.measurements) == without_seconds(loaded.measurements)

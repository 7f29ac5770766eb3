"""Warm-ups, several updates an epoch, and the loss divided by L: what makes the final L independent of L0."""

import itertools

import pytest
import torch

from lipscale.training import loop
from lipscale.training.warmup import warm_up
from training_stand_ins import CPU, digits, make_run, make_training


def test_more_updates_are_the_same_rule_at_more_moments():
    """Two warm-ups, whose 10 steps are an epoch here, with an update after 8; then two updates an epoch. Each is L / T*."""
    run = make_run(feedback={"warmups": 2, "updates_per_epoch": 2, "largest_step": 1e6})
    rows = loop.train(run, digits(), CPU, None, lambda state: None).measurements
    moments = [-1.2, -0.2, *(half / 2 for half in range(1, 13))]
    assert [row["epochs"] for row in rows] == pytest.approx(moments)
    for row, following in itertools.pairwise(rows):
        assert following["lipschitz"] == row["next_lipschitz"] == pytest.approx(row["lipschitz"] / row["temperature"])
    assert not any(row["bounded"] for row in rows)


def test_no_more_than_one_update_a_step():
    training = make_training(feedback={"updates_per_epoch": 1000})
    training.epoch()
    moments = [row.epochs for row in training.measurements]
    assert moments == [step / training.steps_per_epoch for step in range(1, training.steps_per_epoch + 1)]


def test_a_warm_up_leaves_nothing_but_the_lipschitz_constant():
    """Weights, Adam's state and the history are as before, and L comes out nearly the same from 0.1 and from 1000."""
    ends = []
    for start in (0.1, 1000.0):
        changes = {"feedback": {"warmups": 2, "largest_step": 1e6}, "training": {"divide_loss": True}}
        training = make_training("list", start, **changes)
        before = [parameter.clone() for parameter in training.network.parameters()]
        warm_up(training)
        assert all(map(torch.equal, before, training.network.parameters()))
        assert not training.optimizer.state_dict()["state"]
        assert not training.history
        assert training.warmup_seconds > 0
        ends.append(training.network.lipschitz)
    assert max(ends) / min(ends) < 1.5


def test_methods_without_feedback_have_no_warm_ups():
    training = make_training("fixed", 1.0, feedback={"warmups": 2, "updates_per_epoch": 4})
    warm_up(training)
    assert training.measurements == []
    training.epoch()
    assert [row.epochs for row in training.measurements] == [1]


def test_dividing_the_loss_makes_steps_independent_of_a_past_lipschitz():
    """Adam's mean of squared gradients then has the same size after an epoch at L = 1000 as after one at L = 10."""

    def second_moment(start: float, divide_loss: bool) -> float:
        training = make_training("fixed", start, training={"divide_loss": divide_loss})
        training.epoch()
        # of the first layer's weights
        return training.optimizer.state[next(training.network.layers.parameters())]["exp_avg_sq"].sum().sqrt().item()

    divided, whole = (second_moment(1000.0, divide) / second_moment(10.0, divide) for divide in (True, False))
    assert divided < 10 < 50 < whole


def test_fixed_lipschitz_with_a_divided_loss_is_the_same_up_to_adams_epsilon():
    """Adam's steps do not depend on a constant factor of the gradient."""
    losses = [make_training("fixed", 1.0, training={"divide_loss": divide}).epoch().train_loss for divide in (False, True)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)

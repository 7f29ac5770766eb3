"""Methods without feedback whose L moves: the replay of another run's L, and the ramp."""

import itertools
import math

import pytest

from lipscale.errors import LipscaleError
from lipscale.method.methods.ramp import ramp
from lipscale.training import epochs, loop
from lipscale.training.control import control, replay
from training_stand_ins import CPU, digits, make_run, make_training, without_seconds


def spied(run, recorded=()) -> tuple[loop.Trained, list[float], list[bytes]]:
    """The finished run, the L of each of its training steps, and the states that it saved."""
    seen, states, step = [], [], epochs.take_step

    def noted(training, images, labels, lipschitz, parts):
        assert lipschitz == training.network.lipschitz
        seen.append(lipschitz)
        return step(training, images, labels, lipschitz, parts)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(epochs, "take_step", noted)
        return loop.train(run, digits(), CPU, None, states.append, recorded), seen, states


def recorded_by(trained: loop.Trained) -> list[tuple[float, float]]:
    return [(row["epochs"], row["next_lipschitz"]) for row in trained.measurements]


@pytest.mark.parametrize("warmups", [0, 2])
def test_replayed_lipschitz_is_the_recorded_one_step_by_step(warmups):
    feedback = {"warmups": warmups, "updates_per_epoch": 3}
    changes = {"feedback": feedback, "training": {"epochs": 3}}
    source, of_source, _ = spied(make_run("list", 1.0, **changes))
    copy, of_copy, _ = spied(make_run("replay", 1.0, **changes), recorded_by(source))
    assert len(of_copy) == 3 * 10
    assert of_copy == of_source[-len(of_copy) :]  # without the steps of warm-ups
    assert len(set(of_copy)) == 3 * 3
    for one, other in zip(source.history, copy.history, strict=True):
        assert (one["lipschitz"], one["next_lipschitz"]) == (other["lipschitz"], other["next_lipschitz"])
    assert [row["epochs"] for row in copy.measurements] == [1, 2, 3]  # T* is recorded, and nothing follows from it
    assert {row["bounded"] for row in copy.measurements} == {0}
    assert copy.network.lipschitz == source.network.lipschitz
    # of the same seed it is the same training, bit for bit
    assert [row["train_loss"] for row in copy.history] == [row["train_loss"] for row in source.history]


def test_replay_is_resumed_with_the_same_bits():
    recorded = [(-0.5, 3.0), (0.0, 2.0), (0.5, 2.5), (1.0, 4.0), (2.0, 5.0)]
    run = make_run("replay", 1.0, training={"epochs": 3})
    whole, seen, states = spied(run, recorded)
    assert seen == [2.0] * 5 + [2.5] * 5 + [4.0] * 10 + [5.0] * 10
    for done, state in enumerate(states, 1):
        resumed = loop.train(run, digits(), CPU, state, lambda _: None, recorded)
        assert without_seconds(resumed.history) == without_seconds(whole.history), done
        assert without_seconds(resumed.measurements) == without_seconds(whole.measurements)


def test_replay_before_the_first_update_has_the_first_lipschitz():
    lipschitz = replay(0.7, [(1.0, 4.0), (2.0, 5.0)])
    assert [lipschitz(epochs) for epochs in (0, 0.99, 1, 1.5, 2, 100)] == [0.7, 0.7, 4.0, 4.0, 5.0, 5.0]


def test_replay_needs_what_was_recorded():
    with pytest.raises(LipscaleError, match="run replay-test replays the L of a list run, and got no recorded updates of L"):
        make_training("replay", 1.0)


@pytest.mark.parametrize("lipschitz", [0.01, 4.0, 1000.0])
def test_ramp_rises_from_a_tenth_to_exactly_its_end(lipschitz):
    values = [ramp(lipschitz, step / 1000) for step in range(1001)]
    assert values[0] == pytest.approx(lipschitz / 10, rel=1e-12)
    rising = list(itertools.pairwise(values[:501]))
    assert all(one < other for one, other in rising)
    assert set(values[500:]) == {lipschitz}
    assert values[250] == pytest.approx(lipschitz / math.sqrt(10), rel=1e-12)  # half of the way in log L
    steps = [math.log(other / one) for one, other in rising]
    assert max(steps) < 1.58 * math.log(10) / 500  # smooth: at most pi / 2 times the mean step
    assert steps[0] < 0.01 * max(steps)
    assert steps[-1] < 0.01 * max(steps)


def test_ramp_trains_with_its_lipschitz_at_each_step():
    run = make_run("ramp", 4.0, training={"epochs": 2})
    found, seen, states = spied(run)
    assert seen == [ramp(4.0, (epoch + step / 10) / 2) for epoch in range(2) for step in range(10)]
    assert found.network.lipschitz == found.history[-1]["next_lipschitz"] == 4.0
    assert all(row["temperature"] > 0 for row in found.history)
    resumed = loop.train(run, digits(), CPU, states[0], lambda _: None)
    assert without_seconds(resumed.history) == without_seconds(found.history)


def test_other_methods_are_not_controlled():
    assert (
        control(make_run("list", 1.0))
        is control(make_run("fixed", 1.0))
        is control(make_run("unconstrained", math.inf))
        is None
    )

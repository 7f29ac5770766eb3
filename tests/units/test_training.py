"""The training loop: resumable, reproducible, one loop for all methods."""

import itertools
import math

import pytest
import torch

from lipscale.errors import LipscaleError
from lipscale.training import loop
from lipscale.training.devices import select_device
from lipscale.training.rows import HISTORY
from training_stand_ins import CPU, digits, make_run, make_training, without_seconds

NOISY = '''
"""Cross-entropy of noisy images, with a note of each call."""

from typing import Literal

from lipscale.training.objectives.base import ObjectiveSettings


class Settings(ObjectiveSettings):
    name: Literal["noisy"] = "noisy"
    noise: float = 0.1


calls = []


def loss(forward, images, labels, settings, lipschitz):
    import torch

    calls.append((settings.noise, lipschitz))
    return torch.nn.functional.cross_entropy(forward(images + settings.noise * torch.randn_like(images)), labels)
'''


def trained(run, state: bytes | None = None) -> tuple[loop.Trained, list[bytes]]:
    """The finished run, and the states that it saved."""
    states = []
    return loop.train(run, digits(), CPU, state, states.append), states


def assert_same_run(first: loop.Trained, second: loop.Trained) -> None:
    """Bit for bit the same rows and network."""
    assert without_seconds(first.history) == without_seconds(second.history)
    assert without_seconds(first.measurements) == without_seconds(second.measurements)
    pairs = zip(first.network.state_dict().values(), second.network.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.fixture(scope="module")
def unbroken() -> loop.Trained:
    """LiST from L0 = 0.1."""
    return trained(make_run())[0]


@pytest.fixture
def noisy(tmp_path, monkeypatch):
    """Settings of an objective in one file outside the tree."""
    from lipscale import discovery

    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives" / "noisy.py").write_text(NOISY)
    monkeypatch.setenv(discovery.VARIABLE, str(tmp_path))
    return discovery.load("lipscale.training.objectives", "noisy").Settings()


def test_columns_of_the_rows(unbroken):
    assert list(unbroken.history[0]) == [*HISTORY, "exponent_1", "exponent_2", "seconds"]
    assert [row["epoch"] for row in unbroken.history] == [1, 2, 3, 4, 5, 6]
    columns = ["epochs", "lipschitz", "temperature", "next_lipschitz", "bounded", "seconds"]
    assert list(unbroken.measurements[0]) == columns
    assert {type(row["bounded"]) for row in (*unbroken.history, *unbroken.measurements)} == {int}


def test_history_follows_the_rule(unbroken):
    for row, following in itertools.pairwise(unbroken.history):
        assert following["lipschitz"] == row["next_lipschitz"]
        step = min(max(row["temperature"], 0.1), 10.0)
        assert row["next_lipschitz"] == pytest.approx(row["lipschitz"] / step, rel=1e-12)
        assert row["bounded"] == (step != row["temperature"])
        assert row["exponent_1"] + row["exponent_2"] == pytest.approx(1, rel=1e-12)
    assert unbroken.history[0]["bounded"] == 1  # from L0 = 0.1 the first step is longer than the bound


def test_basic_update_measures_once_an_epoch(unbroken):
    assert [row["epochs"] for row in unbroken.measurements] == [1, 2, 3, 4, 5, 6]
    for row, epoch in zip(unbroken.measurements, unbroken.history, strict=True):
        assert (row["lipschitz"], row["next_lipschitz"]) == (epoch["lipschitz"], epoch["next_lipschitz"])


def test_network_has_the_last_lipschitz(unbroken):
    assert unbroken.network.lipschitz == unbroken.history[-1]["next_lipschitz"]


def test_what_is_reported_about_the_run(unbroken):
    assert unbroken.parameters == 64 * 16 + 16 + 16 * 10 + 10 + 2
    assert unbroken.seconds >= sum(row["seconds"] for row in unbroken.history)
    assert 0 < unbroken.feedback_seconds == sum(row["seconds"] for row in unbroken.measurements) < unbroken.seconds


def test_training_twice_gives_the_same_bits(unbroken):
    torch.rand(3)  # what others draw from torch's generator does not matter
    assert_same_run(trained(make_run())[0], unbroken)


@pytest.mark.parametrize("case", ["list", "fixed", "warm-ups", "crop-flip", "noisy"])
def test_resumed_run_ends_as_an_unbroken_one(case, noisy):
    """From the state after each epoch, the last one included."""
    changes = {
        "warm-ups": {"feedback": {"warmups": 1, "updates_per_epoch": 3}, "training": {"divide_loss": True}},
        "crop-flip": {"training": {"augmentation": "crop-flip"}},
        "noisy": {"training": {"objective": noisy}},
    }.get(case, {})
    run = make_run("fixed" if case == "fixed" else "list", 1.0, **changes)
    whole, states = trained(run)
    assert len(states) == 6
    for done, state in enumerate(states, 1):
        torch.rand(done)
        resumed, later = trained(run, state)
        assert_same_run(resumed, whole)
        assert len(later) == 6 - done
        assert resumed.history[:done] == whole.history[:done]  # measured times included


def test_objective_outside_the_tree_is_used(noisy, unbroken):
    import sys

    module = sys.modules["lipscale.training.objectives.noisy"]
    module.calls.clear()
    found, _ = trained(make_run(training={"objective": noisy}, feedback={"updates_per_epoch": 2}))
    assert {noise for noise, _ in module.calls} == {0.1}
    lipschitz = [row["lipschitz"] for row in found.measurements]
    assert [lipschitz for _, lipschitz in module.calls] == [value for value in lipschitz for _ in range(5)]
    assert found.history[0]["train_loss"] != unbroken.history[0]["train_loss"]


def test_unknown_objective_is_named():
    with pytest.raises(LipscaleError, match=r"objectives: there is no 'noise'; allowed: .*cross_entropy"):
        make_training(training={"objective": type("Settings", (), {"name": "noise"})()})


def test_fixed_is_the_same_loop_without_feedback():
    training = make_training("fixed", 1.0)
    rows = [training.epoch() for _ in range(2)]
    assert {row.lipschitz for row in rows} == {row.next_lipschitz for row in rows} == {1.0}
    assert all(row.temperature < 1 for row in rows)  # L = 1 is too small for digits: the network is under-confident


def test_unconstrained_is_the_same_loop_without_lipschitz_constant():
    """Its loss is never divided by L, which is infinite."""
    found, _ = trained(make_run("unconstrained", math.inf, training={"divide_loss": True}))
    assert {row["next_lipschitz"] for row in found.history} == {found.network.lipschitz} == {math.inf}
    assert {row["exponent_1"] for row in found.history} == {0.0}
    assert found.history[-1]["validation_accuracy"] > 0.8


def test_feedback_moves_both_starts_towards_each_other():
    ends = []
    for start in (0.1, 100.0):
        training = make_training("list", start)
        ends.append([training.epoch() for _ in range(4)][-1].next_lipschitz)
    assert ends[1] / ends[0] < 1000 / 50


@pytest.mark.parametrize(
    "changes", [{"precision": "bf16"}, pytest.param({"compile": True}, marks=pytest.mark.slow)], ids=["bf16", "compile"]
)
def test_faster_training_is_nearly_the_same_training(changes):
    """Loss of the first epoch as in float32; L is enforced in any case, by exporting."""
    losses = [make_training(compute=compute).epoch().train_loss for compute in ({}, changes)]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)  # bf16 keeps eight bits


def test_loss_that_is_not_finite_is_named():
    training = make_training()
    with torch.no_grad():
        training.network.layers[0].bias.fill_(float("nan"))
    with pytest.raises(LipscaleError, match=r"run list-test: the training loss became nan in epoch 1 at L = 0\.1; a smaller"):
        training.epoch()
    assert training.history == training.measurements == []


CONVOLUTIONS = {"architecture": "convnet", "patch": 1, "depth": 1, "channels": [4]}


@pytest.mark.parametrize(
    ("method", "lipschitz", "network", "batch_size", "sentence", "finished"),
    [
        ("list", 0.1, {}, 128, "the training loss became nan in epoch 1 at L = 0.1", 0),  # in the middle of the epoch
        ("fixed", 1.0, CONVOLUTIONS, 5000, "the weights are no longer finite in epoch 1 at L = 1", 0),  # after its only step
        ("unconstrained", math.inf, CONVOLUTIONS, 5000, "the validation logits are no longer finite in epoch 1 at L = inf", 0),
        ("unconstrained", math.inf, {}, 5000, "the training loss became inf in epoch 2 at L = inf", 1),
    ],
)
def test_training_that_diverges(method, lipschitz, network, batch_size, sentence, finished):
    run = make_run(method, lipschitz, network=network, training={"learning_rate": 1e18, "batch_size": batch_size})
    states = []
    with pytest.raises(LipscaleError) as raised:
        loop.train(run, digits(), CPU, None, states.append)
    assert str(raised.value) == f"run {method}-test: {sentence}; a smaller training.learning_rate may help"
    assert len(states) == finished


def test_state_of_the_last_good_epoch_is_the_last_that_is_saved(monkeypatch):
    """Weights become NaN in the middle of the third epoch."""
    epoch, states = loop.Training.epoch, []

    def poisoned(self, after_step):
        def poison():
            if len(self.history) == 2:
                next(self.network.layers.parameters()).data.fill_(float("nan"))

        return epoch(self, poison)

    monkeypatch.setattr(loop.Training, "epoch", poisoned)
    with pytest.raises(LipscaleError, match="the training loss became nan in epoch 3"):
        loop.train(make_run(), digits(), CPU, None, states.append)
    monkeypatch.undo()
    assert len(states) == 2
    assert_same_run(trained(make_run(), states[-1])[0], trained(make_run())[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_gpu_is_named():
    with pytest.raises(LipscaleError, match=r"compute\.device is cuda, but torch finds no GPU"):
        select_device("cuda")
    assert select_device("cpu") == CPU

"""The training loop: resumable, reproducible, one loop for LiST and fixed L."""

import itertools
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from conftest import lipscale
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.training import loop as training

ALWAYS_NEW = ("seconds",)  # columns of the history that no two runs share


def history(folder: Path) -> list[dict[str, str]]:
    return [
        {name: value for name, value in row.items() if name not in ALWAYS_NEW}
        for row in files.read_rows(folder / "history.csv")
    ]


def assert_same_run(first: Path, second: Path) -> None:
    """Bit for bit the same history and network."""
    assert history(first) == history(second)
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory, digits) -> Path:
    """The first LiST run of the tiny config."""
    from conftest import TINY
    from lipscale import config as configs

    folder = tmp_path_factory.mktemp("unbroken")
    run = next(configs.runs(configs.check(TINY)))
    lipscale("train", "--settings", "-", "--data", digits, "--runs", folder, stdin=[run])
    return folder / run["run"]


def test_files_of_a_run(unbroken, settings):
    assert {path.name for path in unbroken.iterdir()} == {
        "config.yaml",
        "history.csv",
        "feedback.csv",
        "model.safetensors",
        "provenance.json",
        ".seals",
        training.CHECKPOINT,
    }
    assert yaml.safe_load((unbroken / "config.yaml").read_text()) == settings()
    rows = files.read_rows(unbroken / "history.csv")
    assert list(rows[0]) == [*training.HISTORY, "exponent_1", "exponent_2", "seconds"]
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    provenance = files.read_json(unbroken / "provenance.json")
    assert {"commit", "versions", "device", "seed", "seconds", "config_hash"} <= set(provenance)


def test_history_follows_the_rule(unbroken):
    rows = files.read_rows(unbroken / "history.csv")
    for row, following in itertools.pairwise(rows):
        assert following["lipschitz"] == row["next_lipschitz"]
        step = min(max(float(row["temperature"]), 0.1), 10.0)
        assert float(row["next_lipschitz"]) == pytest.approx(float(row["lipschitz"]) / step, rel=1e-12)
        assert (row["bounded"] == "1") == (step != float(row["temperature"]))
        assert float(row["exponent_1"]) + float(row["exponent_2"]) == pytest.approx(1, rel=1e-12)
    assert rows[0]["bounded"] == "1"  # from L0 = 0.1 the first step is longer than the bound


def test_model_has_the_last_lipschitz(unbroken):
    from lipscale.certification import export

    assert export.load(unbroken / "model.safetensors").lipschitz == float(history(unbroken)[-1]["next_lipschitz"])


def test_training_again_gives_the_same_bits(unbroken, settings, digits, tmp_path):
    training.train(settings(), Dataset(digits), tmp_path)
    assert_same_run(tmp_path, unbroken)


def test_killed_run_goes_on_and_ends_as_an_unbroken_one(unbroken, settings, digits, tmp_path):
    """kill -9 as soon as there is a checkpoint, and once more after that; then the same command to the end."""
    run = settings()
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump([run]))
    command = [sys.executable, "-m", "lipscale", "train", "--data", digits, "--runs", tmp_path]
    command = [*map(str, command), "--settings", str(tmp_path / "settings.yaml")]
    checkpoint = tmp_path / run["run"] / training.CHECKPOINT
    epochs = []
    for _ in range(2):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (checkpoint.exists() and checkpoint.stat().st_mtime_ns != before):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        epochs.append(len(training.read_checkpoint(checkpoint)["history"]))
    assert 0 < epochs[0] < epochs[1] <= 6
    assert not (checkpoint.parent / "history.csv").exists()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert_same_run(checkpoint.parent, unbroken)


def test_checkpoint_of_other_settings_is_passed_over(unbroken, settings, digits, tmp_path, capsys):
    other = training.Training(settings(training={"learning_rate": 0.5}), Dataset(digits), torch.device("cpu"))
    other.epoch()
    other.save(tmp_path / training.CHECKPOINT)
    training.train({**settings(), "training": {**settings()["training"], "learning_rate": 0.02}}, Dataset(digits), tmp_path)
    assert "from other settings or data" in capsys.readouterr().out
    assert_same_run(tmp_path, unbroken)


def test_damaged_checkpoint_is_passed_over(settings, digits, tmp_path, capsys):
    run = training.Training(settings(), Dataset(digits), torch.device("cpu"))
    path = tmp_path / training.CHECKPOINT
    run.epoch()
    run.save(path)
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"\x80\x04K\x01."):
        path.write_bytes(content)
        again = training.Training(settings(), Dataset(digits), torch.device("cpu"))
        again.resume(path)
        assert again.history == []
        assert "cannot be read" in capsys.readouterr().out


def test_fixed_is_the_same_loop_without_feedback(settings, digits):
    run = training.Training(settings("fixed"), Dataset(digits), torch.device("cpu"))
    rows = [run.epoch() for _ in range(2)]
    assert {row["lipschitz"] for row in rows} == {row["next_lipschitz"] for row in rows} == {1.0}
    assert all(row["temperature"] < 1 for row in rows)  # L = 1 is too tight for digits: the network is under-confident


def test_feedback_moves_both_starts_towards_each_other(settings, digits):
    ends = []
    for start in (0.1, 100.0):
        run = training.Training({**settings(), "initial_lipschitz": start}, Dataset(digits), torch.device("cpu"))
        ends.append([run.epoch() for _ in range(4)][-1]["next_lipschitz"])
    assert ends[1] / ends[0] < 1000 / 50


def test_loss_that_is_not_finite_is_named(settings, digits):
    run = training.Training(settings(), Dataset(digits), torch.device("cpu"))
    with torch.no_grad():
        run.network.layers[0].bias.fill_(float("nan"))
    with pytest.raises(LipscaleError, match=r"run list-0\.1-seed0: the training loss became nan in epoch 1"):
        run.epoch()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_gpu_is_named(settings, digits, tmp_path):
    result = lipscale(
        "train", "--settings", "-", "--data", digits, "--runs", tmp_path,
        stdin=[settings(compute={"device": "cuda"})], check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert "compute.device is cuda, but torch finds no GPU" in result.stderr
    assert "Traceback" not in result.stderr


def test_altered_data_are_refused(digits, tmp_path):
    shutil.copytree(digits, tmp_path / "data")
    with (tmp_path / "data" / "arrays.npz").open("ab") as file:
        file.write(b"more")
    with pytest.raises(LipscaleError, match=r"arrays\.npz is not what was written there"):
        Dataset(tmp_path / "data")


def test_crop_flip_shifts_and_flips():
    images = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).reshape(2, 3, 8, 8) + 1
    seen = set()
    for seed in range(60):
        after = training.crop_flip(images, torch.Generator().manual_seed(seed))
        assert after.shape == images.shape
        for before, image in zip(images, after, strict=True):
            padded = torch.nn.functional.pad(before, (1, 1, 1, 1))
            options = {
                (row, column, flip): (part.flip(2) if flip else part)
                for row in range(3)
                for column in range(3)
                for flip in (False, True)
                for part in [padded[:, row : row + 8, column : column + 8]]
            }
            seen |= {key for key, option in options.items() if torch.equal(option, image)}
    assert len(seen) == 18


def test_every_epoch_sees_every_image_once_in_a_new_order(settings, digits, monkeypatch):
    run = training.Training(settings(), Dataset(digits), torch.device("cpu"))
    run.labels = torch.arange(len(run.labels))  # so that the loss is told which images it gets
    seen = []

    def spy(logits, labels):
        seen.append(labels)
        return logits.square().mean()

    monkeypatch.setattr(training, "cross_entropy", spy)
    orders = []
    for _ in range(2):
        run._train_steps(run.steps_per_epoch, (), float)
        run.history.append({})
        orders.append(torch.cat(seen))
        seen.clear()
    assert all(order.sort().values.equal(run.labels) for order in orders)
    assert (orders[0] != orders[1]).float().mean() > 0.9


def test_seeds_and_epochs_have_nothing_in_common():
    assert len({training._mix(seed, epoch) for seed in range(30) for epoch in range(30)}) == 900
    assert np.log2(training._mix(0, 0)) < 63


def feedback_rows(folder: Path) -> list[dict[str, float]]:
    return [{name: float(value) for name, value in row.items()} for row in files.read_rows(folder / "feedback.csv")]


def test_plain_rule_measures_once_an_epoch(unbroken):
    rows = feedback_rows(unbroken)
    assert [row["epochs"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row, epoch in zip(rows, files.read_rows(unbroken / "history.csv"), strict=True):
        assert (row["lipschitz"], row["next_lipschitz"]) == (float(epoch["lipschitz"]), float(epoch["next_lipschitz"]))


def test_more_updates_are_the_same_rule_at_more_moments(settings, digits, tmp_path):
    """Two rehearsals, whose 10 steps are an epoch here, with an update after 8; then two updates an epoch. Each is L / T*."""
    training.train(settings(feedback={"rehearsals": 2, "updates_per_epoch": 2, "largest_step": 1e6}), Dataset(digits), tmp_path)
    rows = feedback_rows(tmp_path)
    moments = [-1.2, -0.2, *(half / 2 for half in range(1, 13))]
    assert [row["epochs"] for row in rows] == pytest.approx(moments)
    for row, following in itertools.pairwise(rows):
        assert following["lipschitz"] == row["next_lipschitz"] == pytest.approx(row["lipschitz"] / row["temperature"])
    assert not any(row["bounded"] for row in rows)


def test_no_more_than_one_update_a_step(settings, digits):
    state = training.Training(settings(feedback={"updates_per_epoch": 1000}), Dataset(digits), torch.device("cpu"))
    state.epoch()
    moments = [row["epochs"] for row in state.measurements]
    assert moments == [step / state.steps_per_epoch for step in range(1, state.steps_per_epoch + 1)]


def test_a_rehearsal_leaves_nothing_but_the_lipschitz_constant(settings, digits):
    """Weights, Adam's state and the history are as before, and L comes out nearly the same from 0.1 and from 1000."""
    ends = []
    for start in (0.1, 1000.0):
        run = settings(feedback={"rehearsals": 2, "largest_step": 1e6}, training={"divide_loss": True})
        state = training.Training(run | {"initial_lipschitz": start}, Dataset(digits), torch.device("cpu"))
        before = [parameter.clone() for parameter in state.network.parameters()]
        state.rehearse()
        assert all(map(torch.equal, before, state.network.parameters()))
        assert not state.optimizer.state_dict()["state"]
        assert not state.history
        ends.append(state.network.lipschitz)
    assert max(ends) / min(ends) < 1.5


def test_dividing_the_loss_makes_steps_independent_of_a_past_lipschitz(settings, digits):
    """Adam's mean of squared gradients then has the same size after an epoch at L = 1000 as after one at L = 10."""

    def second_moment(start: float, divide_loss: bool) -> float:
        run = settings(training={"divide_loss": divide_loss}) | {"initial_lipschitz": start, "method": "fixed"}
        state = training.Training(run, Dataset(digits), torch.device("cpu"))
        state.epoch()
        # of the first layer's weights
        return state.optimizer.state[next(state.network.layers.parameters())]["exp_avg_sq"].sum().sqrt().item()

    divided, whole = (second_moment(1000.0, divide) / second_moment(10.0, divide) for divide in (True, False))
    assert divided < 10 < 50 < whole


def test_fixed_lipschitz_with_a_divided_loss_is_the_same_up_to_adams_epsilon(settings, digits):
    """Adam's steps do not depend on a constant factor of the gradient."""
    losses = [
        training.Training(settings("fixed", training={"divide_loss": divide}), Dataset(digits), torch.device("cpu")).epoch()
        for divide in (False, True)
    ]
    assert losses[0]["train_loss"] == pytest.approx(losses[1]["train_loss"], rel=1e-3)


def test_unconstrained_run_is_trained_and_exported(settings, digits, tmp_path):
    from lipscale.certification import export

    training.train(settings("unconstrained"), Dataset(digits), tmp_path)
    rows = files.read_rows(tmp_path / "history.csv")
    assert {row["next_lipschitz"] for row in rows} == {"inf"}
    assert float(rows[-1]["validation_accuracy"]) > 0.8
    assert export.load(tmp_path / "model.safetensors").lipschitz == float("inf")


@pytest.mark.parametrize("changes", [{"precision": "bf16"}, {"compile": True}], ids=["bf16", "compile"])
def test_faster_training_is_nearly_the_same_training(changes, settings, digits):
    """Loss of the first epoch as in float32; L is enforced in any case, by exporting."""
    losses = [
        training.Training(settings(compute=compute), Dataset(digits), torch.device("cpu")).epoch()["train_loss"]
        for compute in ({"precision": "float32", "compile": False}, changes)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)  # bf16 keeps eight bits

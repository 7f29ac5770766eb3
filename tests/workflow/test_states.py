"""Trainings that diverge, and states of trainings and attacks that are damaged, of other work or missing."""

import random
from collections.abc import Iterable
from pathlib import Path

import pytest

from lipscale import config as configs
from lipscale.cli import main
from lipscale.steps.train import CHECKPOINT
from lipscale.store import state
from lipscale.store.dataset import read_dataset
from lipscale.store.run_folder import RunFolder
from lipscale.training import loop
from short_experiment import DONE, NEW, write_settings

pytestmark = pytest.mark.slow

CONVOLUTIONS = {"architecture": "convnet", "patch": 1, "depth": 1, "channels": [4], "widths": [16]}


@pytest.mark.parametrize(
    ("method", "network", "batch_size", "sentence", "finished"),
    [
        ("list", {"widths": [16]}, 128, "the training loss became nan in epoch 1 at L = 0.1", 0),  # in the middle of the epoch
        ("fixed", CONVOLUTIONS, 5000, "the weights are no longer finite in epoch 1 at L = 20", 0),  # after its only step
        ("unconstrained", CONVOLUTIONS, 5000, "the validation logits are no longer finite in epoch 1 at L = inf", 0),
        ("unconstrained", {"widths": [16]}, 5000, "the training loss became inf in epoch 2 at L = inf", 1),
    ],
)
def test_training_that_diverges(settings, tiny, copied, capsys, method, network, batch_size, sentence, finished):
    tiny["network"] = {}
    tiny["runs"]["unconstrained_learning_rate"] = 1e18
    network = {"architecture": "mlp", **network}
    run = settings(method, network=network, training={"learning_rate": 1e18, "batch_size": batch_size})
    run = run.model_copy(update={"run": "diverging"})
    write_settings(run, copied)
    assert main(["train", str(copied / "runs" / "diverging")]) == 1
    error = capsys.readouterr().err
    assert f"lipscale: run diverging: {sentence}; a smaller training.learning_rate may help\n" in error
    folder = copied / "runs" / "diverging"
    assert (folder / CHECKPOINT).exists() == bool(finished)
    assert {path.name for path in folder.iterdir()} <= {"config.yaml", ".checksums", CHECKPOINT}


def test_checkpoint_of_the_last_good_epoch_stays(settings, copied, monkeypatch):
    """Weights become NaN in the middle of the third epoch."""
    epoch = loop.Training.epoch
    run = settings()
    write_settings(run, copied)
    path, seen = copied / "runs" / run.run / CHECKPOINT, []

    def poisoned(self: loop.Training, *arguments: object, **named: object) -> object:
        if len(self.history) == 2:
            seen.append(path.read_bytes())
            next(self.network.layers.parameters()).data.fill_(float("nan"))
        return epoch(self, *arguments, **named)

    monkeypatch.setattr(loop.Training, "epoch", poisoned)
    assert main(["train", str(copied / "runs" / run.run)]) == 1
    assert path.read_bytes() == seen[0]


def assert_passed_over(path: Path, contents: Iterable[bytes], capsys) -> None:
    for content in contents:
        path.write_bytes(content)
        assert state.load(path, {"run": 1}) is None
        assert capsys.readouterr().out == f"{path} is damaged (its checksum differs); this step starts from the beginning\n"


def test_altered_and_truncated_states_are_passed_over(tmp_path, capsys):
    path, chance = tmp_path / "state", random.Random(0)
    state.save(path, {"run": 1}, bytes(range(256)) * 40)
    whole = path.read_bytes()
    assert state.load(path, {"run": 1}) == bytes(range(256)) * 40
    start = whole.index(b"\n") + 1
    positions = [start, len(whole) - 1, *(chance.randrange(start, len(whole)) for _ in range(200))]
    flipped = (whole[:k] + bytes([whole[k] ^ 1 << chance.randrange(8)]) + whole[k + 1 :] for k in positions)
    assert_passed_over(path, flipped, capsys)
    assert_passed_over(path, (whole[:k] for k in positions), capsys)
    assert_passed_over(path, (b"", b"{}", b"[1]\n", b"null\n\0", whole + b"\0", whole * 2), capsys)


def test_state_of_other_work_is_passed_over(tmp_path, capsys):
    path = tmp_path / "state"
    state.save(path, {"run": 1}, b"content")
    assert state.load(path, {"run": 2}) is None
    assert capsys.readouterr().out == f"{path} is from other settings or data; this step starts from the beginning\n"
    assert state.load(path, {"run": 1}) == b"content"


def test_checkpoint_of_another_version_is_passed_over(copied, capsys):
    """Its checksum is right, its content is not what this version writes."""
    run = RunFolder(copied / "runs" / NEW)
    identity = {"config_hash": configs.digest(run.settings.identity()), "data_sha256": read_dataset(run.data).sha256}
    state.save(run / CHECKPOINT, identity, b"of another version")
    assert main(["train", str(run.path)]) == 0
    assert "start" in capsys.readouterr().out
    assert (run / "model.safetensors").exists()


def test_checkpoint_that_cannot_be_read_now_is_left_alone(copied, monkeypatch):
    """Training does not start from the beginning, which would overwrite what may be whole."""
    run = RunFolder(copied / "runs" / NEW)
    (run / CHECKPOINT).write_bytes(b"perhaps whole")

    def fail(*_: object) -> None:
        raise PermissionError(13, "not now", "checkpoint.pt")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        assert main(["train", str(run.path)]) == 1
    assert (run / CHECKPOINT).read_bytes() == b"perhaps whole"


def test_missing_files_are_named(copied, capsys):
    (copied / "runs" / DONE / "model.safetensors").unlink()
    assert main(["evaluate", str(copied / "runs" / DONE)]) == 1
    path = copied / "runs" / DONE / "model.safetensors"
    assert capsys.readouterr().err.endswith(f"lipscale: {path} is missing; run the workflow to create it\n")

"""The state of a run as bytes: restored whole, or refused with a reason and without a trace."""

import io
import pickle
import random
from pathlib import Path

import pytest
import torch

from lipscale.training import checkpoint, loop
from training_stand_ins import CPU, digits, make_run, make_training


@pytest.fixture(scope="module")
def whole() -> bytes:
    """The state after one epoch."""
    training = make_training()
    training.epoch()
    return checkpoint.to_bytes(training)


def written(state: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def read(content: bytes) -> dict:
    return torch.load(io.BytesIO(content), weights_only=True)


def assert_refused(content: bytes, *, started: bool = False) -> str:
    """The content leaves weights, L, optimiser and rows as they were; returns the reason."""
    training = make_training()
    if started:
        training.epoch()
    before = checkpoint.to_bytes(training)
    with pytest.raises(checkpoint.UnreadableState) as raised:
        checkpoint.restore(training, content)
    assert isinstance(raised.value, ValueError)
    assert checkpoint.to_bytes(training) == before
    reason = str(raised.value)
    assert reason
    assert "\n" not in reason
    return reason


def test_state_is_restored(whole):
    training = make_training()
    checkpoint.restore(training, whole)
    assert [row.epoch for row in training.history] == [1]
    assert checkpoint.to_bytes(training) == whole


def test_truncated_states_are_refused(whole):
    chance = random.Random(0)
    for length in (0, 1, 31, len(whole) - 1, *(chance.randrange(len(whole)) for _ in range(20))):
        assert_refused(whole[:length])


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_content_that_is_no_state_is_refused():
    for content in (
        b"PK half a file",
        b"\x80\x04K\x01.",
        bytes(1000),
        pickle.dumps({"history": []}),
        written([1]),
        written({}),
    ):
        assert_refused(content)


def changed(whole: bytes) -> dict[str, bytes]:
    """States of other versions, by what is different."""
    state = read(whole)
    network = {name: value + 1 if isinstance(value, torch.Tensor) else value for name, value in state["network"].items()}
    row, last = state["history"][0], list(network)[-1]
    moments = {index: values | {"exp_avg": torch.zeros(3)} for index, values in state["optimizer"]["state"].items()}
    others = {f"no {key}": {name: value for name, value in state.items() if name != key} for key in state}
    others |= {
        "weights of another shape": state | {"network": network | {last: torch.zeros(3, 5, 7)}},
        "an unknown weight": state | {"network": network | {"more": torch.zeros(3)}},
        "an empty optimiser": state | {"network": network, "optimizer": {"state": {}, "param_groups": []}},
        "moments of another shape": state | {"network": network, "optimizer": state["optimizer"] | {"state": moments}},
        "an unknown column": state | {"network": network, "history": [row | {"more": 1}]},
        "a missing column": state | {"history": [{"epoch": 1}]},
        "an epoch too many": state | {"history": [row | {"epoch": number} for number in range(1, 8)]},
        "a missing epoch": state | {"history": [row | {"epoch": 2}]},
        "no number": state | {"warmup_seconds": "many"},
    }
    return {name: written(other) for name, other in others.items()}


def test_states_of_other_versions_are_refused(whole):
    reasons = {name: assert_refused(content, started=True) for name, content in changed(whole).items()}
    assert reasons["no history"] == "'history'"
    assert "size mismatch" in reasons["weights of another shape"]
    assert "its optimiser has exp_avg of shape (3,)" in reasons["moments of another shape"]
    assert reasons["an epoch too many"] == "it has the epochs [1, 2, 3, 4, 5, 6, 7] of 6"


def test_training_does_not_start_from_a_state_that_is_refused(whole):
    with pytest.raises(checkpoint.UnreadableState):
        loop.train(make_run(), digits(), CPU, whole[:-1], lambda state: pytest.fail("trained"))


class Malicious:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("write", [written, pickle.dumps])
def test_state_cannot_run_code(tmp_path, write):
    assert_refused(write({"network": Malicious(tmp_path / "ran")}))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "error", [MemoryError("not now"), torch.OutOfMemoryError("not now"), RuntimeError("[enforce fail] can't allocate memory")]
)
def test_a_state_is_not_refused_because_memory_ran_out(whole, monkeypatch, error):
    def fail(*_, **__):
        raise error

    training = make_training()
    before = checkpoint.to_bytes(training)
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(type(error)) as raised:
        checkpoint.restore(training, whole)
    assert raised.value is error
    assert checkpoint.to_bytes(training) == before

"""What property tests share: numbers of examples, odd texts, damaged bytes, and the rule that a refusal is one line."""

import contextlib
import os
import tempfile
from collections.abc import Iterator

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from conftest import tried
from lipscale.errors import LipscaleError

CACHE = tempfile.TemporaryDirectory()  # instead of a folder .hypothesis that would be left behind
set_hypothesis_home_dir(CACHE.name)

TIMES = int(os.environ.get("LIPSCALE_EXAMPLES", 1))  # 10: ten times as many examples, and other ones each time

TEXTS = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(codec=None), max_size=5),  # lone surrogates too
    st.sampled_from(
        ["", ".", "..", "../x", "/x", "a/b", "x\n", "\0", "nan", "inf", "-1", "1e3", "1e999", "9" * 5000, "true", "null"]
    ),
    st.sampled_from(["x" * 300, "$(touch pwned)", "`x`", "'", '"', "{x}", "{{", "%s", "digits", "list", "cuda", "é\u2028"]),
)


def examples(count: int) -> settings:
    """So many examples, the same ones each time, none kept on the disk."""
    return settings(
        max_examples=TIMES * count,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )


@contextlib.contextmanager
def refused(kind: str) -> Iterator[list[str]]:
    """Counts an example; yields a list that gets the one line with which it is refused, if it is. No other error is let by."""
    said = []
    tried[kind] += 1
    try:
        yield said
    except LipscaleError as error:
        said.append(str(error))
        tried[f"{kind} refused"] += 1
    for line in said:
        assert line.isprintable()
        assert 10 < len(line) < 1000


@st.composite
def broken(draw, data: bytes) -> bytes:
    """`data` with a few bytes flipped, cut off, repeated or put in."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "flip", "set", "cut", "remove", "insert", "repeat"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "set" if data:
                data[at] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, ord("0"), ord("9"), ord("-")]))
            case "cut":
                del data[at:]
            case "remove":
                del data[at : at + draw(st.integers(1, 600))]
            case "insert":
                data[at:at] = draw(st.binary(max_size=16))
            case "repeat":
                data[at:at] = data[at : at + 512]
    return bytes(data)

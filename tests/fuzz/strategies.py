"""What property tests share: strategies, and a block in which input is valid or refused in one line."""

import contextlib
import copy
import math
import os
import tempfile
from collections.abc import Iterator

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from conftest import tried
from lipscale.errors import LipscaleError

CACHE = tempfile.TemporaryDirectory()  # instead of a folder .hypothesis that would be left behind
set_hypothesis_home_dir(CACHE.name)
TIMES = int(os.environ.get("LIPSCALE_EXAMPLES", 1))  # 10: ten times as many examples, and other ones each time


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
    """Counts an example; yields a list that gets the one line with which it is refused, if it is. Other errors pass through."""
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


TEXTS = st.one_of(
    st.text(max_size=20),
    st.text(st.characters(codec=None), max_size=5),  # lone surrogates too
    st.sampled_from(
        ["", ".", "..", "../x", "/x", "a/b", "x\n", "\0", "nan", "inf", "-1", "1e3", "1e999", "9" * 5000, "true", "null"]
    ),
    st.sampled_from(["x" * 300, "$(touch pwned)", "`x`", "'", '"', "{x}", "{{", "%s", "digits", "list", "cuda", "é\u2028"]),
)
NUMBERS = st.one_of(
    st.integers(),
    st.integers(-2, 130),
    st.floats(),
    st.sampled_from([0, -0.0, 1, 1.0, 36.0, 1e18, 1e19, 10**18, 10**400, 2**63, 5e-324, 1e308, math.nan]),
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS | st.dates() | st.binary(max_size=3)
KEYS = st.one_of(TEXTS, st.none(), st.booleans(), st.integers(), st.floats())
ANYTHING = st.recursive(
    SCALARS, lambda item: st.lists(item, max_size=4) | st.dictionaries(KEYS, item, max_size=4), max_leaves=12
)


def positions(value: object, position: tuple = ()) -> Iterator[tuple]:
    """The path of keys and indices to everything inside `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*position, key)
        yield from positions(item, (*position, key))


def get(value: object, position: tuple) -> object:
    """What is at a position."""
    for step in position:
        value = value[step]
    return value


def near(value: object) -> st.SearchStrategy:
    """Values that may be allowed in place of `value`."""
    if isinstance(value, int | float) and abs(value) < 1e300:
        return st.sampled_from(
            [value, value + 1, 2 * value, 4 * value, value / 2, value / 3, str(value), f"{value:e}", float(value)]
        )
    return st.sampled_from(
        [value, True, False, "small", "mlp", "convnet", "cpu", "imagefolder", "cifar10", [2, 4], [64], 2, None]
    )


@st.composite
def mutated(draw, of: list) -> object:
    """One of some configs with a few values replaced, removed, added, renamed or moved."""
    config = copy.deepcopy(draw(st.sampled_from(of)))
    for _ in range(draw(st.integers(1, 3))):
        known = list(positions(config))
        assume(known)
        *way, key = draw(st.sampled_from(known))
        parent = get(config, way)
        others = st.sampled_from(known).map(lambda position: get(config, position))
        value = draw(near(parent[key]) | NUMBERS | TEXTS | ANYTHING | others.map(copy.deepcopy))
        change = draw(st.sampled_from(["replace", "replace", "replace", "remove", "add", "rename"]))
        if change == "replace":
            parent[key] = value
        elif change == "remove":
            del parent[key]
        elif isinstance(parent, list):
            parent.insert(key, value)
        else:
            name = draw(KEYS | st.sampled_from([position[-1] for position in known]))
            parent[name] = value if change == "add" else parent.pop(key)
    return config


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

"""Odd values, and configs that are changed a little."""

import copy
import math
from collections.abc import Iterator

from hypothesis import assume
from hypothesis import strategies as st

from fuzzing import TEXTS

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

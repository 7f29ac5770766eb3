"""The largest ECE of confidences in known intervals, in whole numbers. The lemma is in docs/checker.md."""

import math
from collections import defaultdict
from fractions import Fraction

BINS = 15
STEP = 1 << 60  # the width of a bin
ONE = BINS * STEP


def largest_sum(lows: list[Fraction], highs_right: list[Fraction], highs_wrong: list[Fraction]) -> Fraction:
    """At least the number of images times their largest ECE. An upper end below the lower one: it cannot be so.

    One of both ends has to be above the lower one, which it is wherever all three are proven.
    """
    groups = defaultdict(list)
    for low, *highs in zip(lows, highs_right, highs_wrong, strict=True):
        ends = [math.ceil(high * ONE) if high >= low else None for high in highs]
        low = math.floor(low * ONE)
        groups[_bin(low), *(-1 if end is None else _bin(end) for end in ends)].append((low, *ends))
    best = [0]  # for each choice of signs of the bins 0 to k: what images give that reach no higher bin. A bit is 1 for +
    for k in range(BINS):
        found = [0]  # the same of those that reach k and no bin below a, for signs of the bins a to k
        for a in range(k, -1, -1):
            found = [found[signs >> 1] for signs in range(2 << k - a)]
            for (first, right, wrong), images in groups.items():
                if first == a and max(wrong, right) == k:
                    _add(found, a, right, wrong, images)
        best = [best[signs & (1 << k) - 1] + gain for signs, gain in enumerate(found)]
    return Fraction(max(best), ONE)


def _bin(confidence: int) -> int:
    """Bin b is above b STEP and at most (b + 1) STEP; 0 belongs to bin 0."""
    return max(0, (confidence - 1) // STEP)


def _add(found: list[int], first: int, right: int, wrong: int, images: list[tuple]) -> None:
    """To each choice of signs of the bins from `first` on, what images give whose highest bins are `right` and `wrong`."""
    reached, table = [(1 << max(last - first + 1, 0)) - 1 for last in (right, wrong)], {}
    for signs in range(len(found)):
        plus, minus = signs & reached[1], ~signs & reached[0]
        key = plus.bit_length(), (minus & -minus).bit_length()  # the highest bin with +, the lowest with -; 0: there is none
        if key not in table:
            table[key] = sum(_gain(*(first + bit - 1 if bit else None for bit in key), *image) for image in images)
        found[signs] += table[key]


def _gain(plus: int | None, minus: int | None, low: int, right: int | None, wrong: int | None) -> int:
    """The largest s_b (v - c) of an image, v its confidence, b its bin and c whether it is right."""
    gains = [] if plus is None else [min(wrong, (plus + 1) * STEP)]
    gains += [] if minus is None else [ONE - max(low, minus * STEP)]
    if gains:
        return max(gains)
    return max(-low if wrong is not None else -ONE, right - ONE if right is not None else -ONE)

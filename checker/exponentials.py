"""Whole numbers below and above exponentials and roots. The lemma is in docs/checker.md."""

import math
from fractions import Fraction
from functools import lru_cache

LARGEST = 1024  # exponent; e^1024 is above all float64 numbers
GUARD = 32  # bits that rounding may cost


@lru_cache(maxsize=4096)
def exponential(t: int, bits: int) -> tuple[int, int | None]:
    """Lemma 9: low and high with low <= 2^bits e^(t / 2^bits) <= high.

    Beyond LARGEST the exponential counts as that of LARGEST, where this is a bound; above it, high is None.
    """
    largest = LARGEST << bits
    if abs(t) > largest:
        return (exponential(largest, bits)[0], None) if t > 0 else (0, exponential(-largest, bits)[1])
    halvings = 12 + (abs(t) >> bits).bit_length()
    fine = bits + halvings + GUARD
    x = abs(t) << GUARD  # over 2^fine: |t| / 2^halvings, at most 2^-12
    low = high = n = 0
    below = above = 1 << fine
    while below:  # the terms x^n / n!
        low, high, n = low + below, high + above, n + 1
        below, above = below * x // n >> fine, -(-above * x // n >> fine)
    high += 2 * above
    for _ in range(halvings):
        low, high = low * low >> fine, -(-high * high >> fine)
    if t < 0:
        return (1 << fine + bits) // high, -(-(1 << fine + bits) // low)
    return low >> fine - bits, -(-high >> fine - bits)


def root_above(square: Fraction, bits: int) -> int:
    """At least 2^bits times the root of a number that is not negative."""
    return math.isqrt(math.ceil(square * 4**bits)) + 1

"""Logits of many images and classes are handled in parts, so that what is computed on the way takes little memory."""

from collections.abc import Iterator

LARGEST = 2**18  # values of a part: 2 MiB in float64, which stay in the cache


def parts(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows of a table with at most LARGEST values each, but at least one row; one slice of small tables."""
    size = max(1, LARGEST // max(1, columns))
    return (slice(first, min(first + size, rows)) for first in range(0, rows, size))

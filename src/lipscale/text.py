"""Numbers and tables as text: one style for figures, pages and Markdown."""

from collections.abc import Iterable, Sequence


def short(value: float, _position: int | None = None) -> str:
    """A number with three significant digits and no more zeros than needed: 0.01, 3, 1000. Also a tick formatter."""
    return f"{float(f'{value:.3g}'):g}"


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; floats are shortened, vertical bars escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(map(_cell, line)) + " |\n" for line in lines)


def _cell(value: object) -> str:
    return (short(value) if isinstance(value, float) else str(value)).replace("|", "\\|")

"""Progress bars that can be read on a terminal and in a log file."""

import sys
from collections.abc import Iterable

from tqdm import tqdm


class _Lines:
    """A stream that turns the carriage returns of a bar into lines, for logs and for several bars on one terminal."""

    def __init__(self, stream):
        self.stream = stream

    def write(self, text: str) -> None:
        text = text.replace("\r", "").strip("\n ")
        if text:
            self.stream.write(text + "\n")

    def flush(self) -> None:
        self.stream.flush()


def bar(
    iterable: Iterable | None = None, *, name: str, total: int | None = None, initial: int = 0, unit: str, shown: bool = True
) -> tqdm:
    """A tqdm bar on stderr: redrawn in place on a terminal, one line every five seconds elsewhere; nothing if not `shown`."""
    terminal = sys.stderr.isatty()
    return tqdm(
        iterable,
        desc=name,
        total=total,
        initial=initial,
        unit=unit,
        file=sys.stderr if terminal else _Lines(sys.stderr),
        mininterval=0.1 if terminal else 5,
        maxinterval=10,
        ncols=None if terminal else 120,
        dynamic_ncols=terminal,
        leave=True,
        disable=not shown,
    )


def describe(progress: tqdm, text: str) -> None:
    """Put `text` behind a bar; in a log it waits for the bar's next line."""
    progress.set_postfix_str(text, refresh=sys.stderr.isatty())

"""The one exception that reaches a user as a sentence instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

LONGEST = 1000  # characters of a message; more than that nobody reads


class LipscaleError(Exception):
    """Something that the user can mend; the message says what is wrong, where, and what is allowed, in one line.

    Messages quote names and values from files, which may hold line breaks and may be of any length.
    """

    def __init__(self, message: str):
        message = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in message)
        super().__init__(message if len(message) <= LONGEST else f"{message[: LONGEST // 2]} ... {message[-LONGEST // 3 :]}")


TORCH_SAYS = ("out of memory", "can't allocate memory", "std::bad_alloc")  # in RuntimeErrors, of the GPU and of the CPU


@contextmanager
def enough_memory(what: str, advice: str) -> Iterator[None]:
    """Raise LipscaleError where memory runs out in the block, on the CPU or the GPU.

    Args:
        what: needs the memory.
        advice: what needs less.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's errors are RuntimeErrors, known by their words
        said = " ".join(str(error).split())
        if not isinstance(error, MemoryError) and not any(words in said for words in TORCH_SAYS):
            raise
        details = ". ".join(said.split(". ")[:2])  # the rest of torch's message lists its reservations
        raise LipscaleError(f"{what}: memory ran out ({details or 'nothing more is known'}); {advice}") from None

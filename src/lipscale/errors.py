"""The one exception that reaches a user as a sentence instead of a traceback."""

LONGEST = 1000  # characters of a message; more than that nobody reads


class LipscaleError(Exception):
    """Something that the user can mend; the message says what is wrong, where, and what is allowed, in one line.

    Messages quote names and values from files, which may hold line breaks and may be of any length.
    """

    def __init__(self, message: str):
        message = "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in message)
        super().__init__(message if len(message) <= LONGEST else f"{message[: LONGEST // 2]} ... {message[-LONGEST // 3 :]}")

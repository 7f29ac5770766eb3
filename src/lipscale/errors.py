"""The one exception that reaches a user as a sentence instead of a traceback."""


class LipscaleError(Exception):
    """Something that the user can mend; the message says what is wrong, where, and what is allowed."""

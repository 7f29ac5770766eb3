"""The columns that every table begins with: which run a row is of, and what the name of its setting says."""

import re

KEY = ("run", "setting", "method", "variant", "initial_lipschitz", "offset", "seed")
SETTING = tuple(name for name in KEY if name not in ("run", "seed"))


def in_logits(setting: str) -> bool:
    """Whether the offset of a setting is in logits, as its name says; else it is in 1/255 of the pixel range."""
    return re.search(r"-xi[0-9.e+-]+logit(-|$)", setting) is not None

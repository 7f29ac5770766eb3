"""The columns that every table begins with: which run a row is of."""

KEY = ("run", "setting", "method", "variant", "initial_lipschitz", "offset", "seed")
SETTING = tuple(name for name in KEY if name not in ("run", "seed"))

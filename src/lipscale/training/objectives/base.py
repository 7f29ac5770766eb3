"""What training objectives share.

An objective is a module of this package with `Settings`, derived from `ObjectiveSettings`, and `loss`; see `cross_entropy`.
"""

from lipscale.settings import Settings


class ObjectiveSettings(Settings):
    """The settings of an objective; `name` is that of its module."""

    name: str

    @property
    def tag(self) -> str:
        """What the names of runs call it: letters, digits and underscores."""
        return self.name

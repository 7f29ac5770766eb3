"""Configs: checked before any work starts, defaults filled in, expanded into runs. Needs neither torch nor numpy."""

from lipscale.config.legacy import *  # noqa: F403 (until the models replace it)

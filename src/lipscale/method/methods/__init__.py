"""The methods that are compared, one file each: METHODS maps their names to `Method`s."""

from lipscale import discovery
from lipscale.method.methods.base import Method


def _found() -> dict[str, Method]:
    found = [discovery.load(__name__, name).METHOD for name in discovery.names(__name__)]
    return {method.name: method for method in sorted(found, key=lambda method: (method.order, method.name))}


METHODS: dict[str, Method] = _found()

"""Fast calls of autograd functions."""

import inspect
from collections.abc import Callable


def with_signature(forward: Callable) -> Callable:
    """The `forward` of a torch.autograd.Function, with its signature as an attribute.

    `apply` works the signature out at each call where the function has a `setup_context`, which torch.func needs. That takes
    longer than a small layer does; the attribute is read instead.
    """
    forward.__signature__ = inspect.signature(forward)
    return forward

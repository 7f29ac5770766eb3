"""Export of a trained network to plain layers, which can be certified and saved."""

from collections.abc import Sequence
from numbers import Integral

from torch import nn

from lipscale.certification.additions import check_additions
from lipscale.certification.binding import Binding
from lipscale.certification.comparison import check_frozen
from lipscale.certification.freezing import freeze
from lipscale.certification.own import from_modules
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.errors import LipscaleError
from lipscale.networks.network import LipschitzNetwork


def export(
    network: nn.Module, image_shape: Sequence[int], lipschitz: float | None = None, classes: Sequence[str] | None = None
) -> PlainNetwork:
    """A copy of a network as plain layers with fixed weights, on the CPU, in float32.

    A LipschitzNetwork is frozen: layers whose norm exceeds 1 by rounding are brought back to it. Any other network is copied as
    it is: the function stays the same.

    Args:
        network: a LipschitzNetwork, or an nn.Sequential of your own, see `lipscale.certification.own`.
        image_shape: (channels, height, width) of its images, pixels in [0, 1].
        lipschitz: the L that your own network enforces, if it does; radii rest on this or on the certified constant, whichever
            is larger.
        classes: their names, in the order of the logits, for the model file; optional.

    Raises:
        LipscaleError: a layer has no proof, or the copy computes something else than the network.
    """
    if not isinstance(image_shape, Sequence) or not all(isinstance(size, Integral) for size in image_shape):
        raise LipscaleError(f"export: image_shape is {image_shape!r}; allowed: (channels, height, width)")
    if not isinstance(network, LipschitzNetwork):
        return bound(from_modules(network, image_shape, lipschitz), classes)
    if lipschitz is not None:
        raise LipscaleError(f"export: lipschitz is {lipschitz}, but a LipschitzNetwork has its own L; allowed: none")
    check_additions(network)
    plain = freeze(network, image_shape)
    check_frozen(network, plain)
    return bound(plain, classes)


def bound(network: PlainNetwork, classes: Sequence[str] | None, preparation: str | None = None) -> PlainNetwork:
    """The same network, which now says what its images are, see `lipscale.certification.binding`."""
    network.binding = Binding.of(classes, network.class_count, preparation)
    return network

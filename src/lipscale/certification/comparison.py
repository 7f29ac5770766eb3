"""Whether a copy of a network computes what the network does.

Reading the layers one by one cannot see everything: a container may do more than call its layers. So both are run on images.
"""

import copy
import math
from collections.abc import Iterator, Sequence

import torch
from torch import nn
from torch.nn.utils import parametrize

from lipscale.certification.bounds import bounds
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.errors import LipscaleError
from lipscale.networks.network import LipschitzNetwork, layer_family

TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-5}  # times the largest logit; weights are rounded to float32 in both


def unwrapped(network: nn.Module) -> nn.Module:
    """A copy on the CPU, in evaluation mode, with the present weights in place of their parametrizations.

    Each weight is read once: some parametrizations (power iteration in orthogonium) change a little with each reading.
    """
    fixed = _copied(network)
    for module in list(fixed.modules()):
        if parametrize.is_parametrized(module):
            _unwrap(module)
    return fixed


def _unwrap(module: nn.Module) -> None:
    """Not by `parametrize.remove_parametrizations`: that changes the class, which copies of a module share."""
    values = {name: getattr(module, name).detach().clone() for name in module.parametrizations}
    module.__class__ = type(module).__bases__[0]  # torch derives the class of a parametrized module from its own
    del module.parametrizations
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value, requires_grad=False))


def check_frozen(network: LipschitzNetwork, plain: PlainNetwork) -> None:
    """Compare a LipschitzNetwork with its frozen copy on random images, first with the weights it has before freezing.

    Freezing divides a weight by its norm where that is not 1. The difference that this makes could hide another one, so the
    weights are put back for the first comparison. The second one is of the copy as it is. Factors 1 + r_k of the weights move
    the output of each layer by at most 4 r_k of its bound (that of an SLL block enters twice), so logits by at most prod(1 +
    4 r_k) - 1 times `slope` ||x|| + `offset` of `lipscale.certification.bounds`; to that comes the rounding of float32.

    Raises:
        LipscaleError: logits differ by more.
    """
    family = layer_family(network.family)
    total, longest, moved = bounds(plain, plain.image_shape), math.sqrt(math.prod(plain.image_shape)), 1.0
    try:
        with torch.no_grad(), parametrize.cached():  # a weight has one value during the comparison
            original, unscaled = _copied(network), copy.deepcopy(plain)
            kept = [layer.weight for layer in plain if hasattr(layer, "weight")]
            put_back = [layer.weight for layer in unscaled if hasattr(layer, "weight")]
            for layer, weight, before in zip(original.layers, kept, put_back, strict=True):
                before.copy_(family.plain(layer).weight)
                factor = weight.norm() / layer.weight.norm() if weight.any() else torch.ones(())
                moved *= 1 + 4 * (factor - 1).abs().item()
            _compare(original, unscaled, torch.float32)
            _compare(original, plain, torch.float32, (moved - 1) * (total.slope * longest + total.offset))
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise LipscaleError(f"export: the network fails on images of shape {plain.image_shape} ({reason})") from None


def check_same_function(network: nn.Module, fixed: nn.Module, plain: PlainNetwork) -> None:
    """Compare a network with its plain copy on random images.

    Args:
        network: as it was given.
        fixed: `unwrapped(network)`; it is converted to float64.

    Raises:
        LipscaleError: logits differ by more than rounding.
    """
    kinds = {tensor.dtype for tensor in fixed.parameters()} or {torch.float32}
    dtype = torch.float64 if torch.float64 in kinds else torch.float32
    try:
        with torch.no_grad(), parametrize.cached():  # a weight has one value during the comparison
            _compare(_copied(network), plain, dtype)
    except (RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise LipscaleError(f"export: the network fails on images of shape {plain.image_shape} ({reason})") from None
    try:
        fixed = fixed.double()
        fixed(next(_images(plain.image_shape, torch.float64)))
    except (RuntimeError, TypeError):  # a module that works in float32 only
        return
    with torch.no_grad():
        _compare(fixed, plain, torch.float64)


def _compare(network: nn.Module, plain: PlainNetwork, dtype: torch.dtype, allowance: float = 0.0) -> None:
    plain = copy.deepcopy(plain).to(dtype)
    for images in _images(plain.image_shape, dtype):
        found, expected = plain(images), network(images.clone())  # which may change its input in place
        if found.shape != expected.shape:
            raise LipscaleError(
                f"export: logits have shape {list(expected.shape[1:])}, but those of its layers {list(found.shape[1:])}"
            )
        difference, largest = (found - expected).abs().max().item(), expected.abs().max().item()
        if not difference <= TOLERANCES[dtype] * largest + allowance:
            raise LipscaleError(
                f"export: on random images the layers' logits differ from the network's by up to {difference:.2g}, where those "
                f"reach {largest:.2g}; the network does something besides calling its layers in order"
            )


def _copied(network: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(network).cpu().eval()
    except Exception as error:  # whatever a module's own code raises
        raise LipscaleError(f"export: the network cannot be copied ({' '.join(str(error).split())})") from None


def _images(image_shape: Sequence[int], dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """Batches of noise, of black and white noise, and of grey images, in [0, 1]; the same ones each time."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(8, *image_shape, generator=generator, dtype=dtype)
    yield noise
    yield noise.round()
    yield torch.linspace(0, 1, 8, dtype=dtype).reshape(-1, 1, 1, 1).expand_as(noise).clone()

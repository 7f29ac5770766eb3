"""The output shape of each kind of layer, by formula.

Nothing is computed, so that the sizes in a broken model file cost no memory. Shapes are without the batch. Each function raises
ValueError where the input does not fit. The proofs in `bounds` rely on that: they are for inputs that fit. Where torch would
broadcast an input, or apply a dense layer to the last of several dimensions, it does not fit.
"""

import math

from torch import nn

Shape = tuple[int, ...]


def unchanged(layer: nn.Module, shape: Shape) -> Shape:
    return shape


def paired(layer: nn.Module, shape: Shape) -> Shape:
    """Of layers that sort pairs of channels."""
    if shape[0] % 2:
        raise ValueError(f"{shape[0]} channels; allowed: an even number")
    return shape


def centred(layer: nn.Module, shape: Shape) -> Shape:
    _check_channels(shape, layer.channels)
    return shape


def flattened(layer: nn.Flatten, shape: Shape) -> Shape:
    return (math.prod(shape),)


def dense(layer: nn.Linear, shape: Shape) -> Shape:
    if shape != (layer.in_features,):
        raise ValueError(f"allowed: a flattened one of {layer.in_features} numbers")
    return (layer.out_features,)


def square(layer: nn.Module, shape: Shape) -> Shape:
    _check_whole(1, layer.features)
    if shape != (layer.features,):
        raise ValueError(f"allowed: a flattened one of {layer.features} numbers")
    return shape


def conv_block(layer: nn.Module, shape: Shape) -> Shape:
    """Of a circular convolution that keeps the shape, with half of its odd kernel as padding."""
    _check_channels(shape, layer.channels)
    _check_whole(1, layer.channels, layer.kernel_size)
    if layer.kernel_size % 2 == 0 or layer.kernel_size > min(shape[1:]):
        raise ValueError(f"a circular kernel of {layer.kernel_size}; allowed: an odd number, at most the sides of the input")
    return shape


def conv(layer: nn.Conv2d, shape: Shape) -> Shape:
    _check_channels(shape, layer.in_channels)
    _check_whole(1, *layer.kernel_size, *layer.stride, *layer.dilation)
    _check_whole(0, *layer.padding)
    largest = {"circular": 0, "reflect": 1}.get(layer.padding_mode)
    if largest is not None and any(pad > side - largest for pad, side in zip(layer.padding, shape[1:], strict=True)):
        raise ValueError(f"padding {layer.padding} is too large for {layer.padding_mode} padding")
    sides = zip(shape[1:], layer.kernel_size, layer.stride, layer.padding, layer.dilation, strict=True)
    windows = tuple(
        (side + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for side, kernel, stride, pad, dilation in sides
    )
    return _not_empty((layer.out_channels, *windows))


def pooled(layer: nn.AvgPool2d | nn.MaxPool2d, shape: Shape) -> Shape:
    """Of windows as `plain_layers.kind_of` allows them: square, disjoint, without padding."""
    _check_channels(shape)
    _check_whole(1, layer.kernel_size)
    return _not_empty((shape[0], *(side // layer.kernel_size for side in shape[1:])))


def _check_channels(shape: Shape, channels: int | None = None) -> None:
    if len(shape) != 3 or channels not in (None, shape[0]):
        raise ValueError(f"allowed: {'' if channels is None else f'{channels} '}channels, height and width")


def _check_whole(smallest: int, *sizes: object) -> None:
    if not all(isinstance(size, int) and size >= smallest for size in sizes):
        raise ValueError(f"sizes {list(sizes)}; allowed: whole numbers, {smallest} or more")


def _not_empty(shape: Shape) -> Shape:
    if min(shape) < 1:
        raise ValueError("the kernel is larger than the input")
    return shape

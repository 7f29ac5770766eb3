"""MaxMin: the larger of each pair of channels, then the smaller; channel i is paired with channel i + channels / 2.

    y_i = max(x_i, x_{i + c/2}),    y_{i + c/2} = min(x_i, x_{i + c/2})        (Anil, Lucas and Grosse, ICML 2019)

The outputs are those of orthogonium's MaxMin, bit for bit. Its backward pass through split, max, min and cat takes several
passes over memory. Here it is one swap of the pairs whose order was changed, for which a mask x_i > x_{i + c/2} is kept. The
gradients are equal too, except where both of a pair are equal: the whole gradient of the maximum then goes to channel i + c/2
and that of the minimum to channel i, where torch gives each half of both. Either is the gradient of a sorting of that pair.
"""

import torch
from torch import nn

from lipscale.networks.signatures import with_signature


class MaxMin(nn.Module):
    """Pairs of channels, sorted: (B, C, ...) to (B, C, ...), C even. Raises ValueError for another C."""

    axis = 1  # as the attribute of orthogonium's

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if hidden.shape[1] % 2:
            raise ValueError(f"MaxMin of {hidden.shape[1]} channels; allowed: an even number")
        if torch.compiler.is_compiling():  # the compiler fuses these by itself
            first, second = hidden.chunk(2, 1)
            return torch.cat([torch.maximum(first, second), torch.minimum(first, second)], 1)
        return _Sort.apply(hidden)


class _Sort(torch.autograd.Function):
    @staticmethod
    @with_signature
    def forward(hidden: torch.Tensor) -> torch.Tensor:
        first, second = hidden.chunk(2, 1)
        output = torch.empty_like(hidden)
        larger, smaller = output.chunk(2, 1)
        torch.maximum(first, second, out=larger)
        torch.minimum(first, second, out=smaller)
        return output

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: torch.Tensor) -> None:
        if ctx.needs_input_grad[0]:
            first, second = inputs[0].chunk(2, 1)
            ctx.save_for_backward(first > second)

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return _Swap.apply(gradient, *ctx.saved_tensors)

    @staticmethod
    def vmap(info, in_dims: tuple, hidden: torch.Tensor) -> tuple[torch.Tensor, int]:
        return _Sort.apply(_merged(hidden, in_dims[0], info.batch_size)).unflatten(0, (info.batch_size, -1)), 0


class _Swap(torch.autograd.Function):
    """(x_i, x_{i + c/2}) where the mask is true, (x_{i + c/2}, x_i) elsewhere. Linear, and its own transpose.

    lerp with weights 0 and 1 is exact for finite numbers, and on a CPU many times faster than where.
    """

    @staticmethod
    @with_signature
    def forward(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        first, second = values.chunk(2, 1)
        output, weight = torch.empty_like(values), mask.to(values.dtype)
        kept, other = output.chunk(2, 1)
        torch.lerp(second, first, weight, out=kept)
        torch.lerp(first, second, weight, out=other)
        return output

    @staticmethod
    def setup_context(ctx, inputs: tuple, output: torch.Tensor) -> None:
        ctx.save_for_backward(inputs[1])

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return _Swap.apply(gradient, *ctx.saved_tensors), None

    @staticmethod
    def vmap(info, in_dims: tuple, values: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, int]:
        merged = (_merged(tensor, dim, info.batch_size) for tensor, dim in zip((values, mask), in_dims, strict=True))
        return _Swap.apply(*merged).unflatten(0, (info.batch_size, -1)), 0


def _merged(tensor: torch.Tensor, dim: int | None, size: int) -> torch.Tensor:
    """The dimension that vmap runs over, merged with the batch."""
    moved = tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
    return moved.flatten(0, 1)

"""1-Lipschitz networks with a learnable Lipschitz budget.

f = phi_n o MaxMin o phi_{n-1} o ... o MaxMin o phi_1 (x - mean), phi_k = sigma_k (W_k . + b_k) with W_k of norm 1, from a
family of layers (`lipscale.networks.families`, orthogonal ones by default). Images are centred with the mean of the training
split, inside the network, and not divided by a standard deviation: distances stay in pixel units.

Why these layers. In "1-Lipschitz Layers Compared" (Prach, Brau, Buttazzo and Lampert, CVPR 2024; tables in its repository,
berndprach/1LipschitzLayersCompared) the best networks of a layer certify at 36/255: SOC 66.3 %, CPL 65.2 %, LOT 64.6 %, BCOP
61.5 %, AOL 61.5 %. CPL is fastest, but its constant comes from power iteration, which is no upper bound. AdaptiveOrthoConv2d
of orthogonium (Boissin et al., arXiv 2501.07930) is BCOP's construction with strides, made fast; it is exported to a plain
convolution whose norm is close to 1 and can be bounded tightly. LiST needs that: where layers shrink their input, the network
stays below its L.

Why this shape. Stages of 3x3 convolutions, halved in between, channels doubled, MaxMin: that of the same paper. Then dense
layers made orthogonal by Cholesky factors: those of LiResNet (Hu et al., NeurIPS 2023; hukkai/liresnet). Down-sampling is a
strided orthogonal convolution, as pooling loses norm. `lipscale.config` names three sizes for images of 32 pixels:

    small   0.2 M parameters, 2.5 M multiply-adds, 7 layers; two CPU cores train it in minutes. Patches of 4x4 pixels come
            first, since convolutions at full resolution would take most of the time
    medium  3.6 M parameters, 167 M multiply-adds, 11 layers; for a GPU
    large   22 M parameters, 1.6 G multiply-adds, 18 layers; for a GPU and patience
"""

import itertools
import math
from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from torch import nn

from lipscale import discovery
from lipscale.errors import LipscaleError
from lipscale.method.budget import LipschitzBudget, Unlimited
from lipscale.networks.circular import convolved
from lipscale.networks.maxmin import MaxMin

FAMILIES = "lipscale.networks.families"


class LipschitzNetwork(nn.Module):
    """Scaled 1-Lipschitz layers behind one another; logits have the l2 Lipschitz constant `lipschitz`.

    While training, that is true as far as the layers are 1-Lipschitz, up to some 1e-5; exporting makes it a guarantee.

    Args:
        layers: g_1 ... g_n, each 1-Lipschitz unless the budget is Unlimited; dense layers follow convolutions.
        mean: what images are centred with, one value per channel, pixels in [0, 1].
        budget: shares L among the layers.
        family: name of the layer family (a module of `lipscale.networks.families`) that the layers are of.
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        mean: Sequence[float],
        budget: LipschitzBudget | Unlimited,
        family: str = "orthogonal",
    ):
        super().__init__()
        self.family = family
        self.layers = nn.ModuleList(layers)
        self.activation = MaxMin()
        self.budget = budget
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1))

    @property
    def lipschitz(self) -> float:
        """L; setting it rescales all layers. Infinite where there is no constraint."""
        return self.budget.lipschitz

    @lipschitz.setter
    def lipschitz(self, value: float) -> None:
        self.budget.lipschitz = value

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, classes) of images (B, C, H, W) in [0, 1]."""
        hidden = images - self.mean
        scales = self.budget.scales().to(hidden)
        for index, (layer, scale) in enumerate(zip(self.layers, scales, strict=True)):
            if index:
                hidden = self.activation(hidden)
            if isinstance(layer, nn.Linear):
                hidden = hidden.flatten(1)
            hidden = convolved(layer, hidden, scale) if isinstance(layer, nn.Conv2d) else scale * layer(hidden)
        return hidden


def dense_layers(
    features: int, widths: Sequence[int], classes: int, bias: bool, dense: Callable[..., nn.Module]
) -> list[nn.Module]:
    """Dense layers, made by `dense`, from `features` through `widths` to `classes`."""
    return [dense(before, after, bias=bias) for before, after in itertools.pairwise([features, *widths, classes])]


def conv_layers(
    channels: Sequence[int], depth: int, patch: int, in_channels: int, bias: bool, conv: Callable[..., nn.Module]
) -> list[nn.Module]:
    """Circular convolutions, made by `conv`: one of non-overlapping patches where `patch` is above 1; then for each entry of
    `channels` as many 3x3 ones as `depth` says and a 2x2 one with stride 2."""
    first = [(channels[0], patch, patch, 0)] if patch > 1 else []
    stages = [[(width, 3, 1, 1)] * depth + [(width, 2, 2, 0)] for width in channels]
    layers = []
    for out_channels, kernel_size, stride, padding in itertools.chain(first, *stages):
        layers.append(
            conv(in_channels, out_channels, kernel_size, stride=stride, padding=padding, bias=bias, padding_mode="circular")
        )
        in_channels = out_channels
    return layers


def build_network(
    settings, image_shape: Sequence[int], classes: int, mean: Sequence[float], lipschitz: float
) -> LipschitzNetwork:
    """The network that the section `network` of a config describes, with random weights.

    Args:
        settings: the checked section: `architecture` (mlp or convnet), `widths`, `bias`, `allocation`, `family`, and for a
            convnet `channels`, `depth` and `patch`, as attributes: `Mlp` or `Convnet` of `lipscale.config.networks`.
        image_shape: (channels, height, width).
        classes: number of logits.
        mean: of the training split, one value per channel, pixels in [0, 1].
        lipschitz: the first L; infinity for the same layers without any constraint.

    Raises:
        LipscaleError: there is no such family, or it cannot be constrained to a finite L.
    """
    free = math.isinf(lipschitz)
    name = "unconstrained" if free else settings.family
    family = layer_family(name)
    if not (free or family.CONSTRAINED):
        raise LipscaleError(f"network.family is {name}, without a constraint; allowed: a family of 1-Lipschitz layers")
    channels, height, width = image_shape
    layers = []
    if settings.architecture == "convnet":
        layers = conv_layers(settings.channels, settings.depth, settings.patch, channels, settings.bias, family.conv)
        shrink = settings.patch * 2 ** len(settings.channels)
        channels, height, width = settings.channels[-1], height // shrink, width // shrink
    layers += dense_layers(channels * height * width, settings.widths, classes, settings.bias, family.dense)
    count = len(layers)
    budget = Unlimited(count) if free else LipschitzBudget(count, lipschitz, settings.allocation)
    return LipschitzNetwork(layers, mean, budget, name)


def layer_family(name: str) -> ModuleType:
    """The module of a layer family. Raises LipscaleError where there is none."""
    return discovery.load(FAMILIES, name)

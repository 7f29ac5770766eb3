"""The section `network` of a config: architectures, and sizes by name."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lipscale import discovery
from lipscale.settings import AsInteger, Count, Settings, TruthValue

SIZES = {  # of convnets, by name; `lipscale.networks.network` gives the reasons
    "small": {"patch": 4, "channels": [48, 96], "depth": 1, "widths": [256]},
    "medium": {"patch": 1, "channels": [64, 128, 256], "depth": 2, "widths": [512]},
    "large": {"patch": 1, "channels": [128, 256, 512], "depth": 4, "widths": [1024, 1024]},
}
DEFAULT_SIZE = "medium"


def _families() -> list[str]:
    """Layer families that can be constrained; read without importing them, since they need torch."""
    package = "lipscale.networks.families"
    return [name for name in discovery.names(package) if discovery.constants(discovery.path(package, name)).get("CONSTRAINED")]


def _from_size(key: str) -> object:
    return lambda given: SIZES[given["size"] or DEFAULT_SIZE][key]


Width = Annotated[int, Field(ge=2, le=65536, multiple_of=2), AsInteger]
Widths = Annotated[list[Width], Field(strict=True, max_length=100)]


class Network(Settings):
    """Keys that all architectures share."""

    architecture: str
    family: Literal[tuple(_families())] = Field(
        "orthogonal", description="family of 1-Lipschitz layers; the method without constraint uses plain layers instead"
    )
    bias: TruthValue = Field(
        True, description="biases in every layer; without them the exponents have no gradient (the duality is then exact)"
    )
    allocation: Literal["softmax", "unconfined"] = Field(
        "softmax",
        description="how L is shared among layers; softmax keeps every exponent in (0, 1), the poster's formula; "
        "unconfined lets some layers expand while others contract",
    )


class Mlp(Network):
    """Dense layers."""

    architecture: Literal["mlp"] = Field(description="dense layers")
    widths: Widths = Field([], description="widths of the hidden layers; even, as MaxMin sorts pairs")


class Convnet(Network):
    """Stages of 3x3 convolutions and a strided 2x2 one, then dense layers."""

    architecture: Literal["convnet"] = Field(description="stages of 3x3 convolutions and a strided 2x2 one, then dense layers")
    size: Literal[tuple(SIZES)] | None = Field(
        None,
        exclude=True,  # a checked config has the values that it stands for; None then
        description=f"sets patch, channels, depth and widths where they are not given; default {DEFAULT_SIZE}",
    )
    patch: Count = Field(
        default_factory=_from_size("patch"),
        description="side of the non-overlapping patches that the first convolution reads, pixels; 1: none; default: see size",
    )
    channels: Annotated[Widths, Field(min_length=1)] = Field(
        default_factory=_from_size("channels"),
        description="channels of each stage; even, as MaxMin sorts pairs; default: see size",
    )
    depth: Annotated[int, Field(ge=1, le=100), AsInteger] = Field(
        default_factory=_from_size("depth"), description="3x3 convolutions of each stage; default: see size"
    )
    widths: Widths = Field(
        default_factory=_from_size("widths"),
        description="widths of the hidden dense layers; even, as MaxMin sorts pairs; default: see size",
    )

    @model_validator(mode="after")
    def _without_size(self) -> "Convnet":
        """Networks with the same layers are equal, whether they were given by size or by layers."""
        object.__setattr__(self, "size", None)
        return self


NetworkSettings = Annotated[Mlp | Convnet, Field(discriminator="architecture")]

"""CIFAR-10: 60,000 colour images of 32x32 pixels in 10 classes."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lipscale.data.sources import _cifar

if TYPE_CHECKING:
    from lipscale.data.source import Source


class Settings(_cifar.Settings):
    """Section `dataset`: CIFAR-10, downloaded by torchvision."""

    name: Literal["cifar10"] = Field(description="CIFAR-10, downloaded by torchvision (170 MB)")


def load(settings: Settings) -> "Source":
    """50,000 training images and 10,000 test images."""
    return _cifar.load(settings, "CIFAR10", "CIFAR-10")

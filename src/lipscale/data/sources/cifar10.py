"""CIFAR-10 by torchvision, which downloads it."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lipscale.data.sources import _cifar
from lipscale.settings import PathText, SourceSettings

if TYPE_CHECKING:
    from lipscale.data.source import Source


class Settings(SourceSettings):
    """CIFAR-10 by torchvision, which downloads it once: 32x32 pixels, colour, 10 classes."""

    name: Literal["cifar10"] = Field(description="CIFAR-10, downloaded by torchvision")
    path: PathText | None = Field(None, description="folder that holds the download; null: the folder data")

    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        return (3, 32, 32)


def load(settings: Settings) -> "Source":
    """50,000 training images and 10,000 test images."""
    return _cifar.load(settings, "CIFAR10", "CIFAR-10")

"""CIFAR-100 by torchvision, which downloads it."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lipscale.data.sources import _cifar
from lipscale.settings import PathText, SourceSettings

if TYPE_CHECKING:
    from lipscale.data.source import Source


class Settings(SourceSettings):
    """CIFAR-100 by torchvision, which downloads it once: 32x32 pixels, colour, 100 classes."""

    name: Literal["cifar100"] = Field(description="CIFAR-100, downloaded by torchvision")
    path: PathText | None = Field(None, description="folder that holds the download; null: the folder data")

    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        return (3, 32, 32)


def load(settings: Settings) -> "Source":
    """50,000 training images and 10,000 test images."""
    return _cifar.load(settings, "CIFAR100", "CIFAR-100")

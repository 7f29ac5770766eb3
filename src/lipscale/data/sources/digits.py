"""The 1,797 handwritten digits of 8x8 pixels that scikit-learn brings along."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from lipscale.settings import Count, NonNegative
from lipscale.settings import Settings as Section

if TYPE_CHECKING:
    from lipscale.data.source import Source


class Settings(Section):
    """Section `dataset`: the handwritten digits of scikit-learn."""

    name: Literal["digits"] = Field(description="handwritten digits, 8 x 8 pixels, part of scikit-learn")
    validation_images: Count = Field(description="images taken from the training split to measure temperatures on")
    test_images: Count = Field(description="images set aside for the test split, as digits comes without one")
    split_seed: NonNegative = Field(0, description="seed of the choice of validation and test images")

    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return 1, 8, 8


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

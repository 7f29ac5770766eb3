"""The 1,797 handwritten digits embedded in scikit-learn, 8x8 pixels, grey."""

from typing import Literal

from pydantic import Field, field_validator

from lipscale.settings import Count, SourceSettings


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

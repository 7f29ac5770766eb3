"""Your own images: a folder or an archive of train/<class>/<image> and test/<class>/<image>."""

from typing import Annotated, Literal

from pydantic import Field

from lipscale.settings import AsInteger, PathText, Positive, SourceSettings


class Settings(SourceSettings):
    """Your own images, a folder or an archive of them."""

    name: Literal["imagefolder"] = Field(description="your own images")
    path: PathText = Field(
        description="folder or .tar, .tar.gz, .tar.xz or .zip archive of train/<class>/<image> and test/<class>/<image>"
    )
    image_size: Annotated[int, Field(ge=1, le=1024), AsInteger] = Field(
        32, description="side of the square that images are brought to, pixels"
    )
    channels: Annotated[Literal[1, 3], AsInteger] = Field(3, description="1: grey, 3: colour")
    largest_unpacked_gib: Positive = Field(4, description="images or an archive that unpack to more are refused, GiB")

    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the prepared images."""
        return (self.channels, self.image_size, self.image_size)

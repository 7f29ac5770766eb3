"""What all sections of a config share: strict keys, and types with their bounds. Needs neither torch nor numpy.

A validator of a settings model raises `ValueError("allowed: ...")`; the message to the user adds the key and its value.
"""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

LARGEST_NUMBER = 1e18


class Settings(BaseModel):
    """A section of a config: unknown keys are refused, values do not change after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def read_number(value: object) -> object:
    """Text that holds a number, as a number: Snakemake's --config passes text, and YAML takes 1e-3 for text."""
    for kind in (int, float) if isinstance(value, str) else ():
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def number(value: object) -> object:
    """A finite number of ordinary size. Raises ValueError for anything else, truth values too."""
    value = read_number(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("allowed: a number")
    if not abs(value) <= LARGEST_NUMBER:  # NaN, infinity, and integers that no float can hold
        raise ValueError(f"allowed: a finite number, at most {LARGEST_NUMBER:g} in size")
    return value


def _integer(value: object) -> object:
    value = read_number(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("allowed: an integer")
    return number(value)


def _truth_value(value: object) -> object:
    value = {"true": True, "false": False}.get(value, value) if isinstance(value, str) else value
    if not isinstance(value, bool):
        raise ValueError("allowed: true or false")
    return value


def _each_once(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError("allowed: each value once")
    return values


def _path(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("allowed: a path that is not empty, without NUL")
    return text


AsNumber = BeforeValidator(number)  # the last metadata of a type: Annotated[float, Field(...), AsNumber]
AsInteger = BeforeValidator(_integer)
_Several = (
    Field(strict=True, min_length=1, max_length=1000, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_each_once),
)

Count = Annotated[int, Field(ge=1), AsInteger]
NonNegative = Annotated[int, Field(ge=0), AsInteger]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1), AsInteger]
Positive = Annotated[float, Field(gt=0), AsNumber]
PositiveOrNone = Annotated[Positive | None, BeforeValidator(lambda value: None if value == "null" else value)]
NonNegativeNumber = Annotated[float, Field(ge=0), AsNumber]
TruthValue = Annotated[bool, BeforeValidator(_truth_value)]
PathText = Annotated[str, AfterValidator(_path)]
CountList = Annotated[list[Count], *_Several]
SeedList = Annotated[list[Seed], *_Several]
PositiveList = Annotated[list[Positive], *_Several]
Offsets = Annotated[list[NonNegativeNumber], *_Several]


class SourceSettings(Settings):
    """Base of the `Settings` of a data set, in a module of `lipscale.data.sources`: the keys that every data set has.

    Attributes:
        image_files: whether `path` names image files, which the workflow watches, and which several processes decode.
    """

    image_files: ClassVar[bool] = False

    name: str
    path: PathText | None = None
    validation_images: Count = Field(
        description="images taken from the training split, each class in its proportion; temperatures are fitted on them"
    )
    split_seed: NonNegative = Field(0, description="seed of the split into training, validation and test images")

    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the prepared images."""
        raise NotImplementedError

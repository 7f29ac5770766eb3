"""What all sections of a config share: strict keys, and types with their bounds. Needs neither torch nor numpy."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Settings(BaseModel):
    """A section of a config: unknown keys are refused, values do not change after the check."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def _no_truth_value(value: object) -> object:
    """Pydantic would read `true` as 1."""
    if isinstance(value, bool):
        raise ValueError("allowed: a number")
    return value


def _each_once(values: list) -> list:
    if len(set(values)) < len(values):
        raise ValueError("allowed: each value once")
    return values


_Number = BeforeValidator(_no_truth_value)
Integer = Annotated[int, _Number]
Count = Annotated[int, _Number, Field(ge=1)]
NonNegative = Annotated[int, _Number, Field(ge=0)]
Seed = Annotated[int, _Number, Field(ge=0, le=2**32 - 1)]
Positive = Annotated[float, _Number, Field(gt=0, allow_inf_nan=False)]
PositiveList = Annotated[list[Positive], Field(min_length=1, max_length=1000), AfterValidator(_each_once)]

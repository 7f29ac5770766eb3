"""Choosing a rival or an offset: on the validation split, never on test images."""

from collections.abc import Sequence

from lipscale.tables.claims.evidence import Setting

MATCH = 0.01  # of validation accuracy: LiST may be a point below the rival that it is matched with


def lowest(settings: Sequence[Setting], column: str) -> Setting:
    """The setting with the lowest mean over seeds of a validation column, such as `validation_ece`."""
    return min(settings, key=lambda setting: _validated(setting, column))


def highest(settings: Sequence[Setting], column: str) -> Setting:
    """The setting with the highest mean over seeds of a validation column."""
    return max(settings, key=lambda setting: _validated(setting, column))


def matched(settings: Sequence[Setting], rival: Setting) -> Setting:
    """The setting with the largest offset that is as accurate as the rival, within a point; else the most accurate one.

    Of several settings with that offset, the most accurate one.
    """
    wanted = _validated(rival, "validation_accuracy") - MATCH
    enough = [setting for setting in settings if _validated(setting, "validation_accuracy") >= wanted]
    if not enough:
        return highest(settings, "validation_accuracy")
    largest = max(setting.offset for setting in enough)
    return highest([setting for setting in enough if setting.offset == largest], "validation_accuracy")


def _validated(setting: Setting, column: str) -> float:
    if not column.startswith("validation_"):
        raise ValueError(f"{column} is not of the validation split")
    return setting.column(column).estimate

"""Tables of the report's pages: the order of their columns, and numbers with the same digits down each column."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lipscale.tables.reader import plain_title, settings_of
from lipscale.text import short

MOST_DECIMALS = 4
PRECISION = 5e-4  # relative; a column has as few decimals as show all its values so well


@dataclass(frozen=True)
class Table:
    """A table of a page; its first column names the row."""

    caption: str
    data: pd.DataFrame

    @property
    def columns(self) -> list[str]:
        return list(self.data)

    @property
    def numeric(self) -> set[str]:
        return set(self.data.select_dtypes("number"))

    @property
    def rows(self) -> list[dict[str, tuple[object, str]]]:
        """For each row and column: the value, by which the page sorts, and the text that it shows."""
        values = self.data.astype(object).where(self.data.notna(), "").to_dict("records")
        digits = {name: decimals(name, self.data[name]) for name in self.data.select_dtypes("floating")}
        return [{name: (value, text(value, digits.get(name))) for name, value in row.items()} for row in values]


def decimals(name: str, column: pd.Series) -> int:
    """How many decimals all numbers of a column get: few for seconds, else as many as they need, at most MOST_DECIMALS."""
    most = 1 if name.endswith("seconds") else MOST_DECIMALS
    values = column[np.isfinite(column)]
    for count in range(most):
        if ((values.round(count) - values).abs() <= PRECISION * values.abs()).all():
            return count
    return most


def text(value: object, digits: int | None) -> str:
    """A value as a cell shows it: ∞ for infinity, nothing where there is none."""
    if digits is None or not isinstance(value, float):
        return str(value)
    return f"{value:.{digits}f}" if np.isfinite(value) else "∞"


def measures(epsilons: Sequence[int]) -> list[str]:
    """The columns that readers look for, in the order in which they stand before all others."""
    per_epsilon = [f"{name}_{epsilon}" for name in ("certified", "robust") for epsilon in epsilons]
    return ["lipschitz", "clean_accuracy", *per_epsilon, "ece", "ece_scaled"]


def run_table(runs: pd.DataFrame, epsilons: Sequence[int]) -> Table:
    """A row per run; what readers look for first, then all other columns but the ends of intervals."""
    first = ["run", "method", "variant", "initial_lipschitz", "offset", "seed", *measures(epsilons)]
    return Table(
        f"{len(runs)} runs",
        runs[[*first, *(name for name in runs if name not in first and not name.endswith(("_low", "_high")))]],
    )


def settings_table(runs: pd.DataFrame, epsilons: Sequence[int]) -> Table:
    """A row per setting: means over its seeds, and how many these are."""
    columns = [*measures(epsilons), "temperature", "nll", "nll_scaled", "train_seconds", "attack_seconds"]
    rows = [
        {"setting": plain_title(part, short), "seeds": len(part)} | part[columns].mean().to_dict()
        for _, part in settings_of(runs)
    ]
    return Table("Settings: mean over seeds", pd.DataFrame(rows))

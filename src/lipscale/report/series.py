"""Settings as figures show them: their names for people, means with intervals, and the front that LiST's offsets trace."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lipscale.report.names import offset_title, variant_parts
from lipscale.tables.key import in_logits
from lipscale.tables.reader import FIXED, LIST, Tables, method
from lipscale.text import short

SETTING = ["setting", "method", "variant", "initial_lipschitz", "offset"]
BEST = ("validation_nll", "nll")  # the first of these columns that there is says which of several L a figure shows


def title(row, several_starts: bool = True) -> str:
    """Name of a setting for people, such as `LiST, $\\xi = 36/255$ + calibration data`.

    Args:
        row: with the attributes of SETTING.
        several_starts: say which initial L of LiST it is.
    """
    one = method(row.method)
    objective, calibration_data = variant_parts(row.variant)
    hidden = one.feedback and not several_starts
    parts = [one.title if hidden else one.setting_title(row.initial_lipschitz, short)]
    if objective and not one.constrained:
        parts = [objective]  # the rivals are known by their objective alone
    elif objective:
        parts.append(objective)
    if row.offset or (one.feedback and not several_starts):
        parts.append(rf"$\xi$ = {offset_title(row.setting, row.offset)}")
    return " ".join([", ".join(parts), calibration_data]).strip()


def estimates(tables: Tables, measures: Sequence[str]) -> pd.DataFrame:
    """A row per setting, in the order of runs.csv: each measure's mean over seeds, and NAME_low, NAME_high, its interval.

    A measure that runs.csv does not have is missing (NaN), and so is an interval that intervals.csv does not have.
    """
    runs = tables.runs
    known = [name for name in measures if name in runs]
    extra = [name for name in (*BEST, "lipschitz") if name in runs and name not in known]
    groups = runs.groupby("setting", sort=False)
    table = groups[SETTING[1:]].first().join(groups[[*known, *extra]].mean()).join(groups.size().rename("seeds"))
    intervals = tables["intervals"].drop_duplicates(["setting", "measure"]).set_index(["setting", "measure"])
    for name in measures:
        if name not in table:
            table[name] = np.nan
        for end in ("low", "high"):
            wanted = pd.MultiIndex.from_product([table.index, [name]])
            table[f"{name}_{end}"] = intervals[end].reindex(wanted).to_numpy()
    return table.reset_index()


def reach(table: pd.DataFrame, measure: str) -> np.ndarray:
    """How far the interval of each row goes below and above its mean, (2, rows); 0 where there is none."""
    below, above = table[measure] - table[f"{measure}_low"], table[f"{measure}_high"] - table[measure]
    return np.nan_to_num(np.stack([below, above]).astype(float), nan=0.0).clip(min=0)


def usual(table: pd.DataFrame) -> pd.Series:
    """Which rows have the objective and the use of calibration data that the config has outside its variants.

    Rows without variant come first in every table.
    """
    return table["variant"] == table["variant"].iloc[0]


def plain(table: pd.DataFrame) -> pd.Series:
    """Which rows have the offset that the config has outside its variants, as a rule 0."""
    return table["offset"] == table["offset"].iloc[0]


def in_order(table: pd.DataFrame, like: pd.DataFrame) -> pd.DataFrame:
    """The rows of a table sorted by setting, in the order of another one."""
    rank = {name: index for index, name in enumerate(like["setting"].unique())}
    return table.sort_values("setting", key=lambda column: column.map(rank), kind="stable", ignore_index=True)


def front_start(table: pd.DataFrame) -> float | None:
    """The initial L from which LiST was trained with the most offsets: the front's. Of several, the middle one."""
    ours = table[(table["method"] == LIST) & usual(table)]
    if ours.empty:
        return None
    offsets = ours.groupby("initial_lipschitz")["offset"].nunique()
    most = sorted(offsets[offsets == offsets.max()].index)
    return most[(len(most) - 1) // 2]


def front(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the front: LiST along its offsets, from the initial L of `front_start`."""
    ours = (table["method"] == LIST) & usual(table)
    return table[ours & (table["initial_lipschitz"] == front_start(table))]


def unit(table: pd.DataFrame) -> str:
    """The unit of the offsets of these settings."""
    return "logits" if any(map(in_logits, table["setting"].unique())) else "1/255"


def free(table: pd.DataFrame) -> pd.Series:
    """Which rows are of networks without constraint, which certify nothing."""
    return pd.Series([not method(name).constrained for name in table["method"]], index=table.index, dtype=bool)


def kinds(table: pd.DataFrame) -> pd.Series:
    """What each row is in the figures of the front.

    front: LiST, from the front's initial L; start: LiST without offset from another one; fixed, fixed_offset: fixed L
    without and with an offset of its own; free: no constraint, any objective; other: all else.
    """
    ours, fixed = (usual(table) & (table["method"] == name) for name in (LIST, FIXED))
    start = front_start(table)
    found = pd.Series("other", index=table.index)
    found[free(table)] = "free"
    found[ours & plain(table)] = "start"
    found[ours & (table["initial_lipschitz"] == start)] = "front"
    found[fixed & plain(table)] = "fixed"
    found[fixed & ~plain(table)] = "fixed_offset"
    return found


def comparison(table: pd.DataFrame) -> pd.DataFrame:
    """One row for each method, variant and offset, LiST's first; of several L the one with the lowest validation NLL.

    Of LiST it is the front's initial L, where that was trained.
    """
    start, best = front_start(table), next(name for name in BEST if name in table)
    rank = table[best].where(~((table["method"] == LIST) & (table["initial_lipschitz"] == start)), -np.inf)
    chosen = table.assign(rank=rank, order=[method(name).order for name in table["method"]])
    chosen = chosen.sort_values("rank", kind="stable").drop_duplicates(["method", "variant", "offset"]).sort_index()
    chosen["other"] = ~usual(table)  # after the networks that were trained as usual
    return chosen.sort_values(["order", "other", "offset"], kind="stable").drop(columns=["rank", "order", "other"])

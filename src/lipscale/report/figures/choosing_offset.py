"""Choosing the offset: certified NLL against xi for each epsilon, on the validation split and on the test split."""

import re

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lipscale.report import series, style
from lipscale.tables.reader import Tables
from lipscale.text import short

TITLE = "choosing the offset"
TABLES = ("runs", "intervals")
SPLITS = {"validation": "validation_certified_nll", "test": "certified_nll"}
DASHES = {"validation": "-", "test": (0, (3, 1.5))}


def draw(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    """A line for each epsilon and split, its minimum on the validation split, and the fixed L that is lowest there."""
    numbers = points(tables)
    figure, axes = plt.subplots(figsize=(style.COLUMN_WIDTH, 3.1))
    front, fixed = (numbers[numbers["kind"] == kind] for kind in ("front", "fixed"))
    budgets = sorted(front["epsilon"].unique())
    for colour, epsilon in zip(style.colours(len(budgets)), budgets, strict=True):
        part = front[front["epsilon"] == epsilon].sort_values("offset")
        for split, dashes in DASHES.items():
            axes.plot(part["offset"], part[split], color=colour, ls=dashes, lw=1.0)
        best = part.loc[part["validation"].idxmin()]
        axes.plot(best["offset"], best["validation"], color=colour, marker="o", ms=5)
        rival = fixed[fixed["epsilon"] == epsilon]
        if len(rival):
            axes.axhline(rival.loc[rival["validation"].idxmin(), "test"], color=colour, ls=":", lw=0.8)
    axes.set(xlabel=rf"offset $\xi$ ({series.unit(numbers)})", ylabel="certified NLL (nats)")
    if len(front):
        axes.set_xticks(sorted(front["offset"].unique()))
        axes.set_yscale("log")
        style.label_logarithmic(axes.yaxis)
    figure.legend(handles=_handles(budgets, len(fixed) > 0), loc="outside upper center", ncols=2, frameon=False)
    return figure, numbers


def points(tables: Tables) -> pd.DataFrame:
    """A row per setting and epsilon, of LiST along its offsets and of fixed L: means over seeds of both splits' bounds."""
    found = (re.compile(rf"{SPLITS['validation']}_(\d+)").fullmatch(name) for name in tables.runs)
    budgets = sorted(int(one[1]) for one in found if one)
    columns = [f"{name}_{epsilon}" for name in SPLITS.values() for epsilon in budgets]
    table = series.estimates(tables, columns)
    table = table.assign(kind=series.kinds(table))
    table = table[table["kind"].isin(["front", "fixed"])]
    names = [*series.SETTING, "seeds", "kind"]
    rows = [
        table[names].assign(epsilon=epsilon, **{split: table[f"{name}_{epsilon}"] for split, name in SPLITS.items()})
        for epsilon in budgets
    ]
    whole = pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=[*names, "epsilon", *SPLITS])
    return whole[whole["validation"].notna()]


def _handles(budgets: list[int], with_fixed: bool) -> list[Line2D]:
    if not budgets:
        return [Line2D([], [], ls="", label="no LiST network whose validation split is held out")]
    handles = [
        Line2D([], [], color=colour, lw=1.0, label=rf"$\epsilon$ = {short(epsilon)}/255")
        for colour, epsilon in zip(style.colours(len(budgets)), budgets, strict=True)
    ]
    handles.append(Line2D([], [], color="0.4", marker="o", ms=5, lw=1.0, label="validation, and its lowest"))
    handles.append(Line2D([], [], color="0.4", ls=DASHES["test"], lw=1.0, label="test"))
    if with_fixed:
        handles.append(Line2D([], [], color="0.4", ls=":", lw=0.8, label="best fixed $L$, test"))
    return handles

"""Reliability under attack: how far each bin can be from the diagonal, proven, and what an attack reaches."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lipscale.report import series, style
from lipscale.tables.reader import FIXED, Tables, of
from lipscale.text import short

TITLE = "reliability under attack"
TABLES = ("runs", "intervals", "reliability_band")
MOST_ROWS = 3  # of panels: more epsilons, the largest ones, are left out
MOST_OFFSETS = 5  # of columns: more offsets, the largest ones, are left out
GAPS = ["gap", "smallest_gap", "largest_gap"]
BAND = {"facecolor": "0.85", "edgecolor": "0.65", "lw": 0.4}
CLEAN, ATTACKED = style.COLOURS[0], style.COLOURS[3]


def draw(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    """A row of panels for each epsilon: LiST along its offsets, and the fixed L with the lowest validation NLL."""
    shown, numbers = _shown(tables), over_seeds(tables["reliability_band"])
    if not shown or numbers.empty:
        figure, axes = plt.subplots(figsize=(style.COLUMN_WIDTH, 1))
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no network with a constraint", ha="center", transform=axes.transAxes)
        return figure, numbers
    numbers = numbers[numbers["setting"].isin(shown)]
    budgets = sorted(set(numbers["epsilon"]) - {0})[:MOST_ROWS]
    width = style.PAGE_WIDTH if len(shown) > 2 else style.COLUMN_WIDTH
    size = (width, 0.9 + 1.2 * len(budgets))
    figure, grid = plt.subplots(len(budgets), len(shown), figsize=size, sharex=True, sharey="row", squeeze=False)
    for epsilon, row in zip(budgets, grid, strict=True):
        for (setting, title), axes in zip(shown.items(), row, strict=True):
            bins = numbers[numbers["setting"] == setting]
            panel(axes, bins[bins["epsilon"] == 0], bins[bins["epsilon"] == epsilon])
            if epsilon == budgets[0]:
                axes.set_title(title, fontsize=7)
        row[0].set_ylabel(rf"$\epsilon$ = {short(epsilon)}/255", fontsize=7)
    figure.supxlabel("confidence of the top label (test)", fontsize=8)
    figure.supylabel("(accuracy − confidence) × share of images", fontsize=8)
    figure.legend(handles=_handles(), loc="outside upper center", ncols=3 if len(shown) > 2 else 1, frameon=False)
    return figure, numbers


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The mean gaps of each setting over its seeds, of logits as trained."""
    if table.empty:
        return pd.DataFrame()
    keys = [*series.SETTING, "epsilon", "low", "high"]
    return table[table["scaled"] == 0].groupby(keys, sort=False)[GAPS].mean().reset_index()


def panel(axes: Axes, clean: pd.DataFrame, attacked: pd.DataFrame) -> None:
    """Bins as bars: grey from the smallest to the largest gap, coloured lines at the gaps that were measured."""
    axes.use_sticky_edges = False  # else the lowest bar ends on the frame
    axes.bar(
        attacked["low"],
        attacked["largest_gap"] - attacked["smallest_gap"],
        attacked["high"] - attacked["low"],
        bottom=attacked["smallest_gap"],
        align="edge",
        zorder=1,
        **BAND,
    )
    axes.axhline(0, color="black", lw=0.6, ls="--", zorder=3)
    for bins, colour in ((attacked, ATTACKED), (clean, CLEAN)):
        axes.hlines(bins["gap"], bins["low"], bins["high"], color=colour, lw=1.5, zorder=4)
    axes.set(xlim=(0, 1), xticks=[0, 0.5, 1])


def _shown(tables: Tables) -> dict[str, str]:
    """Titles of the panels by setting."""
    table = series.estimates(tables, [])
    table = table.assign(kind=series.kinds(table))
    front = table[table["kind"] == "front"].sort_values("offset")[:MOST_OFFSETS]
    fixed = of(series.comparison(table), FIXED)
    fixed = fixed[fixed["kind"] == "fixed"]
    return {row.setting: series.title(row, several_starts=False) for row in pd.concat([front, fixed]).itertuples()}


def _handles() -> list:
    return [
        Line2D([], [], color=CLEAN, lw=1.5, label="without attack"),
        Line2D([], [], color=ATTACKED, lw=1.5, label="under attack"),
        Patch(label="proven: no attack leaves this band", **BAND),
    ]

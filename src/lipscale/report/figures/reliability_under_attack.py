"""Reliability diagrams under attack: the accuracy that each bin can have, proven, and what an attack reaches."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lipscale.evaluation.metrics import band
from lipscale.report import series, style
from lipscale.tables.reader import FIXED, Tables, of

TITLE = "reliability diagrams under attack"
TABLES = ("runs", "intervals", "reliability_band")
MOST_ROWS = 3  # of panels: more epsilons, the largest ones, are left out
MOST_OFFSETS = 5  # of columns: more offsets, the largest ones, are left out
COUNTS = ["surely_right", "possibly_right", "surely_wrong", "possibly_wrong"]
BAND_COLOUR, CLEAN, ATTACKED = "0.85", style.COLOURS[0], style.COLOURS[3]


def draw(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    """A row of panels for each epsilon: LiST along its offsets, and the fixed L with the lowest validation NLL."""
    numbers = over_seeds(tables["reliability_band"]) if len(tables["reliability_band"]) else pd.DataFrame()
    shown = _shown(tables)
    if not shown or numbers.empty:
        figure, axes = plt.subplots(figsize=(style.COLUMN_WIDTH, 1))
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no network with a constraint", ha="center", transform=axes.transAxes)
        return figure, numbers
    numbers = numbers[numbers["setting"].isin(shown)]
    budgets = sorted(set(numbers["epsilon"]) - {0})[:MOST_ROWS]
    width = style.PAGE_WIDTH if len(shown) > 2 else style.COLUMN_WIDTH
    size = (width, 0.8 + len(budgets) * (0.1 + width / len(shown)))
    figure, grid = plt.subplots(len(budgets), len(shown), figsize=size, sharex=True, sharey=True, squeeze=False)
    for epsilon, row in zip(budgets, grid, strict=True):
        for (setting, title), axes in zip(shown.items(), row, strict=True):
            bins = numbers[numbers["setting"] == setting]
            panel(axes, bins[bins["epsilon"] == 0], bins[bins["epsilon"] == epsilon])
            if epsilon == budgets[0]:
                axes.set_title(title, fontsize=7)
        row[0].set_ylabel(rf"$\epsilon$ = {epsilon}/255", fontsize=7)
    figure.supxlabel("confidence of the top label (test)", fontsize=8)
    figure.supylabel("accuracy (test)", fontsize=8)
    figure.legend(handles=_handles(), loc="outside upper center", ncols=4 if len(shown) > 2 else 2, frameon=False)
    return figure, numbers


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The bins of each setting as trained, the images of its seeds taken together, with `lowest` and `highest` accuracy."""
    table = table[table["scaled"] == 0].copy()
    for name in ("confidence", "accuracy"):
        table[name] *= table["images"]
    keys = [*series.SETTING, "epsilon", "low", "high"]
    pooled = table.groupby(keys, sort=False)[["images", "confidence", "accuracy", *COUNTS]].sum().reset_index()
    for name in ("confidence", "accuracy"):
        pooled[name] /= pooled["images"].where(pooled["images"] > 0)
    pooled["lowest"], pooled["highest"] = band(*(pooled[name].to_numpy() for name in COUNTS))
    return pooled


def panel(axes: Axes, clean: pd.DataFrame, attacked: pd.DataFrame) -> None:
    axes.plot([0, 1], [0, 1], color="black", lw=0.6, ls="--", zorder=3)
    possible = attacked[attacked["lowest"].notna()]
    axes.bar(
        possible["low"],
        possible["highest"] - possible["lowest"],
        possible["high"] - possible["low"],
        bottom=possible["lowest"],
        align="edge",
        color=BAND_COLOUR,
        edgecolor="0.7",
        lw=0.4,
        zorder=1,
    )
    for bins, colour, marker in ((clean, CLEAN, "o"), (attacked, ATTACKED, "D")):
        bins = bins[bins["images"] > 0]
        axes.plot(bins["confidence"], bins["accuracy"], color=colour, marker=marker, ms=2, lw=0.5, zorder=4)
    axes.set(xlim=(0, 1), ylim=(-0.03, 1.03), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")


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
        Line2D([], [], color="black", lw=0.6, ls="--", label="calibrated"),
        Line2D([], [], color=CLEAN, marker="o", ms=2, lw=0.5, label="without attack"),
        Line2D([], [], color=ATTACKED, marker="D", ms=2, lw=0.5, label="under attack"),
        Patch(facecolor=BAND_COLOUR, edgecolor="0.7", lw=0.4, label="proven: no attack leaves this band"),
    ]

"""Certified accuracy against radius: LiST from each L0, beside networks trained at each fixed L."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lipscale.method.methods import METHODS
from lipscale.report import series, style
from lipscale.tables.curves import spread
from lipscale.tables.reader import FIXED, Tables, of, standard, where
from lipscale.text import short
from lipscale.units import distance

TITLE = "certified accuracy"
TABLES = ("certified",)
LEAST = 0.005  # where all curves are below this, the axis ends


def draw(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    """A panel for each method that certifies, fixed L first and again in grey behind the others; then LiST's front."""
    numbers = series.in_order(over_seeds(tables["certified"]), tables["certified"])
    usual, front = standard(numbers), series.front(numbers)
    methods = [METHODS[name] for name in METHODS if name in set(usual["method"])]
    methods.sort(key=lambda method: method.name != FIXED)
    grey = [method for method in methods if method.name == FIXED]
    panels = [(method.label, f"${method.start}$", of(usual, method.name), method.name != FIXED) for method in methods]
    if front["offset"].nunique() > 1:
        panels.append((r"LiST with offset $\xi$", rf"$\xi$ ({series.unit(front)})", front, True))

    figure, grid = _grid(len(panels))
    for axes, (title, legend, table, compared) in zip(grid, panels, strict=True):
        behind = grey if compared else []
        for reference in behind:
            for _, line in of(usual, reference.name).groupby("initial_lipschitz"):
                axes.plot(line["radius"], 100 * line["mean"], color="0.75", lw=0.7)
        curves(axes, table, "offset" if table is front else "initial_lipschitz")
        axes.set_title(title + (f"; grey: {', '.join(reference.label for reference in behind)}" if behind else ""))
        axes.legend(title=legend, frameon=False, ncols=2, handlelength=1.2, columnspacing=1.0)
    largest = numbers["radius"].where(numbers["mean"] >= LEAST, distance(1)).max()
    grid[0].set(xlim=(0, largest), ylim=(0, 100))
    figure.supxlabel(r"radius ($\ell_2$, pixels in $[0, 1]$)", fontsize=8)
    figure.supylabel("certified accuracy (%, test)", fontsize=8)
    return figure, numbers


def _grid(count: int) -> tuple[Figure, list[Axes]]:
    """That many panels, at most three in a row."""
    columns = 2 if count == 4 else min(count, 3)
    rows = -(-count // columns)
    size = (style.PAGE_WIDTH, 0.4 + (2.8 if rows == 1 else 2.4) * rows)
    figure, panels = plt.subplots(rows, columns, figsize=size, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[count:]:
        axes.remove()
    for axes in panels.flat[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)
    return figure, list(panels.flat[:count])


def curves(axes: Axes, table: pd.DataFrame, by: str) -> None:
    """A line for each value of a column: mean over seeds, smallest to largest shaded."""
    groups = list(table.groupby(by))
    for (value, line), colour in zip(groups, style.colours(len(groups)), strict=True):
        axes.fill_between(line["radius"], 100 * line["low"], 100 * line["high"], color=colour, alpha=0.2, lw=0)
        axes.plot(line["radius"], 100 * line["mean"], color=colour, label=short(value))


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Mean, smallest and largest certified accuracy over seeds at each radius, of networks that certify anything.

    A run's rows end where nothing is certified any more: it counts as 0 from there on.
    """
    table = where(table, lambda method: method.constrained)
    wide = table.pivot_table(index="epsilon", columns=[*series.SETTING, "seed"], values="certified_accuracy")
    wide = wide.reindex(range(table["epsilon"].max() + 1)).fillna(0.0)
    long = wide.melt(ignore_index=False, value_name="certified_accuracy").reset_index()
    summary = spread(long, [*series.SETTING, "epsilon"], "certified_accuracy")
    return summary.assign(radius=distance(summary["epsilon"]))

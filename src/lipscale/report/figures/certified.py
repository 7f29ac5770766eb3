"""Certified accuracy against radius: LiST from each L0, beside networks trained at each fixed L."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lipscale.method.methods import METHODS
from lipscale.report import style
from lipscale.tables.curves import spread
from lipscale.tables.reader import Tables, of, standard, where
from lipscale.text import short
from lipscale.units import distance

TITLE = "certified accuracy"
TABLES = ("certified",)
LEAST = 0.005  # where all curves are below this, the axis ends


def draw(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    """A panel for each method that certifies; those without feedback first, and again in grey behind the others."""
    numbers = over_seeds(standard(tables["certified"]))
    present = [METHODS[name] for name in METHODS if name in set(numbers["method"])]
    methods = sorted(present, key=lambda method: method.feedback)
    references = [method for method in methods if not method.feedback]

    figure, panels = plt.subplots(1, len(methods), figsize=(style.PAGE_WIDTH, 3.2), sharex=True, sharey=True, squeeze=False)
    for axes, method in zip(panels[0], methods, strict=True):
        behind = [reference for reference in references if method.feedback]
        for reference in behind:
            for _, line in of(numbers, reference.name).groupby("initial_lipschitz"):
                axes.plot(line["radius"], 100 * line["mean"], color="0.75", lw=0.7)
        curves(axes, of(numbers, method.name))
        grey = f"; grey: {', '.join(reference.label for reference in behind)}" if behind else ""
        axes.set(title=method.label + grey, xlabel=r"radius ($\ell_2$, pixels in $[0, 1]$)")
        axes.legend(title=f"${method.start}$", frameon=False, ncols=2, handlelength=1.2, columnspacing=1.0)
    first = panels[0, 0]
    first.set(xlim=(0, numbers["radius"].where(numbers["mean"] >= LEAST, distance(1)).max()), ylim=(0, 100))
    first.set_ylabel("certified accuracy (%, test)")
    return figure, numbers


def curves(axes: Axes, table: pd.DataFrame) -> None:
    """A line for each initial L: mean over seeds, smallest to largest shaded."""
    groups = list(table.groupby("initial_lipschitz"))
    for (start, line), colour in zip(groups, style.colours(len(groups)), strict=True):
        axes.fill_between(line["radius"], 100 * line["low"], 100 * line["high"], color=colour, alpha=0.2, lw=0)
        axes.plot(line["radius"], 100 * line["mean"], color=colour, label=short(start))


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Mean, smallest and largest certified accuracy over seeds at each radius, of networks that certify anything.

    A run's rows end where nothing is certified any more: it counts as 0 from there on.
    """
    table = where(table, lambda method: method.constrained)
    wide = table.pivot_table(index="epsilon", columns=["method", "initial_lipschitz", "seed"], values="certified_accuracy")
    wide = wide.reindex(range(table["epsilon"].max() + 1)).fillna(0.0)
    long = wide.melt(ignore_index=False, value_name="certified_accuracy").reset_index()
    summary = spread(long, ["method", "initial_lipschitz", "epsilon"], "certified_accuracy")
    return summary.assign(radius=distance(summary["epsilon"]))

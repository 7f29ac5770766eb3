"""Figure 3: clean accuracy against AutoAttack accuracy; colour is ECE; the Pareto front of the fixed-L runs is drawn."""

from pathlib import Path

import numpy as np
import pandas as pd
from adjustText import adjust_text
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, NullFormatter

from lipscale.report.figures import style
from lipscale.store.checksums import checked

MARKERS = {"fixed": "o", "list": "D", "unconstrained": "s"}
FONTS = {"fixed": "normal", "list": "italic"}  # of the labels; a network without constraint has none


def draw(tables: Path, stem: Path) -> None:
    """Write stem.pdf, .png and .csv; one panel for each epsilon that was attacked, side by side across both columns of a page.

    Args:
        tables: folder with runs.csv.
        stem: path of the figure without suffix.
    """
    runs = pd.read_csv(checked(tables / "runs.csv"))
    epsilons = [int(column.removeprefix("robust_")) for column in runs if column.startswith("robust_")]
    numbers = pd.concat(points(runs, epsilon) for epsilon in epsilons)

    style.apply()
    width = style.COLUMN_WIDTH if len(epsilons) == 1 else style.PAGE_WIDTH
    figure, panels = plt.subplots(1, len(epsilons), figsize=(width, 3.2), squeeze=False)
    colours = LogNorm(numbers["ece"].min(), numbers["ece"].max())
    for axes, epsilon in zip(panels[0], epsilons, strict=True):
        drawn = _points(axes, numbers[numbers["epsilon"] == epsilon], colours)
        axes.set(title=rf"$\epsilon = {epsilon}/255$, $\ell_2$", xlabel="clean accuracy (%)")
    panels[0, 0].set_ylabel("AutoAttack accuracy (%)")
    bar = figure.colorbar(drawn, ax=panels[0], label="ECE (15 bins, test)", fraction=0.06, pad=0.02)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bar.ax.yaxis.set_major_formatter(style.short)
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    handles = [
        Line2D([], [], marker=MARKERS["fixed"], ls="", color="grey", label="fixed $L$"),
        Line2D([], [], marker=MARKERS["list"], ls="", color="grey", label="LiST from $L_0$"),
        Line2D([], [], color="black", lw=0.8, ls="--", label="Pareto front of fixed $L$"),
    ]
    if "unconstrained" in set(runs["method"]):
        handles.insert(2, Line2D([], [], marker=MARKERS["unconstrained"], ls="", color="grey", label="no constraint"))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=len(handles) if width > style.COLUMN_WIDTH else 2 if len(handles) == 4 else 3,
        frameon=False,
        handlelength=1.5,
        columnspacing=0.9,
    )
    figure.draw_without_rendering()  # settles the layout, in which labels are then placed
    for axes, epsilon in zip(panels[0], epsilons, strict=True):
        _labels(axes, numbers[numbers["epsilon"] == epsilon])
    style.write(figure, numbers, stem)
    plt.close(figure)


def points(runs: pd.DataFrame, epsilon: int) -> pd.DataFrame:
    """A row per setting: mean and standard deviation over seeds of clean and robust accuracy on the same images, mean ECE.

    `pareto` is 1 for fixed-L settings that no other fixed L beats in one accuracy without losing in the other.
    """
    table = (
        runs.groupby(["method", "initial_lipschitz"])
        .agg(
            clean=("evaluated_clean_accuracy", "mean"),
            clean_deviation=("evaluated_clean_accuracy", "std"),
            robust=(f"robust_{epsilon}", "mean"),
            robust_deviation=(f"robust_{epsilon}", "std"),
            certified=(f"certified_{epsilon}", "mean"),
            ece=("ece", "mean"),
            lipschitz=("lipschitz", "mean"),
            seeds=("seed", "count"),
        )
        .reset_index()
        .fillna({"clean_deviation": 0.0, "robust_deviation": 0.0})
        .assign(epsilon=epsilon)
    )
    fixed = table["method"] == "fixed"
    table["pareto"] = 0
    table.loc[fixed, "pareto"] = pareto(table.loc[fixed, "clean"].to_numpy(), table.loc[fixed, "robust"].to_numpy()).astype(int)
    return table


def pareto(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which points no other point beats in one value and equals or beats in the other, a mask."""
    at_least = (first[None] >= first[:, None]) & (second[None] >= second[:, None])
    above = (first[None] > first[:, None]) | (second[None] > second[:, None])
    return ~(at_least & above).any(axis=1)


def _points(axes: Axes, table: pd.DataFrame, colours: LogNorm) -> PathCollection:
    """The points of a panel, with error bars of one standard deviation, and the front."""
    for method, part in table.groupby("method"):
        clean, robust = 100 * part["clean"], 100 * part["robust"]
        deviations = {"xerr": 100 * part["clean_deviation"], "yerr": 100 * part["robust_deviation"]}
        axes.errorbar(clean, robust, **deviations, fmt="none", ecolor="grey", elinewidth=0.6, zorder=2)
        drawn = axes.scatter(
            clean,
            robust,
            c=part["ece"],
            norm=colours,
            cmap="viridis",
            marker=MARKERS[method],
            s=30,
            ec="black",
            lw=0.5,
            zorder=3,
        )
    axes.margins(0.12)
    front = table[table["pareto"] == 1].sort_values("clean")
    clean, robust = 100 * front["clean"].to_numpy(), 100 * front["robust"].to_numpy()
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    clean, robust = [left, *clean, clean[-1]], [robust[0], *robust, bottom]  # the front's ends run to the edges
    axes.step(clean, robust, where="pre", color="black", lw=0.8, ls="--", zorder=1)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    return drawn


def _labels(axes: Axes, table: pd.DataFrame) -> None:
    """L beside circles and L0, slanted, beside diamonds, moved apart so that they can be read."""
    table = table[table["method"].isin(FONTS)]
    clean, robust = 100 * table["clean"], 100 * table["robust"]
    outline = [withStroke(linewidth=1.5, foreground="white")]
    texts = [
        axes.text(
            x, y, style.short(row.initial_lipschitz), fontsize=6.5, style=FONTS[row.method], path_effects=outline, zorder=4
        )
        for x, y, row in zip(clean, robust, table.itertuples(), strict=True)
    ]
    adjust_text(
        texts,
        clean.to_numpy(),
        robust.to_numpy(),
        ax=axes,
        expand=(1.4, 1.6),
        iter_lim=2000,  # not a limit in seconds, with which the picture would depend on the machine
    )
    for x, y, text in zip(clean, robust, texts, strict=True):
        (left, bottom), (right, top) = text.get_window_extent().transformed(axes.transData.inverted()).get_points()
        axes.plot([x, (left + right) / 2], [y, (bottom + top) / 2], color="black", lw=0.3, zorder=2.5)  # which is whose

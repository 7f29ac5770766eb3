"""Figure 3: clean accuracy against AutoAttack accuracy; colour is ECE; the Pareto front of the fixed-L runs is drawn."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from lipscale.method.methods import METHODS
from lipscale.report import labels, style
from lipscale.tables.reader import FIXED, Tables, method, standard
from lipscale.text import short

TITLE = "3: clean and robust accuracy"
TABLES = ("runs",)
MARKER = 5.5  # size of the markers, in points


def draw(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    """One panel for each epsilon that was attacked, side by side across both columns of a page."""
    numbers = pd.concat(points(standard(tables.runs), epsilon) for epsilon in tables.epsilons)
    width = style.COLUMN_WIDTH if len(tables.epsilons) == 1 else style.PAGE_WIDTH
    figure, panels = plt.subplots(1, len(tables.epsilons), figsize=(width, 3.2), squeeze=False)
    colours = LogNorm(numbers["ece"].min(), numbers["ece"].max())
    fronts = []
    for axes, epsilon in zip(panels[0], tables.epsilons, strict=True):
        part = numbers[numbers["epsilon"] == epsilon]
        drawn = _points(axes, part, colours)
        fronts.append(_front(axes, part))
        axes.set(title=rf"$\epsilon = {epsilon}/255$, $\ell_2$", xlabel="clean accuracy (%)")
    panels[0, 0].set_ylabel("AutoAttack accuracy (%)")
    style.ece_bar(figure, drawn, panels[0])
    _legend(figure, set(numbers["method"]), wide=width > style.COLUMN_WIDTH)
    figure.draw_without_rendering()  # settles the layout, in which labels are then placed
    for axes, epsilon, front in zip(panels[0], tables.epsilons, fronts, strict=True):
        _labels(axes, numbers[numbers["epsilon"] == epsilon], front)
    return figure, numbers


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
    fixed = table["method"] == FIXED
    table["pareto"] = 0
    table.loc[fixed, "pareto"] = pareto(table.loc[fixed, "clean"].to_numpy(), table.loc[fixed, "robust"].to_numpy()).astype(int)
    return table


def pareto(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Which points no other point beats in one value and equals or beats in the other, a mask."""
    at_least = (first[None] >= first[:, None]) & (second[None] >= second[:, None])
    above = (first[None] > first[:, None]) | (second[None] > second[:, None])
    return ~(at_least & above).any(axis=1)


def _points(axes: Axes, table: pd.DataFrame, colours: LogNorm) -> PathCollection:
    """The points of a panel, with error bars of one standard deviation."""
    for name, part in table.groupby("method"):
        clean, robust = 100 * part["clean"], 100 * part["robust"]
        deviations = {"xerr": 100 * part["clean_deviation"], "yerr": 100 * part["robust_deviation"]}
        axes.errorbar(clean, robust, **deviations, fmt="none", ecolor="grey", elinewidth=0.6, zorder=2)
        drawn = axes.scatter(
            clean,
            robust,
            c=part["ece"],
            norm=colours,
            cmap="viridis",
            marker=method(name).marker,
            s=MARKER**2,
            ec="black",
            lw=0.5,
            zorder=3,
        )
    axes.margins(0.12)
    return drawn


def _front(axes: Axes, table: pd.DataFrame) -> np.ndarray:
    """Draw the front, whose ends run to the edges, and return its corners, (corners, 2)."""
    front = table[table["pareto"] == 1].sort_values("clean")
    clean, robust = 100 * front["clean"].to_numpy(), 100 * front["robust"].to_numpy()
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    clean, robust = np.array([left, *clean, clean[-1]]), np.array([robust[0], *robust, bottom])
    axes.step(clean, robust, where="pre", color="black", lw=0.8, ls="--", zorder=1)
    axes.set(xlim=(left, right), ylim=(bottom, top))
    return np.stack([np.repeat(clean, 2)[:-1], np.repeat(robust, 2)[1:]], axis=1)


def _legend(figure: Figure, present: set[str], wide: bool) -> None:
    handles = [
        Line2D([], [], marker=one.marker, ls="", color="grey", label=one.label)
        for one in METHODS.values()
        if one.name in present
    ]
    handles.append(Line2D([], [], color="black", lw=0.8, ls="--", label=f"Pareto front of {METHODS[FIXED].label}"))
    columns = len(handles) if wide else 2 if len(handles) % 2 == 0 else 3
    figure.legend(
        handles=handles, loc="outside upper center", ncols=columns, frameon=False, handlelength=1.5, columnspacing=0.9
    )


def _labels(axes: Axes, table: pd.DataFrame, front: np.ndarray) -> None:
    """The initial L beside the points, in the style of their method."""
    markers = 100 * table[["clean", "robust"]].to_numpy()
    table = table[[bool(method(name).start) for name in table["method"]]]
    places = 100 * table[["clean", "robust"]].to_numpy()
    spread = 100 * table[["clean_deviation", "robust_deviation"]].to_numpy()
    bars = [
        np.array([place - reach * axis, place + reach * axis])
        for place, reach in zip(places, spread, strict=True)
        for axis in np.eye(2)
    ]
    texts = [
        axes.text(
            *place,
            short(row.initial_lipschitz),
            fontsize=6.5,
            style="italic" if method(row.method).slanted else "normal",
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
            zorder=4,
        )
        for place, row in zip(places, table.itertuples(), strict=True)
    ]
    labels.place(axes, places, texts, markers, radius=MARKER / 2, lines=[front, *bars])

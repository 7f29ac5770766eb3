"""Figure 5, rivals: ECE before and after temperature scaling, and certified and AutoAttack accuracy, a row per setting."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lipscale.report import series, style
from lipscale.tables.reader import Tables

TITLE = "5: rivals, calibration and robustness"
TABLES = ("runs", "intervals")
ROW_HEIGHT = 0.2  # inches
MARKER = 4.0  # size of markers, in points
SHIFT = 0.14  # of a row, from its middle to the marks before and after scaling
LANE = 0.26  # of a row, between the marks of two epsilons
COLOURS = (0, 1, 2, 4, 5, 7)  # of the palette, for the epsilons


def draw(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    """Two panels that share their rows, LiST's first."""
    numbers, epsilons = rows(tables), sorted(tables.epsilons)
    height = max(ROW_HEIGHT, 0.085 * len(epsilons)) * len(numbers) + 1.2
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(style.PAGE_WIDTH, height), sharey=True, width_ratios=(1, 1.25), layout="constrained"
    )
    _calibration(left, numbers)
    _accuracies(right, numbers, epsilons)
    left.set(yticks=range(len(numbers)), yticklabels=numbers["title"], ylim=(len(numbers) - 0.5, -0.5))
    left.tick_params(axis="y", length=0)
    right.tick_params(axis="y", length=0)
    if (series.usual(numbers) & series.plain(numbers)).all():
        figure.supxlabel("This config has no runs with an offset, another objective or returned calibration data.", fontsize=7)
    kinds = numbers["group"].to_numpy()
    for axes in (left, right):
        axes.grid(axis="y", visible=False)
        for edge in np.flatnonzero(kinds[1:] != kinds[:-1]) + 0.5:
            axes.axhline(edge, color="0.7", lw=0.6, zorder=1)
    return figure, numbers.drop(columns="group")


def rows(tables: Tables) -> pd.DataFrame:
    """A row per method, variant and offset: its name for people, and means over seeds with their intervals.

    Certified accuracy is over the evaluated images, as robust accuracy is, where runs.csv has it so.
    """
    certified = {epsilon: f"evaluated_certified_{epsilon}" for epsilon in tables.epsilons}
    certified = {epsilon: name if name in tables.runs else f"certified_{epsilon}" for epsilon, name in certified.items()}
    measures = ["ece", "ece_scaled", *(f"robust_{epsilon}" for epsilon in tables.epsilons), *certified.values()]
    table = series.comparison(series.estimates(tables, measures))
    table.insert(0, "title", [series.title(row, several_starts=False) for row in table.itertuples()])
    renamed = {name + end: f"certified_{epsilon}{end}" for epsilon, name in certified.items() for end in ("", "_low", "_high")}
    table = table.rename(columns=renamed)
    table.loc[series.free(table), list(renamed.values())] = np.nan  # nothing is certified without constraint
    return table.assign(group=_groups(table)).reset_index(drop=True)


def _groups(table: pd.DataFrame) -> list[str]:
    """What is drawn together, between lines: LiST, each other method as usual, and its variants."""
    usual = series.usual(table) | series.free(table)
    return [f"{name} {'' if plain else 'variants'}" for name, plain in zip(table["method"], usual, strict=True)]


def _calibration(axes: Axes, numbers: pd.DataFrame) -> None:
    """ECE as trained, hollow, and after temperature scaling, filled, joined by a line."""
    places, colour = np.arange(len(numbers)), style.COLOURS[0]
    ends = numbers[["ece", "ece_scaled"]].to_numpy().T
    axes.plot(ends, [places - SHIFT, places + SHIFT], color="0.6", lw=0.6, zorder=1.5)
    for measure, shift, face in (("ece", -SHIFT, "white"), ("ece_scaled", SHIFT, colour)):
        at = places + shift
        axes.hlines(at, numbers[f"{measure}_low"], numbers[f"{measure}_high"], color=colour, lw=1.2, alpha=0.5, zorder=2)
        axes.plot(numbers[measure], at, ls="", marker="o", ms=MARKER, mfc=face, mec=colour, mew=0.8, zorder=3)
    if (numbers[["ece", "ece_scaled"]] > 0).all(axis=None):
        least = numbers[["ece", "ece_scaled"]].min(axis=None)
        axes.set(xscale="log", xlim=(0.5 * least, None))  # an interval may reach down to 0
        style.label_logarithmic(axes.xaxis)
    axes.set_xlabel("ECE (15 bins, test)")
    look = {"marker": "o", "ls": "", "color": colour, "ms": MARKER}
    handles = [
        Line2D([], [], mfc="white", label="as trained", **look),
        Line2D([], [], label="after temperature scaling", **look),
    ]
    _legend(axes, handles)


def _accuracies(axes: Axes, numbers: pd.DataFrame, epsilons: list[int]) -> None:
    """Robust accuracy with its interval, and certified accuracy lighter, joined by a line; a lane for each epsilon."""
    places, handles = np.arange(len(numbers)), []
    lane = min(LANE, 0.8 / len(epsilons))
    for index, epsilon in enumerate(epsilons):
        colour = style.COLOURS[COLOURS[index % len(COLOURS)]]
        at = places + lane * (index - (len(epsilons) - 1) / 2)
        robust, certified = 100 * numbers[f"robust_{epsilon}"], 100 * numbers[f"certified_{epsilon}"]
        low, high = (100 * numbers[f"robust_{epsilon}_{end}"] for end in ("low", "high"))
        axes.hlines(at, certified, robust, color=colour, lw=0.5, zorder=1.5)
        axes.hlines(at, low, high, color=colour, lw=1.2, alpha=0.5, zorder=2)
        axes.plot(robust, at, ls="", marker="o", ms=MARKER, color=colour, zorder=3)
        axes.plot(certified, at, ls="", marker="|", ms=MARKER + 1, mew=1.2, color=colour, alpha=0.55, zorder=3)
        handles.append(Line2D([], [], ls="", marker="o", ms=MARKER, color=colour, label=rf"$\epsilon$ = {epsilon}/255"))
    handles.append(Line2D([], [], ls="", marker="|", ms=MARKER + 1, mew=1.2, color="0.6", label="certified"))
    axes.set_xlabel("AutoAttack accuracy (%)")
    axes.set_xlim(left=0)
    _legend(axes, handles)


def _legend(axes: Axes, handles: list[Line2D]) -> None:
    """Above the panel."""
    look = {"loc": "lower center", "bbox_to_anchor": (0.5, 1), "frameon": False, "handlelength": 0.8}
    axes.legend(handles=handles, ncols=min(len(handles), 4), columnspacing=0.9, handletextpad=0.3, **look)

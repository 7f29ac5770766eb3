"""Figure 4, the calibrated Pareto front: certified and AutoAttack accuracy against clean accuracy; colour is ECE."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from lipscale.report import labels, names, series, style
from lipscale.tables.reader import FIXED, LIST, Tables, method
from lipscale.text import short

TITLE = "4: the calibrated Pareto front"
TABLES = ("runs", "intervals")
MOST_ROWS = 3  # of panels: more epsilons, the largest ones, are left out
MOST_NAMED = 5  # of the networks that are left out, in the title of a panel
ROOM, LEAST_SPAN = 0.5, 0.04  # see `shown`
MARKER, SMALL = 5.0, 3.0  # sizes of markers, in points
MARKERS = {"fixed_offset": "X", "other": "P"}
PANELS = {"certified": "clean_accuracy", "robust": "evaluated_clean_accuracy"}  # clean accuracy over the same images
YLABELS = {"certified": "certified accuracy (%)", "robust": "AutoAttack accuracy (%)"}


def draw(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    """A row of panels for each epsilon: left certified, right AutoAttack accuracy."""
    epsilons = sorted(tables.epsilons)[:MOST_ROWS]
    numbers = pd.concat(points(tables, epsilon) for epsilon in epsilons)
    size = (style.PAGE_WIDTH, 0.9 + 2.5 * len(epsilons))
    figure, grid = plt.subplots(len(epsilons), 2, figsize=size, squeeze=False)
    colours = LogNorm(*style.positive_range(numbers["ece"]))
    panels = {
        (epsilon, measure): axes
        for row, epsilon in zip(grid, epsilons, strict=True)
        for axes, measure in zip(row, PANELS, strict=True)
    }
    for (epsilon, measure), axes in panels.items():
        table = _of(numbers, epsilon, measure)
        _panel(axes, table[table["shown"] == 1], colours)
        axes.set_ylabel(YLABELS[measure])
        axes.set_title(rf"$\epsilon = {epsilon}/255$, $\ell_2$", loc="left")
        axes.set_title(_left_out(table), loc="right", fontsize=6)
    for axes in grid[-1]:
        axes.set_xlabel("clean accuracy (%)")
    style.ece_bar(figure, plt.cm.ScalarMappable(colours, "viridis"), grid)
    _legend(figure, numbers)
    figure.draw_without_rendering()  # settles the layout, in which labels are then placed
    figure.set_layout_engine("none")
    for (epsilon, measure), axes in panels.items():
        table = _of(numbers, epsilon, measure)
        _labels(axes, table[table["shown"] == 1])
    return figure, numbers


def points(tables: Tables, epsilon: int) -> pd.DataFrame:
    """A row per setting and accuracy, certified or robust: means over seeds with their intervals, `kind` and label.

    Clean accuracy is over the images of the other one: robust accuracy is over the evaluated images. Without constraint
    there is no certified accuracy, and no row.
    """
    columns = {accuracy: f"{accuracy}_{epsilon}" for accuracy in PANELS}
    table = series.estimates(tables, [*PANELS.values(), *columns.values(), "ece"])
    table = table.assign(kind=series.kinds(table), epsilon=epsilon)
    several = table.loc[table["kind"] == "fixed_offset", "offset"].nunique() > 1
    table["label"] = [_label(row, several) for row in table.itertuples()]
    found = []
    for accuracy, clean in PANELS.items():
        part = table[table["kind"] != "free"] if accuracy == "certified" else table
        part = part[[*series.SETTING, "kind", "label", "epsilon", "lipschitz", "ece", "seeds"]].assign(accuracy=accuracy)
        for name, measure in (("clean", clean), ("value", columns[accuracy])):
            part[[name, f"{name}_low", f"{name}_high"]] = table[[measure, f"{measure}_low", f"{measure}_high"]]
        found.append(part.assign(shown=shown(part).astype(int)))
    return pd.concat(found, ignore_index=True)


def shown(table: pd.DataFrame) -> pd.Series:
    """All but those networks at fixed L that are far from all others, and that another one beats in both accuracies."""
    dominated, far = pd.Series(False, index=table.index), pd.Series(False, index=table.index)
    clean, value = table["clean"].to_numpy(), table["value"].to_numpy()
    dominated |= ((clean > clean[:, None]) & (value > value[:, None])).any(axis=1)
    for name in ("clean", "value"):
        others = table.loc[table["kind"] != "fixed", name]
        room = ROOM * max(others.max() - others.min(), LEAST_SPAN)
        far |= table[name] < others.min() - room
    return ~(far & dominated & (table["kind"] == "fixed"))


def _left_out(table: pd.DataFrame) -> str:
    left_out = sorted(table.loc[table["shown"] == 0, "initial_lipschitz"])
    if len(left_out) > MOST_NAMED:
        return f"not shown: {len(left_out)} fixed $L$"
    return f"not shown: $L$ = {', '.join(map(short, left_out))}" if left_out else ""


def _label(row, several_offsets: bool) -> str:
    if row.kind == "front":
        return short(row.offset)
    if row.kind == "start":
        return ""
    if row.kind == "fixed_offset" and several_offsets:
        return f"{short(row.initial_lipschitz)}; {short(row.offset)}"
    if row.kind in ("fixed", "fixed_offset"):
        return short(row.initial_lipschitz)
    if row.method == LIST and row.variant in names.CALIBRATION_DATA:
        return f"{short(row.offset)} {names.CALIBRATION_DATA[row.variant]}"
    return series.title(row, several_starts=False).removeprefix("fixed ")


def _of(numbers: pd.DataFrame, epsilon: int, accuracy: str) -> pd.DataFrame:
    return numbers[(numbers["epsilon"] == epsilon) & (numbers["accuracy"] == accuracy)]


def _marker(row) -> str:
    return MARKERS.get(row.kind if row.method in (LIST, FIXED) else "", method(row.method).marker)


def _panel(axes: Axes, table: pd.DataFrame, colours: LogNorm) -> None:
    """Points with their intervals, and a line through the front and one through the networks at fixed L."""
    for row in table.itertuples():
        small = row.kind == "start"
        axes.plot(
            100 * row.clean,
            100 * row.value,
            marker=_marker(row),
            ms=SMALL if small else MARKER,
            mfc=plt.cm.viridis(colours(row.ece)),
            mec="black",
            mew=0.5,
            ls="",
            zorder=3,
        )
    bars = {"xerr": 100 * series.reach(table, "clean"), "yerr": 100 * series.reach(table, "value")}
    axes.errorbar(100 * table["clean"], 100 * table["value"], **bars, fmt="none", ecolor="0.6", elinewidth=0.5, zorder=2)
    for line, look in _lines(table):
        axes.plot(*line.T, **look)
    axes.margins(0.12)


def _lines(table: pd.DataFrame) -> list[tuple[np.ndarray, dict]]:
    """The front along its offsets and the networks at fixed L along L, each (points, 2) in percent, with their looks."""
    front = table[table["kind"] == "front"].sort_values("offset")
    fixed = table[table["kind"] == "fixed"].sort_values("initial_lipschitz")
    looks = ({"color": "black", "lw": 1.0, "zorder": 2.5}, {"color": "0.5", "lw": 0.6, "ls": ":", "zorder": 1})
    return [
        (100 * part[["clean", "value"]].to_numpy(), look)
        for part, look in zip((front, fixed), looks, strict=True)
        if len(part) > 1
    ]


def _legend(figure: Figure, numbers: pd.DataFrame) -> None:
    """The markers that are there, each once."""
    figure.legend(
        handles=list(_handles(numbers)),
        loc="outside upper center",
        ncols=3,
        frameon=False,
        handlelength=1.6,
        columnspacing=1.2,
    )


def _handles(numbers: pd.DataFrame) -> Iterable[Line2D]:
    present = {kind: part for kind, part in numbers.groupby("kind")}
    look = {"color": "black", "mfc": "0.75", "mec": "black", "mew": 0.5, "ms": MARKER}
    if "front" in present:
        row = next(present["front"].itertuples())
        label = rf"LiST from $L_0$ = {short(row.initial_lipschitz)}, offset $\xi$ (in {series.unit(present['front'])})"
        yield Line2D([], [], marker=_marker(row), lw=1.0, label=label, **look)
    if "start" in present:
        row = next(present["start"].itertuples())
        look_small = look | {"ms": SMALL}
        yield Line2D([], [], marker=_marker(row), ls="", label=r"LiST from other $L_0$, $\xi$ = 0", **look_small)
    if "fixed" in present:
        yield Line2D([], [], marker="o", lw=0.6, label="fixed $L$", **(look | {"color": "0.5", "ls": ":"}))
    if "fixed_offset" in present:
        row, offsets = next(present["fixed_offset"].itertuples()), present["fixed_offset"]["offset"].unique()
        one = rf"$\xi$ = {names.offset_title(row.setting, row.offset)}"
        label = f"fixed $L$, {one}" if len(offsets) == 1 else r"fixed $L$; $\xi$"
        yield Line2D([], [], marker=_marker(row), ls="", label=label, **look)
    if "free" in present:
        row = next(present["free"].itertuples())
        yield Line2D([], [], marker=_marker(row), ls="", label="no constraint: no certified accuracy", **look)
    others = present.get("other", numbers[:0])["method"].unique()
    if {LIST, FIXED} & set(others):
        yield Line2D([], [], marker=MARKERS["other"], ls="", label="other networks with constraint", **look)
    for name in sorted(set(others) - {LIST, FIXED}):
        yield Line2D([], [], marker=method(name).marker, ls="", label=method(name).label, **look)
    if numbers["offset"].max() == 0 and "free" not in present and "other" not in present:
        yield Line2D([], [], ls="", label="no runs with an offset, no rivals in this config")


def _labels(axes: Axes, table: pd.DataFrame) -> None:
    markers = 100 * table[["clean", "value"]].to_numpy()
    named = table[table["label"] != ""]
    places = 100 * named[["clean", "value"]].to_numpy()
    texts = [
        axes.text(
            *place,
            row.label,
            fontsize=6,
            weight="bold" if row.kind == "front" else "normal",
            path_effects=[withStroke(linewidth=1.5, foreground="white")],
            zorder=4,
        )
        for place, row in zip(places, named.itertuples(), strict=True)
    ]
    labels.place(axes, places, texts, markers, radius=MARKER / 2, lines=[line for line, _ in _lines(table)])

"""Figure 6, calibration under attack: NLL, Brier score and ECE against epsilon, proven bounds and what an attack reaches."""

import re

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lipscale.report import series, style
from lipscale.report.names import offset_title
from lipscale.tables.reader import Tables
from lipscale.text import short

TITLE = "6: calibration under attack"
TABLES = ("runs", "intervals")
MEASURES = {"nll": "NLL (nats)", "brier": "Brier score", "ece": "ECE (15 bins)"}
BOUNDS = {"nll": "evaluated_certified_nll", "brier": "evaluated_certified_brier", "ece": "evaluated_worst_case_ece"}
SUFFIXES = {"front": ("",), "fixed": ("", "_scaled")}  # of columns, by what a row of the figures of the front is
FIXED_COLOUR = "black"


def draw(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    """A panel for each measure: LiST along its offsets, and the best fixed L at each epsilon, as trained or scaled."""
    numbers = points(tables)
    figure, panels = plt.subplots(1, 3, figsize=(style.PAGE_WIDTH, 2.5), layout="constrained")
    front = list(numbers[numbers["kind"] == "front"].groupby("offset"))
    lines = [(colour, part) for colour, (_, part) in zip(style.colours(len(front)), front, strict=True)]
    fixed = _best(numbers[numbers["kind"] == "fixed"])
    lines += [(FIXED_COLOUR, fixed)] if len(fixed) else []
    for axes, (measure, label) in zip(panels, MEASURES.items(), strict=True):
        for colour, part in lines:
            _line(axes, part[part["measure"] == measure], colour)
        axes.set(xlabel=r"$\epsilon$ (1/255)", xticks=sorted(numbers["epsilon"].unique()))
        axes.set_title(label, loc="left")
        shown = numbers.loc[numbers["measure"] == measure, ["attacked", "certified"]].stack()
        if (shown > 0).any():
            axes.set_yscale("log")
            style.label_logarithmic(axes.yaxis)
    figure.legend(handles=_handles(lines, numbers), loc="outside right center", frameon=False, handlelength=1.6)
    return figure, numbers


def points(tables: Tables) -> pd.DataFrame:
    """A row per setting, measure and epsilon: means over seeds, proven and attacked, over the attacked images.

    At epsilon 0 both are the clean value. Networks at fixed L have two: as trained, divided by T*.
    """
    budgets = sorted(int(found[1]) for found in map(re.compile(r"attacked_nll_(\d+)").fullmatch, tables.runs) if found)
    means = tables.runs.groupby("setting").mean(numeric_only=True)
    table = series.estimates(tables, [])
    rows = []
    for setting, kind in zip(table.to_dict("records"), series.kinds(table), strict=True):
        key, row = {name: setting[name] for name in [*series.SETTING, "seeds"]}, means.loc[setting["setting"]]
        for suffix in SUFFIXES.get(kind, ()):
            for measure, bound in BOUNDS.items():
                one = key | {"kind": kind, "scaled": int(suffix == "_scaled"), "measure": measure}
                clean = row.get(f"evaluated_{measure}{suffix}")
                rows.append(one | {"epsilon": 0, "attacked": clean, "certified": clean})
                for epsilon in budgets:
                    end = f"{suffix}_{epsilon}"
                    values = {"attacked": row.get(f"attacked_{measure}{end}"), "certified": row.get(f"{bound}{end}")}
                    rows.append(one | {"epsilon": epsilon} | values)
    columns = [*series.SETTING, "seeds", "kind", "scaled", "measure", "epsilon", "attacked", "certified"]
    return pd.DataFrame(rows, columns=columns).astype({"attacked": float, "certified": float})


def _best(fixed: pd.DataFrame) -> pd.DataFrame:
    """The lowest of all fixed L, for each measure and epsilon, proven and attacked each on its own."""
    return fixed.groupby(["measure", "epsilon"], as_index=False)[["attacked", "certified"]].min()


def _line(axes: Axes, part: pd.DataFrame, colour) -> None:
    """The bound solid, the attack dashed, and the range between them, which the truth is in."""
    part = part.sort_values("epsilon")
    axes.fill_between(part["epsilon"], part["attacked"], part["certified"], color=colour, alpha=0.12, lw=0)
    axes.plot(part["epsilon"], part["certified"], color=colour, marker="o", ms=2.5, lw=1.0)
    axes.plot(part["epsilon"], part["attacked"], color=colour, ls=(0, (3, 1.5)), lw=0.8)


def _handles(lines: list, numbers: pd.DataFrame) -> list:
    handles = []
    for colour, part in lines:
        if "offset" in part:
            row = next(part.itertuples())
            label = rf"LiST, $\xi$ = {offset_title(row.setting, row.offset)}"
        else:
            values = numbers.loc[numbers["kind"] == "fixed", "initial_lipschitz"]
            label = f"fixed $L$, also scaled:\nlowest of {values.nunique()},\n{short(values.min())} to {short(values.max())}"
        handles.append(Line2D([], [], color=colour, marker="o", ms=2.5, lw=1.0, label=label))
    if not handles:
        return [Line2D([], [], ls="", label="no network\nwith a constraint")]
    handles.append(Line2D([], [], color="0.4", lw=1.0, label="proven bound"))
    handles.append(Line2D([], [], color="0.4", ls=(0, (3, 1.5)), lw=0.8, label="under attack"))
    handles.append(Patch(color="0.4", alpha=0.25, lw=0, label="the worst case\nlies between"))
    return handles

"""Figure 2: T* (top) and L (bottom) over the epochs, at each update, a line for each L0 of LiST."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lipscale.report import style
from lipscale.tables.curves import spread
from lipscale.tables.reader import Tables, method, standard, where
from lipscale.text import short

TITLE = "2: T* and L by epoch"
TABLES = ("feedback",)
SETTING = ["method", "initial_lipschitz"]


def draw(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    """Two panels, a line for each setting with feedback."""
    numbers = over_epochs(where(standard(tables["feedback"]), lambda method: method.feedback))
    figure, (top, bottom) = plt.subplots(2, sharex=True, figsize=(style.COLUMN_WIDTH, 3.8))
    for axes, quantity in ((top, "temperature"), (bottom, "lipschitz")):
        _lines(axes, numbers[numbers["quantity"] == quantity])
        style.label_logarithmic(axes.yaxis)
    top.axhline(1, color="black", lw=0.6, ls="--")
    top.set(ylabel=r"temperature $T^*$" + "\n(validation)")
    bottom.set(xlabel="epoch", ylabel=f"Lipschitz constant $L$\n({style.LIPSCHITZ_UNIT})")
    if (start := numbers["epochs"].min()) < 0:
        for axes in (top, bottom):
            axes.axvspan(start, 0, color="0.9", lw=0, zorder=0)
        top.text(start / 2, 1.01, "warm-up", fontsize=7, ha="center", va="bottom", transform=top.get_xaxis_transform())
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels()
    figure.legend(
        *top.get_legend_handles_labels(),
        title=f"initial Lipschitz constant $L_0$ ({style.LIPSCHITZ_UNIT})",
        loc="outside upper center",
        ncols=5,
        frameon=False,
        handlelength=1.2,
        columnspacing=1.0,
    )
    return figure, numbers


def _lines(axes: Axes, numbers: pd.DataFrame) -> None:
    """A line for each setting, by L0; where there are several methods, its label names the method too."""
    several = numbers["method"].nunique() > 1
    settings = sorted(numbers.groupby(SETTING), key=lambda group: group[0][::-1])
    for ((name, start), line), colour in zip(settings, style.colours(len(settings)), strict=True):
        label = method(name).setting_title(start, short) if several else short(start)
        axes.fill_between(line["epochs"], line["low"], line["high"], color=colour, alpha=0.25, lw=0)
        axes.plot(line["epochs"], line["mean"], color=colour, label=label)
    axes.set(yscale="log")


def over_epochs(feedback: pd.DataFrame) -> pd.DataFrame:
    """Geometric mean, smallest and largest value over seeds: of T* at each update, and of L as the update sets it.

    The first L is L0; a warm-up counts as an epoch, and training starts at epoch 0. Where a validation split has no finite
    T* (perfectly separated, or at chance level), the step that was taken instead is shown.
    """
    step = feedback["lipschitz"] / feedback["next_lipschitz"]
    finite = (feedback["temperature"] > 0) & np.isfinite(feedback["temperature"])
    measured = feedback.assign(temperature=feedback["temperature"].where(finite, step))
    start = min(0.0, np.floor(feedback["epochs"].min()))  # below 0 where there was a warm-up
    first = feedback.drop_duplicates("run").assign(epochs=start, next_lipschitz=lambda table: table["initial_lipschitz"])
    by = [*SETTING, "epochs"]
    return pd.concat(
        [
            spread(measured, by, "temperature", geometric=True).assign(quantity="temperature"),
            spread(pd.concat([first, feedback]), by, "next_lipschitz", geometric=True).assign(quantity="lipschitz"),
        ]
    )

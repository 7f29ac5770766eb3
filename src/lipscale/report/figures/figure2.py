"""Figure 2: T* (top) and L (bottom) over the epochs, at each update, a line for each L0 of LiST."""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.ticker import MaxNLocator

from lipscale.report.figures import style
from lipscale.store.checksums import checked


def draw(tables: Path, stem: Path) -> None:
    """Write stem.pdf, .png and .csv.

    Args:
        tables: folder with feedback.csv.
        stem: path of the figure without suffix.
    """
    feedback = pd.read_csv(checked(tables / "feedback.csv"))
    numbers = over_epochs(feedback[feedback["method"] == "list"])

    style.apply()
    figure, (top, bottom) = plt.subplots(2, sharex=True, figsize=(style.COLUMN_WIDTH, 3.8))
    starts = np.sort(numbers["initial_lipschitz"].unique())
    colours = sns.color_palette("viridis", len(starts) + 1)[:-1]  # without the last, a yellow too pale on white
    for start, colour in zip(starts, colours, strict=True):
        for axes, quantity in ((top, "temperature"), (bottom, "lipschitz")):
            line = numbers[(numbers["initial_lipschitz"] == start) & (numbers["quantity"] == quantity)]
            axes.fill_between(line["epochs"], line["low"], line["high"], color=colour, alpha=0.25, lw=0)
            axes.plot(line["epochs"], line["mean"], color=colour, label=style.short(start))
    top.axhline(1, color="black", lw=0.6, ls="--")
    top.set(yscale="log", ylabel=r"temperature $T^*$" + "\n(validation)")
    bottom.set(yscale="log", xlabel="epoch", ylabel=f"Lipschitz constant $L$\n({style.LIPSCHITZ_UNIT})")
    if (start := numbers["epochs"].min()) < 0:
        for axes in (top, bottom):
            axes.axvspan(start, 0, color="0.9", lw=0, zorder=0)
        top.text(start / 2, 1.01, "rehearsals", fontsize=7, ha="center", va="bottom", transform=top.get_xaxis_transform())
    bottom.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (top, bottom):
        style.label_logarithmic(axes.yaxis)
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
    style.write(figure, numbers, stem)
    plt.close(figure)


def over_epochs(feedback: pd.DataFrame) -> pd.DataFrame:
    """Geometric mean, smallest and largest value over seeds: of T* at each update, and of L as the update sets it.

    The first L is L0; a rehearsal counts as an epoch, and training starts at epoch 0. Where a validation split has no finite
    T* (perfectly separated, or at chance level), the step that was taken in its place stands for it.
    """
    step = feedback["lipschitz"] / feedback["next_lipschitz"]
    finite = (feedback["temperature"] > 0) & np.isfinite(feedback["temperature"])
    measured = feedback.assign(temperature=feedback["temperature"].where(finite, step))
    start = min(0.0, np.floor(feedback["epochs"].min()))  # below 0 where there were rehearsals
    first = feedback.drop_duplicates("run").assign(epochs=start, next_lipschitz=lambda table: table["initial_lipschitz"])
    by = ["initial_lipschitz", "epochs"]
    return pd.concat(
        [
            style.spread(measured, by, "temperature", geometric=True).assign(quantity="temperature"),
            style.spread(pd.concat([first, feedback]), by, "next_lipschitz", geometric=True).assign(quantity="lipschitz"),
        ]
    )

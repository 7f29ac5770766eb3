"""Certified accuracy against radius: LiST from each L0, beside networks trained at each fixed L."""

from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from lipscale.report.figures import style
from lipscale.store.checksums import checked

LEAST = 0.005  # where all curves are below this, the axis ends


def draw(tables: Path, stem: Path) -> None:
    """Write stem.pdf, .png and .csv; fixed L on the left, LiST on the right with the fixed L in grey behind it.

    Args:
        tables: folder with certified.csv.
        stem: path of the figure without suffix.
    """
    numbers = over_seeds(pd.read_csv(checked(tables / "certified.csv")))
    fixed, ours = (numbers[numbers["method"] == method] for method in ("fixed", "list"))

    style.apply()
    figure, (left, right) = plt.subplots(1, 2, figsize=(style.PAGE_WIDTH, 3.2), sharex=True, sharey=True)
    curves(left, fixed)
    for _, line in fixed.groupby("initial_lipschitz"):
        right.plot(line["radius"], 100 * line["mean"], color="0.75", lw=0.7)
    curves(right, ours)
    for axes, title in ((left, "fixed $L$"), (right, "LiST from $L_0$; grey: fixed $L$")):
        axes.set(title=title, xlabel=r"radius ($\ell_2$, pixels in $[0, 1]$)")
        axes.legend(title="$L$" if axes is left else "$L_0$", frameon=False, ncols=2, handlelength=1.2, columnspacing=1.0)
    left.set(xlim=(0, numbers["radius"].where(numbers["mean"] >= LEAST, 1 / 255).max()), ylim=(0, 100))
    left.set_ylabel("certified accuracy (%, test)")
    style.write(figure, numbers, stem)
    plt.close(figure)


def curves(axes: Axes, table: pd.DataFrame) -> None:
    """A line for each initial L: mean over seeds, smallest to largest shaded."""
    groups = list(table.groupby("initial_lipschitz"))
    # without the last, a yellow too pale on white
    for (start, line), colour in zip(groups, sns.color_palette("viridis", len(groups) + 1)[:-1], strict=True):
        axes.fill_between(line["radius"], 100 * line["low"], 100 * line["high"], color=colour, alpha=0.2, lw=0)
        axes.plot(line["radius"], 100 * line["mean"], color=colour, label=style.short(start))


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Mean, smallest and largest certified accuracy over seeds at each radius, of networks that certify anything.

    A run's rows end where nothing is certified any more: it counts as 0 from there on.
    """
    table = table[table["method"] != "unconstrained"]
    wide = table.pivot_table(index="epsilon", columns=["method", "initial_lipschitz", "seed"], values="certified_accuracy")
    wide = wide.reindex(range(table["epsilon"].max() + 1)).fillna(0.0)
    long = wide.melt(ignore_index=False, value_name="certified_accuracy").reset_index()
    summary = style.spread(long, ["method", "initial_lipschitz", "epsilon"], "certified_accuracy")
    return summary.assign(radius=summary["epsilon"] / 255)

"""Figure 1: ECE of networks trained at each L, and of one network whose logits are divided by T, on one axis L' = L / T."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from lipscale.report import style
from lipscale.tables.curves import posthoc_curves, spread
from lipscale.tables.reader import FIXED, Tables, of, standard
from lipscale.text import short

TITLE = "1: ECE against L"
TABLES = ("runs", "sweep")


def draw(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    """Two curves of ECE, means over seeds with their spread."""
    trained = spread(of(standard(tables.runs), FIXED), "lipschitz", "ece")
    posthoc = spread(posthoc_curves(tables), "lipschitz", "ece")

    figure, axes = plt.subplots(figsize=(style.COLUMN_WIDTH, 2.6))
    axes.fill_between(posthoc["lipschitz"], posthoc["low"], posthoc["high"], color=style.COLOURS[1], alpha=0.25, lw=0)
    axes.plot(
        posthoc["lipschitz"],
        posthoc["mean"],
        color=style.COLOURS[1],
        label=f"trained at $L={short(tables.posthoc_lipschitz)}$, logits divided by $T$",
    )
    axes.errorbar(
        trained["lipschitz"],
        trained["mean"],
        yerr=[trained["mean"] - trained["low"], trained["high"] - trained["mean"]],
        color=style.COLOURS[0],
        marker="o",
        capsize=2,
        elinewidth=0.8,
        label="trained at each $L$",
    )
    axes.set(xscale="log", yscale="log", xlabel=rf"$L' = L/T$ ({style.LIPSCHITZ_UNIT})", ylabel="ECE (15 bins, test)")
    axes.xaxis.set_major_formatter(short)
    style.label_logarithmic(axes.yaxis)
    figure.legend(loc="outside upper center", frameon=False)
    return figure, pd.concat([trained.assign(curve="trained"), posthoc.assign(curve="post-hoc")])

"""Figure 1: ECE of networks trained at each L, and of one network whose logits are divided by T, on one axis L' = L / T."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt

from lipscale.errors import LipscaleError
from lipscale.report.figures import style
from lipscale.store.checksums import checked


def draw(tables: Path, stem: Path, posthoc_lipschitz: float) -> None:
    """Write stem.pdf, .png and .csv.

    Args:
        tables: folder with runs.csv and sweep.csv.
        stem: path of the figure without suffix.
        posthoc_lipschitz: L of the fixed-L runs whose logits are divided by T.
    """
    runs, sweep = pd.read_csv(checked(tables / "runs.csv")), pd.read_csv(checked(tables / "sweep.csv"))
    trained = style.spread(runs[runs["method"] == "fixed"], "lipschitz", "ece")
    chosen = sweep[(sweep["method"] == "fixed") & (sweep["lipschitz"] == posthoc_lipschitz)]
    posthoc = style.spread(divided(chosen, trained["lipschitz"].min(), trained["lipschitz"].max()), "lipschitz", "ece")

    style.apply()
    figure, axes = plt.subplots(figsize=(style.COLUMN_WIDTH, 2.6))
    name = style.short(posthoc_lipschitz)
    axes.fill_between(posthoc["lipschitz"], posthoc["low"], posthoc["high"], color=style.COLOURS[1], alpha=0.25, lw=0)
    axes.plot(
        posthoc["lipschitz"],
        posthoc["mean"],
        color=style.COLOURS[1],
        label=f"trained at $L={name}$, logits divided by $T$",
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
    axes.xaxis.set_major_formatter(style.short)
    style.label_logarithmic(axes.yaxis)
    figure.legend(loc="outside upper center", frameon=False)
    style.write(figure, pd.concat([trained.assign(curve="trained"), posthoc.assign(curve="post-hoc")]), stem)
    plt.close(figure)


def divided(sweep: pd.DataFrame, lowest: float, highest: float) -> pd.DataFrame:
    """ECE of each run at the same values of L' = L / T from `lowest` to `highest`, interpolated in log L'.

    Raises:
        LipscaleError: there is no run, or the temperatures of its sweep do not reach that far.
    """
    if sweep.empty:
        raise LipscaleError("figure1: sweep.csv has no fixed-L run at the post-hoc L; allowed: one of runs.fixed_lipschitz")
    axis = np.geomspace(lowest, highest, 121)
    parts = []
    for run, part in sweep.groupby("run"):
        part = part.assign(ratio=part["lipschitz"] / part["temperature"]).sort_values("ratio")
        if not part["ratio"].iloc[0] <= lowest <= highest <= part["ratio"].iloc[-1]:
            raise LipscaleError(
                f"figure1: the sweep of {run} goes from L/T = {part['ratio'].iloc[0]:.3g} to {part['ratio'].iloc[-1]:.3g}; "
                f"allowed: at least from {lowest:.3g} to {highest:.3g}"
            )
        ece = np.interp(np.log(axis), np.log(part["ratio"]), part["ece"])
        parts.append(pd.DataFrame({"run": run, "lipschitz": axis, "ece": ece}))
    return pd.concat(parts)

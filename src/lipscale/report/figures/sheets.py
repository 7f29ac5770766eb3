"""Run sheets: a picture of each run, with its training curves and its reliability diagram."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lipscale.errors import LipscaleError
from lipscale.report.figures import reliability, style
from lipscale.store import files
from lipscale.store.checksums import checked

LAYOUT = [["loss", "accuracy", "reliability"], ["lipschitz", "temperature", "reliability"]]
SIZE = (9.6, 4.4)  # inches
DOTS = 110  # per inch: for a screen


def draw(tables: Path, stem: Path) -> None:
    """Write stem/<run>.png for each run of the tables.

    One figure is cleared and drawn on again for all runs, at fixed places: making one, and laying it out, takes several times
    as long as drawing it.

    Args:
        tables: folder with runs.csv, history.csv and reliability.csv.
        stem: the folder of the sheets.

    Raises:
        LipscaleError: a run has a name that is not that of a file.
    """
    runs, history, bins = (pd.read_csv(checked(tables / f"{name}.csv")) for name in ("runs", "history", "reliability"))
    histories, diagrams = dict(list(history.groupby("run"))), dict(list(bins.groupby("run")))

    style.apply()
    plt.rc("figure.constrained_layout", use=False)
    figure, panels = plt.subplot_mosaic(LAYOUT, figsize=SIZE, width_ratios=[1, 1, 1.25])
    figure.subplots_adjust(left=0.08, right=0.99, top=0.83, bottom=0.11, wspace=0.26, hspace=0.2)
    for row in runs.to_dict("records"):
        if Path(str(row["run"])).name != row["run"]:
            raise LipscaleError(f"{tables / 'runs.csv'} has a run {row['run']!r}; allowed: the name of a folder")
        for axes in panels.values():
            axes.clear()
        figure.suptitle(headline(row), fontsize=9, x=0.01, y=0.98, ha="left")
        curves(panels, histories[row["run"]])
        reliability.diagram(panels["reliability"], diagrams[row["run"]])
        panels["reliability"].set(xlabel="confidence of the top label (test)", ylabel="accuracy (test)")
        panels["reliability"].legend(
            handles=reliability.handles(),
            loc="lower right",
            bbox_to_anchor=(1.03, 1),
            ncols=3,
            frameon=False,
            columnspacing=1,
            handlelength=1.5,
        )
        with files.atomic(stem / f"{row['run']}.png") as temporary:
            figure.savefig(temporary, dpi=DOTS, metadata={"Software": None})
    plt.close(figure)


def headline(row: dict) -> str:
    """The run's name and setting, and what came out of it."""
    epsilons = [name.removeprefix("certified_") for name in row if name.startswith("certified_")]
    certified, robust = (
        ", ".join(f"{100 * row[f'{name}_{epsilon}']:.1f}" for epsilon in epsilons) for name in ("certified", "robust")
    )
    parts = [
        "no constraint" if np.isinf(row["lipschitz"]) else f"$L$ = {style.short(row['lipschitz'])}",
        f"$T^*$ = {style.short(row['temperature'])}",
        f"clean {100 * row['clean_accuracy']:.1f} %",
        f"ECE {row['ece']:.3f} → {row['ece_scaled']:.3f}",
        f"at {', '.join(epsilons)}/255: certified {certified} %, AutoAttack {robust} %",
    ]
    title = f"{row['run']}:  {style.setting(row['method'], row['initial_lipschitz'])}, seed {row['seed']}"
    return f"{title}\n{',  '.join(parts)}"


def curves(panels: dict[str, Axes], history: pd.DataFrame) -> None:
    """Loss, accuracy, L and T* by epoch; on logarithmic axes, what is not positive and finite is left out."""
    epochs = history["epoch"]
    for label, column, colour in (("training", "train_loss", 2), ("validation", "validation_nll", 3)):
        panels["loss"].plot(epochs, _positive(history[column]), color=style.COLOURS[colour], label=label)
    panels["loss"].set(yscale="log", ylabel="loss (nats)")
    panels["loss"].legend()
    panels["accuracy"].plot(epochs, 100 * history["validation_accuracy"], color=style.COLOURS[3])
    panels["accuracy"].set(ylabel="accuracy (%, validation)")
    panels["lipschitz"].plot(epochs, _positive(history["lipschitz"]), color=style.COLOURS[4])
    panels["lipschitz"].set(yscale="log", ylabel=f"$L$ ({style.LIPSCHITZ_UNIT})", xlabel="epoch")
    panels["temperature"].axhline(1, color="black", lw=0.6, ls="--")
    panels["temperature"].plot(epochs, _positive(history["temperature"]), color=style.COLOURS[4])
    panels["temperature"].set(yscale="log", ylabel="$T^*$ (validation)", xlabel="epoch")
    for name in ("loss", "accuracy", "lipschitz", "temperature"):
        panels[name].xaxis.set_major_locator(MaxNLocator(integer=True))
    for name in ("loss", "lipschitz", "temperature"):
        style.label_logarithmic(panels[name].yaxis)
    if not np.isfinite(history["lipschitz"]).any():
        panels["lipschitz"].set(xticks=[], yticks=[])
        panels["lipschitz"].minorticks_off()
        panels["lipschitz"].text(0.5, 0.5, "no constraint", ha="center", transform=panels["lipschitz"].transAxes)


def _positive(values: pd.Series) -> pd.Series:
    return values.where((values > 0) & np.isfinite(values))

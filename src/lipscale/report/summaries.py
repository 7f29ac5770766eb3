"""Run summaries: a picture of each run, with its training curves and its reliability diagram."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lipscale.errors import LipscaleError
from lipscale.report import series, style
from lipscale.report.diagrams import diagram, handles
from lipscale.store import files
from lipscale.tables.reader import Tables, epsilons_of
from lipscale.text import short

TABLES = ("runs", "history", "feedback", "reliability")
LAYOUT = [["loss", "accuracy", "reliability"], ["lipschitz", "temperature", "reliability"]]
SIZE = (9.6, 4.4)  # inches
DOTS = 110  # per inch: for a screen


def draw_summaries(folder: Path, output: Path) -> None:
    """Write output/<run>.png for each run of the tables.

    One figure is cleared and drawn on again for all runs, at fixed places: making one, and laying it out, takes several times
    as long as drawing it.

    Args:
        folder: of the tables.
        output: folder of the pictures, results/<experiment>/figures/summaries.

    Raises:
        LipscaleError: a table is missing or altered, or a run has a name that is not that of a file.
    """
    tables = Tables(folder, only=TABLES)
    parts = {name: dict(list(tables[name].groupby("run"))) for name in TABLES if name != "runs"}
    style.apply()
    plt.rc("figure.constrained_layout", use=False)
    figure, panels = plt.subplot_mosaic(LAYOUT, figsize=SIZE, width_ratios=[1, 1, 1.25])
    figure.subplots_adjust(left=0.08, right=0.99, top=0.83, bottom=0.11, wspace=0.26, hspace=0.2)
    for row in tables.runs.to_dict("records"):
        run = row["run"]
        if Path(str(run)).name != run:
            raise LipscaleError(f"{folder / 'runs.csv'} has a run {run!r}; allowed: the name of a folder")
        for axes in panels.values():
            axes.clear()
        figure.suptitle(headline(row), fontsize=9, x=0.01, y=0.98, ha="left")
        _history(panels, parts["history"][run])
        _updates(panels, parts["feedback"][run])
        _reliability(panels["reliability"], parts["reliability"][run])
        with files.atomic(output / f"{run}.png") as temporary:
            figure.savefig(temporary, dpi=DOTS, metadata={"Software": None})
    plt.close(figure)


def headline(row: dict) -> str:
    """The run's name and setting, and what came out of it."""
    epsilons = epsilons_of(row)
    certified, robust = (
        ", ".join(f"{100 * row[f'{name}_{epsilon}']:.1f}" for epsilon in epsilons) for name in ("certified", "robust")
    )
    held_out = not np.isnan(row["temperature"])
    parts = [
        f"$L$ = {short(row['lipschitz'])}" if np.isfinite(row["lipschitz"]) else "no constraint",
        f"$T^*$ = {short(row['temperature'])}" if held_out else "validation split returned to training",
        f"clean {100 * row['clean_accuracy']:.1f} %",
        f"ECE {row['ece']:.3f}" + (f" → {row['ece_scaled']:.3f}" if held_out else ""),
        f"at {', '.join(map(str, epsilons))}/255: certified {certified} %, AutoAttack {robust} %",
    ]
    title = f"{row['run']}:  {series.title(SimpleNamespace(**row))}, seed {row['seed']}"
    return f"{title}\n{',  '.join(parts)}"


def updates(feedback: pd.DataFrame) -> pd.DataFrame:
    """Columns epochs, lipschitz, temperature: L where training starts, and as each update sets it; T* that the update measured.

    The warm-up, before epoch 0, is left out.
    """
    trained = feedback[feedback["epochs"] > 0]
    start = pd.DataFrame({"epochs": [0.0], "lipschitz": trained["lipschitz"].iloc[:1], "temperature": [np.nan]})
    after = trained.assign(lipschitz=trained["next_lipschitz"])[["epochs", "lipschitz", "temperature"]]
    return pd.concat([start, after], ignore_index=True)


def _history(panels: dict[str, Axes], history: pd.DataFrame) -> None:
    """Loss and accuracy by epoch; on a logarithmic axis, what is not positive and finite is left out."""
    epochs = history["epoch"]
    for label, column, colour in (("training", "train_loss", 2), ("validation", "validation_nll", 3)):
        panels["loss"].plot(epochs, _positive(history[column]), color=style.COLOURS[colour], label=label)
    panels["loss"].set(yscale="log", ylabel="loss (nats)")
    panels["loss"].legend()
    panels["accuracy"].plot(epochs, 100 * history["validation_accuracy"], color=style.COLOURS[3])
    panels["accuracy"].set(ylabel="accuracy (%, validation)")
    for name in ("loss", "accuracy"):
        panels[name].xaxis.set_major_locator(MaxNLocator(integer=True))
    style.label_logarithmic(panels["loss"].yaxis)


def _updates(panels: dict[str, Axes], feedback: pd.DataFrame) -> None:
    """L, up to what the last update sets, and T* at each update."""
    table = updates(feedback)
    panels["lipschitz"].plot(table["epochs"], _positive(table["lipschitz"]), color=style.COLOURS[4])
    panels["lipschitz"].set(yscale="log", ylabel=f"$L$ ({style.LIPSCHITZ_UNIT})", xlabel="epoch")
    panels["temperature"].axhline(1, color="black", lw=0.6, ls="--")
    panels["temperature"].plot(table["epochs"], _positive(table["temperature"]), color=style.COLOURS[4])
    panels["temperature"].set(yscale="log", ylabel="$T^*$ (validation)", xlabel="epoch")
    for name in ("lipschitz", "temperature"):
        panels[name].xaxis.set_major_locator(MaxNLocator(integer=True))
        style.label_logarithmic(panels[name].yaxis)
    if not np.isfinite(table["lipschitz"]).any():
        panels["lipschitz"].set(xticks=[], yticks=[])
        panels["lipschitz"].minorticks_off()
        panels["lipschitz"].text(0.5, 0.5, "no constraint", ha="center", transform=panels["lipschitz"].transAxes)


def _reliability(axes: Axes, bins: pd.DataFrame) -> None:
    diagram(axes, bins)
    axes.set(xlabel="confidence of the top label (test)", ylabel="accuracy (test)")
    axes.legend(
        handles=handles(),
        loc="lower right",
        bbox_to_anchor=(1.03, 1),
        ncols=3,
        frameon=False,
        columnspacing=1,
        handlelength=1.5,
    )


def _positive(values: pd.Series) -> pd.Series:
    return values.where((values > 0) & np.isfinite(values))

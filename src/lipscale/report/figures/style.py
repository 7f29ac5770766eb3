"""What the figures share: size and fonts of one column of a paper, and how they are written."""

import logging
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from lipscale.store import files

COLUMN_WIDTH = 3.35  # inches, one column of a two-column paper
PAGE_WIDTH = 6.9  # inches, both of its columns
COLOURS = sns.color_palette("colorblind")
LIPSCHITZ_UNIT = "logits / pixel unit"  # of L: how much logits change per unit of l2 distance, pixels in [0, 1]


def apply() -> None:
    """Set seaborn's and matplotlib's defaults; text stays text in the PDF."""
    matplotlib.use("agg")
    logging.getLogger("fontTools").setLevel(logging.ERROR)  # it warns of the dates inside matplotlib's own font
    sns.set_theme(
        context="paper",
        style="ticks",
        palette="colorblind",
        rc={
            "font.size": 8,
            "axes.labelsize": 8,
            "axes.titlesize": 8,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": 7,
            "legend.title_fontsize": 7,
            "lines.linewidth": 1.2,
            "lines.markersize": 4,
            "axes.linewidth": 0.6,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.linewidth": 0.4,
            "grid.alpha": 0.5,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "xtick.minor.width": 0.4,
            "ytick.minor.width": 0.4,
            "xtick.minor.size": 1.5,
            "ytick.minor.size": 1.5,
            "pdf.fonttype": 42,
            "savefig.dpi": 300,
            "figure.constrained_layout.use": True,
        },
    )


def write(figure: Figure, numbers: pd.DataFrame, stem: Path) -> None:
    """Write stem.pdf, stem.png and stem.csv, the numbers in the figure; the same tables give the same bytes."""
    for suffix, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        with files.atomic(stem.with_suffix(f".{suffix}")) as temporary:
            figure.savefig(temporary, metadata=metadata)
    with files.atomic(stem.with_suffix(".csv")) as temporary:
        numbers.to_csv(temporary, index=False)


class _MinorLabels(LogFormatter):
    """Labels between the powers of ten where the axis spans few of them."""

    def __call__(self, value: float, position: int | None = None) -> str:
        return short(value) if super().__call__(value, position) else ""


def label_logarithmic(axis: Axis) -> None:
    """Short numbers at the powers of ten, and between them where the axis spans few."""
    axis.set_major_formatter(short)
    axis.set_minor_formatter(_MinorLabels(labelOnlyBase=False, minor_thresholds=(1.5, 0.5)))


def short(value: float, _position: int | None = None) -> str:
    """A number in as few digits as it takes, 0.01, 3, 1000; also serves as a tick formatter."""
    return f"{float(f'{value:.3g}'):g}"


def setting(method: str, initial_lipschitz: float) -> str:
    """What tells a setting from the others, for a title."""
    names = {"list": f"LiST, $L_0 = {short(initial_lipschitz)}$", "fixed": f"fixed $L = {short(initial_lipschitz)}$"}
    return names.get(method, "no constraint")


def spread(table: pd.DataFrame, by: str | list[str], column: str, geometric: bool = False) -> pd.DataFrame:
    """Mean (geometric on request), smallest and largest value of a column over seeds, and their number, a row per group."""
    groups = table.assign(value=np.log(table[column]) if geometric else table[column]).groupby(by)["value"]
    summary = groups.agg(mean="mean", low="min", high="max")
    summary = (np.exp(summary) if geometric else summary).assign(seeds=groups.count())
    return summary.reset_index()

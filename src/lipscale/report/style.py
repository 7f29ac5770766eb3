"""What the figures share: size, fonts and colours, for one or both columns of a paper."""

import logging
from collections.abc import Iterable, Sequence

import matplotlib
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, LogLocator, NullFormatter

from lipscale.text import short

COLUMN_WIDTH = 3.35  # inches, one column of a two-column paper
PAGE_WIDTH = 6.9  # inches, both of its columns
COLOURS = sns.color_palette("colorblind")
LIPSCHITZ_UNIT = "logits / pixel unit"  # of L: how much logits change per unit of l2 distance, pixels in [0, 1]


def apply() -> None:
    """Set seaborn's and matplotlib's defaults; text stays text in the PDF."""
    matplotlib.use("agg")
    logging.getLogger("fontTools").setLevel(logging.ERROR)  # it warns of dates inside matplotlib's own font
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


class _MinorLabels(LogFormatter):
    """Labels between the powers of ten where the axis spans few of them."""

    def __call__(self, value: float, position: int | None = None) -> str:
        return short(value) if super().__call__(value, position) else ""


def label_logarithmic(axis: Axis) -> None:
    """Short numbers at the powers of ten, and between them where the axis spans few."""
    axis.set_major_formatter(short)
    axis.set_minor_formatter(_MinorLabels(labelOnlyBase=False, minor_thresholds=(1.5, 0.5)))


def colours(count: int) -> list:
    """A colour for each of a rising series of values; without the last of viridis, a yellow too pale on white."""
    return sns.color_palette("viridis", count + 1)[:-1]


def positive_range(values: Iterable[float]) -> tuple[float, float]:
    """The smallest and the largest of the positive values, for a logarithmic scale; some range where there are none."""
    positive = [value for value in values if value > 0]
    return (min(positive), max(positive)) if positive else (1e-3, 1.0)


def ece_bar(figure: Figure, mappable: ScalarMappable, panels: Sequence[Axes]) -> None:
    """The colour bar of ECE, on a logarithmic scale."""
    bar = figure.colorbar(mappable, ax=panels, label="ECE (15 bins, test)", fraction=0.06, pad=0.02)
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bar.ax.yaxis.set_major_formatter(short)
    bar.ax.yaxis.set_minor_formatter(NullFormatter())

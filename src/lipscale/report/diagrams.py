"""Reliability diagrams, for the figure of that name and the run summaries."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lipscale.report import style

LARGEST_MARKER = 6  # size, in points, of the marker of a bin that has all images
MARKERS = {0: "o", 1: "D"}  # before and after scaling
LABELS = {0: "as trained, $T = 1$", 1: "logits divided by $T^*$"}


def diagram(axes: Axes, bins: pd.DataFrame) -> None:
    """Accuracy of the bins against their confidence; a marker's size falls with the fourth root of the share of images."""
    axes.plot([0, 1], [0, 1], color="black", lw=0.6, ls="--", zorder=1)
    bins = bins[bins["images"] > 0]
    for scaled, part in bins.groupby("scaled"):
        line = part["confidence"], part["accuracy"]
        axes.plot(*line, color=style.COLOURS[scaled], lw=0.5, alpha=0.5, zorder=2 + scaled)
        axes.scatter(
            *line,
            s=LARGEST_MARKER**2 * (part["images"] / part["images"].sum()) ** 0.5,
            marker=MARKERS[scaled],
            facecolor=_face(scaled),
            edgecolor=style.COLOURS[scaled],
            lw=0.8 * scaled,
            zorder=2 + scaled,
        )
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")


def handles() -> list[Line2D]:
    """The legend of a diagram."""
    drawn = [
        Line2D([], [], color=style.COLOURS[scaled], marker=MARKERS[scaled], mfc=_face(scaled), lw=0.5, label=label)
        for scaled, label in LABELS.items()
    ]
    return [*drawn, Line2D([], [], color="black", lw=0.6, ls="--", label="calibrated")]


def _face(scaled: int) -> object:
    """Markers after scaling are hollow: where both are the same, both are seen."""
    return "none" if scaled else style.COLOURS[scaled]

"""Reliability diagrams: confidence against accuracy, before and after temperature scaling, a panel for each setting."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lipscale.report.figures import style
from lipscale.store.checksums import checked

COLUMNS = 5  # of panels, at most
LARGEST_MARKER = 6  # size, in points, of the marker of a bin that has all images
MARKERS = {0: "o", 1: "D"}  # before and after scaling
LABELS = {0: "as trained, $T = 1$", 1: "logits divided by $T^*$"}


def draw(tables: Path, stem: Path) -> None:
    """Write stem.pdf, .png and .csv; LiST first, fixed L and the network without constraint from a new row on.

    Args:
        tables: folder with reliability.csv.
        stem: path of the figure without suffix.
    """
    numbers = over_seeds(pd.read_csv(checked(tables / "reliability.csv")))
    rows = _rows(list(numbers.groupby(["method", "initial_lipschitz"])))
    columns = max(map(len, rows))

    style.apply()
    width = style.PAGE_WIDTH if columns > 2 else style.COLUMN_WIDTH
    height = 0.7 + len(rows) * (0.2 + width / columns)
    figure, panels = plt.subplots(len(rows), columns, figsize=(width, height), sharex=True, sharey=True, squeeze=False)
    for k, row in enumerate(rows):
        for column, axes in enumerate(panels[k]):
            if column >= len(row):
                axes.remove()
                continue
            setting, part = row[column]
            diagram(axes, part)
            before, after = part.groupby("scaled")["ece"].first()
            axes.set_title(f"{style.setting(*setting)}\nECE {before:.3f} → {after:.3f}", fontsize=7)
            axes.tick_params(labelbottom=k + 1 == len(rows) or column >= len(rows[k + 1]))
    figure.supxlabel("confidence of the top label (test)", fontsize=8)
    figure.supylabel("accuracy (test)", fontsize=8)
    figure.legend(handles=handles(), loc="outside upper center", ncols=3 if columns > 2 else 1, frameon=False)
    style.write(figure, numbers, stem)
    plt.close(figure)


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The bins of each setting, the images of its seeds taken together; `ece` is the mean over seeds of their ECE."""
    setting, bins = ["method", "initial_lipschitz", "scaled"], ["low", "high"]
    gaps = (table["images"] * (table["accuracy"] - table["confidence"]).abs()).groupby([table["run"], table["scaled"]])
    table = table.assign(ece=gaps.transform("sum") / table.groupby(["run", "scaled"])["images"].transform("sum"))
    for name in ("confidence", "accuracy"):
        table[name] *= table["images"]
    pooled = table.groupby([*setting, *bins])[["images", "confidence", "accuracy"]].sum().reset_index()
    for name in ("confidence", "accuracy"):
        pooled[name] /= pooled["images"].where(pooled["images"] > 0)
    runs = table.drop_duplicates(["run", "scaled"]).groupby(setting)
    return pooled.merge(runs["ece"].agg(ece="mean", seeds="count").reset_index(), on=setting)


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
            facecolor=style.COLOURS[scaled] if scaled == 0 else "none",  # where both are the same, both are seen
            edgecolor=style.COLOURS[scaled],
            lw=0.8 * scaled,
            zorder=2 + scaled,
        )
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.05, 1.05), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")


def handles() -> list[Line2D]:
    """The legend of a diagram."""
    drawn = [
        Line2D(
            [],
            [],
            color=style.COLOURS[scaled],
            marker=MARKERS[scaled],
            markerfacecolor=style.COLOURS[scaled] if scaled == 0 else "none",
            lw=0.5,
            label=label,
        )
        for scaled, label in LABELS.items()
    ]
    return [*drawn, Line2D([], [], color="black", lw=0.6, ls="--", label="calibrated")]


def _rows(panels: list) -> list[list]:
    """Panels of LiST, then those of the others, in rows of at most COLUMNS."""
    ours = [panel for panel in panels if panel[0][0] == "list"]
    others = [panel for panel in panels if panel[0][0] != "list"]
    return [part[k : k + COLUMNS] for part in (ours, others) for k in range(0, len(part), COLUMNS)]

"""Reliability diagrams: confidence against accuracy, before and after temperature scaling, a panel for each setting."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from lipscale.report import series, style
from lipscale.report.diagrams import diagram, handles
from lipscale.tables.reader import Tables, method, standard

TITLE = "reliability diagrams"
TABLES = ("reliability",)
COLUMNS = 5  # of panels, at most


def draw(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    """Methods with feedback first, the others from a new row on."""
    numbers = series.in_order(over_seeds(tables["reliability"]), tables["reliability"])
    rows = _rows(numbers)
    columns = max(map(len, rows))

    width = style.PAGE_WIDTH if columns > 2 else style.COLUMN_WIDTH
    height = 0.7 + len(rows) * (0.2 + width / columns)
    figure, panels = plt.subplots(len(rows), columns, figsize=(width, height), sharex=True, sharey=True, squeeze=False)
    for k, row in enumerate(rows):
        for column, axes in enumerate(panels[k]):
            if column >= len(row):
                axes.remove()
                continue
            title, part = row[column]
            diagram(axes, part)
            ece = " → ".join(f"{value:.3f}" for value in part.groupby("scaled")["ece"].first())  # before, and where known after
            axes.set_title(f"{title}\nECE {ece}", fontsize=7)
            axes.tick_params(labelbottom=k + 1 == len(rows) or column >= len(rows[k + 1]))
    figure.supxlabel("confidence of the top label (test)", fontsize=8)
    figure.supylabel("accuracy (test)", fontsize=8)
    figure.legend(handles=handles(), loc="outside upper center", ncols=3 if columns > 2 else 1, frameon=False)
    return figure, numbers


def over_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """The bins of each setting, the images of its seeds taken together; `ece` is the mean over seeds of their ECE."""
    setting, bins = [*series.SETTING, "scaled"], ["low", "high"]
    gaps = (table["images"] * (table["accuracy"] - table["confidence"]).abs()).groupby([table["run"], table["scaled"]])
    table = table.assign(ece=gaps.transform("sum") / table.groupby(["run", "scaled"])["images"].transform("sum"))
    for name in ("confidence", "accuracy"):
        table[name] *= table["images"]
    pooled = table.groupby([*setting, *bins])[["images", "confidence", "accuracy"]].sum().reset_index()
    for name in ("confidence", "accuracy"):
        pooled[name] /= pooled["images"].where(pooled["images"] > 0)
    runs = table.drop_duplicates(["run", "scaled"]).groupby(setting)
    return pooled.merge(runs["ece"].agg(ece="mean", seeds="count").reset_index(), on=setting)


def _rows(numbers: pd.DataFrame) -> list[list]:
    """Titles and bins of the panels, in rows of at most COLUMNS, from a new row on: methods with feedback from each initial
    L, LiST along its offsets, the other methods, and objectives without constraint.
    """
    usual, front = standard(numbers), series.front(numbers)
    feedback = pd.Series([method(name).feedback for name in usual["method"]], index=usual.index, dtype=bool)
    groups = [usual[feedback], front[~series.plain(front)], usual[~feedback]]
    if len(groups[1]) and groups[0]["setting"].nunique() == 1:
        groups[:2] = usual[:0], front  # one initial L: its panels in one row
    groups.append(numbers[series.free(numbers) & ~series.usual(numbers)])
    parts = [_panels(group, one_start=group is groups[1]) for group in groups]
    return [part[k : k + COLUMNS] for part in parts for k in range(0, len(part), COLUMNS)]


def _panels(table: pd.DataFrame, one_start: bool) -> list[tuple[str, pd.DataFrame]]:
    """Title and bins of each setting, by method, variant, initial L and offset."""
    groups = [(next(part.itertuples()), part) for _, part in table.groupby("setting", sort=False)]
    groups.sort(key=lambda group: (method(group[0].method).order, group[0].initial_lipschitz, group[0].offset))
    return [(series.title(row, several_starts=not one_start), part) for row, part in groups]

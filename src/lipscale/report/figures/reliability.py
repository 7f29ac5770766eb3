"""Reliability diagrams: confidence against accuracy, before and after temperature scaling, a panel for each setting."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from lipscale.report import style
from lipscale.report.diagrams import diagram, handles
from lipscale.tables.reader import Tables, by_setting, method, standard
from lipscale.text import short

TITLE = "reliability diagrams"
TABLES = ("reliability",)
COLUMNS = 5  # of panels, at most


def draw(tables: Tables) -> tuple[Figure, pd.DataFrame]:
    """Methods with feedback first, the others from a new row on."""
    numbers = over_seeds(standard(tables["reliability"]))
    rows = _rows(by_setting(numbers))
    columns = max(map(len, rows))

    width = style.PAGE_WIDTH if columns > 2 else style.COLUMN_WIDTH
    height = 0.7 + len(rows) * (0.2 + width / columns)
    figure, panels = plt.subplots(len(rows), columns, figsize=(width, height), sharex=True, sharey=True, squeeze=False)
    for k, row in enumerate(rows):
        for column, axes in enumerate(panels[k]):
            if column >= len(row):
                axes.remove()
                continue
            (name, start), part = row[column]
            diagram(axes, part)
            ece = " → ".join(f"{value:.3f}" for value in part.groupby("scaled")["ece"].first())  # before, and where known after
            axes.set_title(f"{method(name).setting_title(start, short)}\nECE {ece}", fontsize=7)
            axes.tick_params(labelbottom=k + 1 == len(rows) or column >= len(rows[k + 1]))
    figure.supxlabel("confidence of the top label (test)", fontsize=8)
    figure.supylabel("accuracy (test)", fontsize=8)
    figure.legend(handles=handles(), loc="outside upper center", ncols=3 if columns > 2 else 1, frameon=False)
    return figure, numbers


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


def _rows(panels: list) -> list[list]:
    """Panels of methods with feedback, then those of the others, in rows of at most COLUMNS."""
    ours = [panel for panel in panels if method(panel[0][0]).feedback]
    others = [panel for panel in panels if not method(panel[0][0]).feedback]
    return [part[k : k + COLUMNS] for part in (ours, others) for k in range(0, len(part), COLUMNS)]

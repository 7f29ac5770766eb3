"""Drawing a figure that is found by its name, and writing it."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from lipscale import discovery
from lipscale.report import style
from lipscale.store import files
from lipscale.tables.reader import Tables

FIGURES = "lipscale.report.figures"
SUFFIXES = ("pdf", "png", "csv")
METADATA = {"pdf": {"CreationDate": None}, "png": {"Software": None}}  # so that the same tables give the same bytes


def names() -> list[str]:
    """All figures there are, sorted."""
    return discovery.names(FIGURES)


def draw(name: str, tables: Path, stem: Path) -> None:
    """Write a figure: stem.pdf, stem.png and stem.csv, the numbers in it.

    Args:
        name: of a module in `lipscale.report.figures`, or in an extension folder.
        tables: folder of the tables; the figure can read those that its TABLES names, and config.yaml.
        stem: path of the figure without suffix.

    Raises:
        LipscaleError: there is no such figure, or a table is missing or altered.
    """
    module = discovery.load(FIGURES, name)
    style.apply()
    figure, numbers = module.draw(Tables(tables, only=module.TABLES))
    try:
        write(figure, numbers, stem)
    finally:
        plt.close(figure)


def write(figure: Figure, numbers: pd.DataFrame, stem: Path) -> None:
    """Write stem.pdf, stem.png and stem.csv."""
    for suffix, metadata in METADATA.items():
        with files.atomic(stem.parent / f"{stem.name}.{suffix}") as temporary:
            figure.savefig(temporary, metadata=metadata)
    files.write_table(numbers, stem.parent / f"{stem.name}.csv")

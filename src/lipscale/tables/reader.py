"""Reading the tables of an experiment: lazily, with their checksums compared."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd

from lipscale.config.runs import STANDARD
from lipscale.errors import LipscaleError
from lipscale.method.methods import METHODS, Method
from lipscale.store import files
from lipscale.store.checksums import checked
from lipscale.tables.key import KEY

LIST, FIXED = "list", "fixed"  # the methods that the poster's claims compare
TEXT = {
    name: str for name in ("run", "setting", "variant", "claim", "config_hash", "data_sha256", "commit")
}  # may look like numbers


class Tables:
    """The tables in a folder, by name: `tables.runs` or `tables["runs"]` is runs.csv. They are shared: change copies only.

    Args:
        folder: results/<experiment>/tables.
        only: names that may be read, such as those that a figure declares; None: all.
        check: compare checksums; published tables have none.

    Raises (all readers):
        LipscaleError: a table is missing, altered or not among `only`.
    """

    def __init__(self, folder: str | Path, only: Iterable[str] | None = None, check: bool = True):
        self.folder = Path(folder)
        self._only = None if only is None else set(only)
        self._path = checked if check else _existing
        self._read: dict[str, pd.DataFrame] = {}
        self._config: Mapping | None = None

    @classmethod
    def in_memory(cls, frames: Mapping[str, pd.DataFrame], config: Mapping | None = None) -> "Tables":
        """Tables that lie in no folder."""
        tables = cls("tables in memory", only=frames)
        tables._read, tables._config = dict(frames), config or {}
        return tables

    def __getitem__(self, name: str) -> pd.DataFrame:
        if self._only is not None and name not in self._only:
            raise LipscaleError(f"the table {name} is not declared; allowed: {', '.join(sorted(self._only))}")
        if name not in self._read:
            self._read[name] = self._images() if name == "images" else self._table(f"{name}.csv")
        return self._read[name]

    def _table(self, file: str) -> pd.DataFrame:
        return pd.read_csv(self._path(self.folder / file), dtype=TEXT)

    def _images(self) -> pd.DataFrame:
        images, runs = self._table("images.csv.gz"), self._table("runs.csv")
        return runs[list(KEY)].merge(images, on="run", validate="one_to_many")

    @property
    def runs(self) -> pd.DataFrame:
        return self["runs"]

    @property
    def images(self) -> pd.DataFrame:
        """A row per run and test image, images.csv.gz, with the columns that say which run it is."""
        return self["images"]

    @property
    def config(self) -> Mapping:
        """The settings of the experiment, from config.yaml."""
        if self._config is None:
            self._config = files.read_yaml(self._path(self.folder / "config.yaml"))
        return self._config

    @property
    def epsilons(self) -> list[int]:
        """The budgets of the attacks in 1/255, in the order of the columns of runs.csv."""
        return epsilons_of(self.runs)

    @property
    def posthoc_lipschitz(self) -> float:
        """L of the fixed-L runs whose logits Figure 1 and claim 1 divide by T."""
        return float(self.config["figures"]["posthoc_lipschitz"])


def epsilons_of(columns: Iterable[str]) -> list[int]:
    """The budgets of the attacks in 1/255, from the names robust_EPS among columns of runs.csv."""
    return [int(found[1]) for name in columns if (found := re.fullmatch(r"robust_(\d+)", name))]


def _existing(path: Path) -> Path:
    if not path.exists():
        raise LipscaleError(f"{path} is missing; allowed: results that were published with all their tables")
    return path


def method(name: str) -> Method:
    """A method by its name in a table. Raises LipscaleError where it is unknown."""
    if name not in METHODS:
        raise LipscaleError(f"the tables have a method {name!r}; allowed: {', '.join(METHODS)}")
    return METHODS[name]


def where(table: pd.DataFrame, wanted: Callable[[Method], bool]) -> pd.DataFrame:
    """The rows of a table whose method is wanted."""
    names = [name for name in table["method"].unique() if wanted(method(name))]
    return table[table["method"].isin(names)]


def of(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """The rows of one method."""
    return table[table["method"] == name]


def standard(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the settings that the section `runs` of the config lists directly, without those of its variants.

    They come first in every table, and share offset and variant.
    """
    first = table.iloc[0]
    return table[(table["variant"] == first["variant"]) & (table["offset"] == first["offset"])]


def settings_of(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The name and the rows of each setting, in the order of the table."""
    return list(table.groupby("setting", sort=False))


def by_setting(table: pd.DataFrame) -> list[tuple[tuple[str, float], pd.DataFrame]]:
    """(method, initial L) and the rows of each standard setting: methods in the order of METHODS, then by initial L."""
    groups = table.groupby(["method", "initial_lipschitz"])
    position = {name: index for index, name in enumerate(METHODS)}
    return sorted(groups, key=lambda group: (position[method(group[0][0]).name], group[0][1]))


def plain_title(rows: pd.DataFrame, number: Callable[[float], str]) -> str:
    """Title without TeX of the setting that all rows share, such as `LiST, L0 = 0.1, xi = 36, focal`."""
    row = rows.iloc[0]
    parts = [method(row["method"]).setting_title(row["initial_lipschitz"], number).replace("$", "").replace("_", "")]
    if row["offset"]:
        parts.append(f"xi = {number(row['offset'])}")
    if row["variant"] != STANDARD:
        parts.append(row["variant"])
    return ", ".join(parts)

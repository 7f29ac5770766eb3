"""Pages of the report that are no figures: the runs, the claims, where all of it comes from. Each is one HTML file that needs
nothing else, from the tables; `page.html` lays it out, escapes what it is given, and makes its tables sortable.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lipscale.store import files, provenance
from lipscale.store.checksums import checked

ORIGIN = ["commit", "device", "machine", "versions", "attack", "data_sha256"]  # columns of runs.csv that runs share
PACKAGES = ("numpy", "pandas", "matplotlib", "seaborn")  # that draw
GLOSSARY = {
    "initial_lipschitz": "L0, the Lipschitz constant that training starts with; ∞ without constraint",
    "lipschitz": "L at the end of training, in logits per pixel unit (l2, pixels in [0, 1])",
    "lipschitz_certified": "upper bound on the constant of the exported network, proven after training",
    "temperature": "T*, which minimises the negative log-likelihood of the validation split; above 1: over-confident",
    "clean_accuracy": "share of test images that are right",
    "ece, ece_scaled": "expected calibration error on the test split, 15 equal-width bins, before and after scaling by T*",
    "nll, nll_scaled": "negative log-likelihood on the test split in nats, before and after",
    "evaluated_images": "test images that robust accuracy is taken over; evaluated_clean_accuracy is on the same ones",
    "certified_EPS, pair_certified_EPS": "share of test images that are right with a certified radius of at least EPS/255, by "
    "the poster's formula, and by pairs of classes",
    "robust_EPS": "share of evaluated images that are right and not broken by AutoAttack at EPS/255 (l2)",
    "attacked_EPS, audited_EPS": "images that AutoAttack was run on, and how many of them were certified",
}


@dataclass(frozen=True)
class Table:
    """A table of a page; its first column names the row."""

    caption: str
    data: pd.DataFrame

    @property
    def columns(self) -> list[str]:
        return list(self.data)

    @property
    def numeric(self) -> set[str]:
        return set(self.data.select_dtypes("number"))

    @property
    def rows(self) -> list[dict]:
        return self.data.astype(object).where(self.data.notna(), "").to_dict("records")


def write(name: str, tables: Path, data: Path | None, launched: str | None, output: Path) -> None:
    """Write a page: `runs`, `claims` or `provenance`.

    Args:
        tables: folder of the tables.
        data: folder of the prepared data set; provenance only.
        launched: version of Snakemake and its command; provenance only.
        output: the HTML file.
    """
    page = _provenance(tables, data, launched) if name == "provenance" else {"runs": _runs, "claims": _claims}[name](tables)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = shown
    empty = {"facts": {}, "glossary": {}, "settings": ""}
    files.write_text(output, environment.get_template("page.html").render(empty | page))


def shown(value: object) -> str:
    """A value as a cell of a table shows it: four digits of a fraction, ∞ for infinity."""
    if not isinstance(value, float):
        return str(value)
    return "∞" if value == np.inf else f"{value:.4g}"


def _runs(tables: Path) -> dict:
    runs = pd.read_csv(checked(tables / "runs.csv"))
    return {
        "title": "Runs",
        "text": "A row per run; a press on the head of a column sorts by it. Accuracies and calibration errors are fractions.",
        "tables": [Table(f"{len(runs)} runs", runs.drop(columns=[*ORIGIN, "config_hash"], errors="ignore"))],
        "glossary": GLOSSARY,
    }


def _claims(tables: Path) -> dict:
    claims = pd.read_csv(checked(tables / "claims.csv"), dtype={"claim": str})
    return {
        "title": "Claims of the poster",
        "text": "Each claim has a measure and a threshold, both fixed in the code; mean, smallest and largest value are over "
        "runs or seeds. A claim holds where all values meet the threshold, and does not hold where no seed of some starting "
        "point does.",
        "tables": [Table("Verdicts", claims)],
    }


def _provenance(tables: Path, data: Path, launched: str) -> dict:
    settings = checked(tables / "config.yaml").read_text(encoding="utf-8")
    runs = pd.read_csv(checked(tables / "runs.csv"), dtype={"config_hash": str, "commit": str})
    manifest = files.read_json(checked(data / "manifest.json"))
    counts = ", ".join(f"{split} {count['images']}" for split, count in manifest["counts"].items())
    origins = runs.groupby(ORIGIN, sort=False).agg(runs=("run", "size"), seconds=("train_seconds", "sum")).reset_index()
    origins = origins[["commit", "runs", "seconds", *ORIGIN[1:]]].rename(columns={"seconds": "training_seconds"})
    return {
        "title": "Provenance",
        "text": "What trained, measured and attacked the networks, as each run recorded it, and what wrote this page, last of "
        "all.",
        "facts": {
            "Data set": f"{manifest['dataset']}, images of shape {manifest['image_shape']}; {counts}",
            "Source of the data": ", ".join(f"{name}: {value}" for name, value in manifest["source"].items()),
            "Classes": ", ".join(map(str, manifest["classes"])),
            "SHA-256 of the prepared data": manifest["arrays_sha256"],
            "Launched by": launched,
            "This page": f"commit {provenance.commit()}; {provenance.in_words(provenance.machine())}; "
            f"{provenance.listed(provenance.versions(PACKAGES))}",
        },
        "tables": [
            Table("Where the runs come from", origins),
            Table("Each run", runs[["run", "config_hash", "commit", "train_seconds", "feedback_seconds", "attack_seconds"]]),
        ],
        "settings": settings,
    }

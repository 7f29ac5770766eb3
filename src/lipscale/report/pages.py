"""Pages of the report that are no figures: the runs, the claims, the provenance. Each is one HTML file that needs nothing
else. `page.html` lays it out, escapes what it is given and makes its tables sortable.
"""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lipscale.errors import LipscaleError
from lipscale.report.page_tables import Table, run_table, settings_table
from lipscale.store import files, provenance
from lipscale.store.checksums import checked
from lipscale.tables.reader import Tables

ORIGIN = ["commit", "device", "machine", "versions", "attack", "data_sha256"]  # columns of runs.csv that runs share
PACKAGES = ("numpy", "pandas", "matplotlib", "seaborn")  # that draw
NAMES = ("runs", "claims", "provenance")
GLOSSARY = {
    "initial_lipschitz": "L0, the Lipschitz constant that training starts with; ∞ without constraint",
    "lipschitz": "L at the end of training, in logits per pixel unit (l2, pixels in [0, 1])",
    "lipschitz_certified": "upper bound on the constant of the exported network, proven after training",
    "temperature": "T*, which minimises the negative log-likelihood of the validation split; above 1: over-confident",
    "clean_accuracy": "share of test images that are right",
    "ece, ece_scaled": "expected calibration error on the test split, 15 equal-width bins, before and after scaling by T*",
    "nll, nll_scaled": "negative log-likelihood on the test split in nats, before and after",
    "brier, classwise_ece, adaptive_ece": "Brier score, from 0 to 2; ECE of the probability of each class, mean over classes; "
    "ECE in 15 bins of equally many images; _scaled: after scaling by T*",
    "validation_accuracy, validation_...": "of the validation split, on which T* was fitted",
    "evaluated_images": "test images that robust accuracy is taken over; evaluated_clean_accuracy is on the same ones",
    "certified_EPS, pair_certified_EPS": "share of test images that are right with a certified radius of at least EPS/255, by "
    "the poster's formula, and by pairs of classes",
    "evaluated_certified_EPS": "certified_EPS over the evaluated images, to be compared with robust_EPS",
    "robust_EPS": "share of evaluated images that are right and not broken by AutoAttack at EPS/255 (l2)",
    "attacked_EPS, spot_checked_EPS": "images that AutoAttack was run on; those of them that are certified (spot checks)",
}


def write(name: str, tables: Path, data: Path | None, launched: str | None, output: Path) -> None:
    """Write a page: `runs`, `claims` or `provenance`.

    Args:
        tables: folder of the tables.
        data: folder of the prepared data set; provenance only.
        launched: version of Snakemake and its command; provenance only.
        output: the HTML file.

    Raises:
        LipscaleError: the page is unknown, or a file it shows is missing or altered.
    """
    if name not in NAMES:
        raise LipscaleError(f"there is no page {name!r}; allowed: {', '.join(NAMES)}")
    if name == "provenance":
        if not (data and launched):
            raise LipscaleError("the page provenance needs the folder of the data and the command that launched the workflow")
        page = _provenance(Tables(tables), data, launched)
    else:
        page = {"runs": _runs, "claims": _claims}[name](Tables(tables))
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    empty = {"facts": {}, "glossary": {}, "settings": ""}
    files.write_text(output, environment.get_template("page.html").render(empty | page))


def _runs(tables: Tables) -> dict:
    return {
        "title": "Runs",
        "text": "First a row per setting, the mean over its seeds; then a row per run. Accuracies and calibration errors are "
        "fractions; their confidence intervals are in runs.csv and intervals.csv. Click a column header to sort.",
        "tables": [
            settings_table(tables.runs, tables.epsilons),
            run_table(tables.runs.drop(columns=[*ORIGIN, "config_hash"], errors="ignore"), tables.epsilons),
        ],
        "glossary": GLOSSARY,
    }


def _claims(tables: Tables) -> dict:
    return {
        "title": "Claims",
        "text": "Each claim has a measure and a threshold, both fixed in the code. The estimate is a mean over seeds; low and "
        "high are its 90 % interval over seeds and test images. A claim holds if the whole interval is on its side of the "
        "threshold, and does not hold if the whole interval is on the other side. Click a column header to sort.",
        "tables": [Table("Verdicts", tables["claims"])],
    }


def _provenance(tables: Tables, data: Path, launched: str) -> dict:
    runs, manifest = tables.runs, files.read_json(checked(data / "manifest.json"))
    counts = ", ".join(f"{split} {count['images']}" for split, count in manifest["counts"].items())
    origins = runs.groupby(ORIGIN, sort=False).agg(runs=("run", "size"), seconds=("train_seconds", "sum")).reset_index()
    origins = origins[["commit", "runs", "seconds", *ORIGIN[1:]]].rename(columns={"seconds": "training_seconds"})
    each = ["run", "config_hash", "commit", "train_seconds", "feedback_seconds", "attack_seconds"]
    return {
        "title": "Provenance",
        "text": "What trained, measured and attacked the networks, as each run recorded it, and what wrote this page. "
        "Click a column header to sort.",
        "facts": {
            "Data set": f"{manifest['dataset']}, images of shape {manifest['image_shape']}; {counts}",
            "Source of the data": ", ".join(f"{name}: {value}" for name, value in manifest["source"].items()),
            "Classes": ", ".join(map(str, manifest["classes"])),
            "SHA-256 of the prepared data": manifest["arrays_sha256"],
            "Launched by": launched,
            "This page": f"commit {provenance.commit()}; {provenance.in_words(provenance.machine())}; "
            f"{provenance.listed(provenance.versions(PACKAGES))}",
        },
        "tables": [Table("Where the runs come from", origins), Table("Each run", runs[each])],
        "settings": checked(tables.folder / "config.yaml").read_text(encoding="utf-8"),
    }

"""The part of an experiment's results that belongs into the repository: figures, tables, attacked images, a page on them."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pandas as pd

from lipscale.errors import LipscaleError
from lipscale.planning import record as records
from lipscale.report import draw, published_models
from lipscale.store import files, provenance
from lipscale.store.checksums import checked
from lipscale.tables.claims import write_claims
from lipscale.tables.extend import write_extended
from lipscale.tables.reader import Tables, plain_title, settings_of, where
from lipscale.text import markdown_table, short

TABLES = (  # verdicts, what they follow from, and what more runs are added to
    "runs.csv", "intervals.csv", "images.csv.gz", "history.csv", "feedback.csv", "sweep.csv", "reliability_band.csv",
    "config.yaml", "claims.csv", "claims.md",
)  # fmt: skip
FALSIFICATION = "falsification.csv"


def publish(results: Path, folder: Path, command: str, models: Sequence[str] = (), add: bool = False) -> None:
    """Copy figures, verdicts with their tables and, where it was made, falsification.csv; write the other files.

    record.json says what the experiment cost, for `plan`.

    Args:
        results: results/<experiment>.
        folder: results/published/<experiment>, where all of that goes.
        command: what made the results, for the page.
        models: runs whose trained networks are published too.
        add: keep the runs, networks and record that are in `folder`, and add the new runs; figures, verdicts and page are then
            of all runs.

    Raises:
        LipscaleError: something is missing, or runs are from code with uncommitted changes; with `add`, see `write_extended`.
    """
    new = Tables(results / "tables").runs
    if others := [commit for commit in new["commit"].unique() if len(commit) != 40]:
        raise LipscaleError(f"runs come from {', '.join(others)}; allowed: commits, without uncommitted changes")
    networks = published_models.model_files(results, folder, models, list(new["run"]), add)
    with _with_published(results, folder) if add else nullcontext(results) as source:
        wanted, tables = wanted_files(source), Tables(source / "tables")
        record, described = records.measure(results).model_dump(mode="json"), facts(results, tables, command)
        folder.mkdir(parents=True, exist_ok=True)
        for path in wanted:
            shutil.copyfile(path, folder / path.name)
        names = published_models.write_models(results, folder, networks, add)
        if not (add and (folder / records.NAME).exists()):
            files.write_json(folder / records.NAME, record)
        described["networks"] = published_models.in_words(folder.name, names)
        lines = [f"# {results.name}: published results", "", "Written by `python -m lipscale publish`.", ""]
        lines.append(markdown_table(["", ""], described.items()))
        lines += ["Mean over seeds, in brackets smallest and largest. The runs themselves are in [`runs.csv`](runs.csv).", ""]
        files.write_text(folder / "README.md", "\n".join([*lines, summary(tables)]))


@contextmanager
def _with_published(results: Path, folder: Path) -> Iterator[Path]:
    """A folder like `results` with tables, figures and verdicts of all runs, of those in `folder` too; it is removed again."""
    with tempfile.TemporaryDirectory(dir=results, prefix=".publish-") as name:
        both = Path(name)
        for part in ("tables", "figures"):
            (both / part).mkdir()
        write_extended(folder, results / "tables", both / "tables")
        write_claims(both / "tables")
        for figure in draw.names():
            draw.draw(figure, both / "tables", both / "figures" / figure)
        yield both


def wanted_files(results: Path) -> list[Path]:
    """All figures there are, and tables. Raises LipscaleError where one is missing, or a table is altered."""
    figures = [results / "figures" / f"{name}.{suffix}" for name in draw.names() for suffix in draw.SUFFIXES]
    tables = [results / "tables" / name for name in TABLES]
    falsification = results / "tables" / FALSIFICATION
    tables += [falsification] if falsification.exists() else []
    for path in (*figures, *tables):
        if not path.exists():
            raise LipscaleError(f"{path} is missing; allowed: a finished experiment")
    for path in tables:
        if path.suffix != ".md":
            checked(path)
    return [*figures, *tables]


def facts(results: Path, tables: Tables, command: str) -> dict[str, str]:
    """Where the results come from and what they cost, for the page."""
    runs, new = tables.runs, Tables(results / "tables").runs["run"]
    origin = files.read_json(results / "runs" / new[0] / "provenance.json")
    machine = origin["machine"]
    of_new = "" if len(new) == len(runs) else f", of the {len(new)} runs added last: {', '.join(f'`{run}`' for run in new)}"
    jobs = [pd.read_csv(path, sep="\t")["s"].sum() for path in (results / "benchmarks").rglob("*.tsv")]
    trained = where(runs, lambda method: method.feedback)
    share = 100 * trained["feedback_seconds"] / trained["train_seconds"]
    checks = ", ".join(f"{runs[f'spot_checked_{epsilon}'].sum()} at {epsilon}/255" for epsilon in tables.epsilons)
    source = files.read_json(results / "data" / "manifest.json")["source"]
    trained_at = ", ".join(f"`{commit}` ({count} runs)" for commit, count in runs["commit"].value_counts(sort=False).items())
    return {
        "command": f"`{command}`",
        "commit": f"{trained_at} trained and attacked, `{provenance.commit()}` published",
        "machine": f"{machine['cores']} cores ({machine['processor']}), {machine['system']}, device {origin['device']}",
        "time": f"{sum(jobs):.0f} s, summed over {len(jobs)} jobs{of_new}",
        "feedback": f"{share.mean():.1f} % of the time of LiST's training ({share.min():.1f} to {share.max():.1f} %)",
        "spot checks": f"certified images that were attacked, all runs: {checks}; none was broken",
        "falsification": falsification(tables) if (tables.folder / FALSIFICATION).exists() else "not run",
        "data": f"`{json.dumps(source)}`",
        "attack": f"{runs['attack'][0]}; {runs['evaluated_images'][0]} test images evaluated per run",
        "versions": ", ".join(f"{name} {version}" for name, version in origin["versions"].items()),
    }


def falsification(tables: Tables) -> str:
    """How hard the certificates were attacked, in a line."""
    found = tables["falsification"]
    return (
        f"{found['images'].sum()} images of {len(found)} networks, {found['images'].min()} or more of each, "
        f"at {found['share_of_radius'][0]} of the radius of each, by {found['attacks'][0]}: {found['broken'].sum()} broken; "
        f"{found['seconds'].sum():.0f} s; [`{FALSIFICATION}`]({FALSIFICATION})"
    )


def summary(tables: Tables) -> str:
    """A Markdown table with a row per setting."""
    percent = [f"{name}_{epsilon}" for epsilon in tables.epsilons for name in ("certified", "robust")]
    columns = ["lipschitz", "lipschitz_certified", "temperature", "clean_accuracy", *percent, "ece", "ece_scaled"]
    rows = []
    for _, part in settings_of(tables.runs):
        cells = [_cell(part[name], name in percent or name == "clean_accuracy") for name in columns]
        rows.append([plain_title(part, short), *cells])
    return markdown_table(["setting", *columns], rows)


def _cell(values: pd.Series, percent: bool) -> str:
    """Mean, and where they differ smallest and largest value."""
    factor, unit = (100, " %") if percent else (1, "")
    if values.isna().all():
        return ""  # of a network that was trained on the validation split
    mean, low, high = (short(factor * value) for value in (values.mean(), values.min(), values.max()))
    return f"{mean}{unit}" + (f" ({low} to {high})" if low != high else "")

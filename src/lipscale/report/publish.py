"""The part of an experiment's results that belongs into the repository: figures, tables, attacked images, a page on them."""

import json
import shutil
from pathlib import Path

import pandas as pd

from lipscale.errors import LipscaleError
from lipscale.planning import record as records
from lipscale.report.figures.style import short
from lipscale.store import files, provenance
from lipscale.store.checksums import checked

NAMES = ("figure1", "figure2", "figure3", "reliability", "certified")
FIGURES = [f"{name}.{suffix}" for name in NAMES for suffix in ("png", "pdf", "csv")]
TABLES = ["runs.csv", "claims.csv", "claims.md"]


def publish(results: Path, folder: Path, command: str) -> None:
    """Copy figures, runs.csv, claims and, where it was made, audit.csv of an experiment; write the other files.

    record.json says what the experiment cost, for `plan`; images.csv.gz has the rows of all runs' images.csv of those test
    images that AutoAttack was run on.

    Args:
        results: results/<experiment>.
        folder: results/published/<experiment>, where all of that goes.
        command: what made the results, for the page.

    Raises:
        LipscaleError: something is missing, or the runs are not from one commit without changes.
    """
    wanted = [*(results / "figures" / name for name in FIGURES), *(results / "tables" / name for name in TABLES)]
    for path in wanted:
        if not path.exists():
            raise LipscaleError(f"{path} is missing; allowed: a finished experiment")
    runs = pd.read_csv(checked(results / "tables" / "runs.csv"))
    commits = runs["commit"].unique()
    if len(commits) != 1 or len(commits[0]) != 40:
        raise LipscaleError(f"the runs come from {', '.join(commits)}; allowed: one commit, without uncommitted changes")
    origin = files.read_json(results / "runs" / runs["run"][0] / "provenance.json")
    jobs = [pd.read_csv(path, sep="\t")["s"].sum() for path in (results / "benchmarks").rglob("*.tsv")]

    audit = results / "tables" / "audit.csv"
    folder.mkdir(parents=True, exist_ok=True)
    for path in [*wanted, *([checked(audit)] if audit.exists() else [])]:
        shutil.copyfile(path, folder / path.name)
    parts = [pd.read_csv(checked(results / "runs" / run / "images.csv")).assign(run=run) for run in runs["run"]]
    images = pd.concat(parts).dropna(subset=[name for name in runs if name.startswith("robust_")])
    images = images[["run", *images.columns.drop("run")]].convert_dtypes()
    with files.atomic(folder / "images.csv.gz") as temporary:
        images.to_csv(temporary, index=False, float_format="%.6g", compression={"method": "gzip", "mtime": 0})
    files.write_json(folder / records.NAME, records.measure(results))
    machine = origin["machine"]
    trained = runs[runs["method"] == "list"]
    share = 100 * trained["feedback_seconds"] / trained["train_seconds"]
    audits = {name.removeprefix("audited_"): int(runs[name].sum()) for name in runs if name.startswith("audited_")}
    facts = {
        "command": f"`{command}`",
        "commit": f"`{commits[0]}` trained and attacked, `{provenance.commit()}` published",
        "machine": f"{machine['cores']} cores ({machine['processor']}), {machine['system']}, device {origin['device']}",
        "time": f"{sum(jobs):.0f} s, summed over {len(jobs)} jobs",
        "feedback": f"{share.mean():.1f} % of the time of LiST's training ({share.min():.1f} to {share.max():.1f} %)",
        "audit": f"certified images attacked all the same, all runs: {_listed(audits)}; none was broken",
        "certificates attacked": _audited(pd.read_csv(audit)) if audit.exists() else "not at their own radii",
        "data": f"`{json.dumps(files.read_json(results / 'data' / 'manifest.json')['source'])}`",
        "attack": f"{runs['attack'][0]}; {runs['evaluated_images'][0]} test images evaluated per run",
        "versions": ", ".join(f"{name} {version}" for name, version in origin["versions"].items()),
    }
    lines = [f"# {results.name}: published results", "", "Written by `python -m lipscale publish`.", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in facts.items()]
    lines += ["", "Mean over seeds, in brackets smallest and largest; the runs themselves are in [`runs.csv`](runs.csv).", ""]
    files.write_text(folder / "README.md", "\n".join([*lines, *_summary(runs)]) + "\n")


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} at {epsilon}/255" for epsilon, count in counts.items())


def _audited(audits: pd.DataFrame) -> str:
    return (
        f"{audits['images'].sum()} images of {len(audits)} networks, {audits['images'].min()} or more of each, "
        f"at {audits['share_of_radius'][0]} of the radius of each, by {audits['attacks'][0]}: {audits['broken'].sum()} broken; "
        f"{audits['seconds'].sum():.0f} s; [`audit.csv`](audit.csv)"
    )


def _summary(runs: pd.DataFrame) -> list[str]:
    """A Markdown table with a row per setting."""
    percent = [name for name in runs if name.startswith(("certified_", "robust_"))]
    columns = ["lipschitz", "lipschitz_certified", "temperature", "clean_accuracy", *percent, "ece", "ece_scaled"]
    lines = ["| setting | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for (method, start), part in runs.groupby(["method", "initial_lipschitz"]):
        cells = []
        for name in columns:
            factor, unit = (100, " %") if name in percent or name == "clean_accuracy" else (1, "")
            mean, low, high = (short(factor * value) for value in (part[name].mean(), part[name].min(), part[name].max()))
            cells.append(f"{mean}{unit}" + (f" ({low} to {high})" if low != high else ""))
        label = {"list": f"LiST, L0 = {short(start)}", "fixed": f"fixed L = {short(start)}"}.get(method, "no constraint")
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return lines

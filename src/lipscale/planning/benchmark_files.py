"""Times and memory of jobs, from the benchmark files that Snakemake writes in results/<experiment>/benchmarks.

A stage with a job for each run, or for the runs of a setting, has a folder of them; a job that handles no particular runs has
one of its own.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

EVALUATE = ("evaluate", "attack_calibration", "predict", "calibrate", "certify")  # the last three in version 0.1
ON_REQUEST = ("audit", "falsify")  # folders of stages that are not part of an experiment
ON_REQUEST_ONCE = ("tabulate_audits", "tabulate_falsifications", "figures")  # and single files


def evaluate(folder: Path) -> Iterator[float]:
    """Seconds of each job that evaluated runs."""
    return (row["s"] for stage in EVALUATE for row in _rows(folder / stage))


def once(folder: Path) -> Iterator[float]:
    """Seconds of each job that handled no particular runs: data, tables, figures."""
    stages = {folder / name for name in ("train", "attack", *EVALUATE, *ON_REQUEST)}
    for path in sorted(folder.rglob("*.tsv")):
        if path.parent not in stages and path.stem not in ON_REQUEST_ONCE:
            yield from (row["s"] for row in _read(path))


def overhead(stage: Path, run_seconds: Sequence[float]) -> dict[str, float]:
    """`start_seconds` and `mem_mb` (see `record.Jobs`) of the jobs of a stage, which spent `run_seconds` on their runs."""
    rows = list(_rows(stage))
    start = (sum(row["s"] for row in rows) - sum(run_seconds)) / len(rows)
    # negative where jobs were stopped: Snakemake times the last attempt only
    return {"start_seconds": max(0.0, start), "mem_mb": max(row["max_rss"] for row in rows)}


def _rows(stage: Path) -> Iterator[dict[str, float]]:
    for path in sorted(stage.glob("*.tsv")):
        yield from _read(path)


def _read(path: Path) -> list[dict[str, float]]:
    """The rows of a file: seconds `s`, and `max_rss` in MB; 0 where a job was too short to be measured."""
    names, *rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    cells = [dict(zip(names, row, strict=True)) for row in rows]
    return [{name: float(row[name].replace("NA", "0")) for name in ("s", "max_rss")} for row in cells]

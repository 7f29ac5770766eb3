"""What an experiment has cost, from the benchmark files that Snakemake wrote beside its results: seconds, memory, bytes."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lipscale.errors import LipscaleError
from lipscale.store import files

NAME = "record.json"  # of a record in a folder of published results
KEYS = {
    "commit": str, "machine": dict, "like": dict, "epochs": int, "images": dict, "train": dict, "attack": dict,
    "run_seconds": float, "once": dict, "data_bytes": int, "run_bytes": float,
}  # fmt: skip
EACH_RUN = ("predict", "calibrate", "certify")  # stages whose time goes with the number of runs
ON_DEMAND = ("tabulate_audits", "figures")  # rules that are no part of an experiment


def measure(results: Path) -> dict:
    """The record of a finished experiment.

    Returns a dictionary for JSON: `experiment`, `commit`, `machine`; `like`, what another experiment must have in common for
    its costs to be foretold (see `likeness`); `epochs`; `images` of each split; of `train`, the `seconds` of the runs of each
    method; of `attack`, `batch_seconds` and `image_seconds` (see `attack_costs`) and for each method the share of images
    that was `attacked`; of both, `start_seconds` of a job before its first run, and `mem_mb`, the largest resident memory of a
    job; `run_seconds` of the light stages; `jobs` and `seconds` of what is done `once`; `data_bytes` and `run_bytes`.

    Args:
        results: results/<experiment>.

    Raises:
        LipscaleError: it is none, or its files cannot be understood.
    """
    try:
        return _measure(results)
    except (LipscaleError, OSError, ValueError, LookupError, TypeError, ZeroDivisionError) as error:
        raise LipscaleError(f"{results} does not say what it has cost ({error!r}); allowed: a finished experiment") from None


def _measure(results: Path) -> dict:
    runs = files.read_rows(results / "tables" / "runs.csv")
    folders = [results / "runs" / row["run"] for row in runs]
    settings = [files.read_yaml(folder / "config.yaml") for folder in folders]
    provenance = [files.read_json(folder / "provenance.json") for folder in folders]
    attacks = [files.read_json(folder / "attack.json") for folder in folders]
    attacked = [_attacked(folder / "attack.csv") for folder in folders]
    images = len(files.read_rows(folders[0] / "attack.csv"))
    methods = [run["method"] for run in settings]
    manifest = files.read_json(results / "data" / "manifest.json")
    benchmarks = results / "benchmarks"
    record = {
        "experiment": results.name,
        "commit": provenance[0]["commit"],
        "machine": provenance[0]["machine"],
        "like": likeness(settings[0], manifest["image_shape"]),
        "epochs": settings[0]["training"]["epochs"],
        "images": {split: count["images"] for split, count in manifest["counts"].items()},
        "train": {"seconds": _by_method(methods, [run["seconds"] for run in provenance])},
        "attack": attack_costs([run["seconds"] for run in attacks], attacked, attacks[0]["batch_size"])
        | {"attacked": _by_method(methods, [sum(counts) / (len(counts) * images) for counts in attacked])},
    }
    for stage, runs in (("train", provenance), ("attack", attacks)):
        jobs = [job for path in (benchmarks / stage).glob("*.tsv") for job in _jobs(path)]
        # below 0 where jobs were stopped, as Snakemake times the last attempt only
        start = max(0.0, (sum(job["s"] for job in jobs) - sum(run["seconds"] for run in runs)) / len(jobs))
        record[stage] |= {"start_seconds": start, "mem_mb": max(job["max_rss"] for job in jobs)}
    light = [job["s"] for stage in EACH_RUN for path in (benchmarks / stage).glob("*.tsv") for job in _jobs(path)]
    record["run_seconds"] = sum(light) / len(folders)
    once = [job["s"] for path in benchmarks.glob("*.tsv") if path.stem not in ON_DEMAND for job in _jobs(path)]
    record["once"] = {"jobs": len(once), "seconds": sum(once)}
    record["data_bytes"] = _size(results / "data")
    record["run_bytes"] = sum(map(_size, folders)) / len(folders)
    return record


def attack_costs(seconds: Sequence[float], attacked: Sequence[Sequence[int]], batch_size: int) -> dict[str, float]:
    """Least squares, none below 0: attacks take `batch_seconds` for each batch and `image_seconds` for each image in it.

    Args:
        seconds: of the attack on each run.
        attacked: how many images were attacked at each epsilon, for each run.
        batch_size: images attacked at once, at most.
    """
    from scipy.optimize import nnls  # here, as the environment that launches the workflow has no scipy, and plans too

    batches = [[sum(math.ceil(count / batch_size) for count in counts), sum(counts)] for counts in attacked]
    by_batch, by_image = nnls(np.array(batches, dtype=float), np.array(seconds))[0]
    return {"batch_seconds": float(by_batch), "image_seconds": float(by_image)}


def likeness(settings: Mapping, image_shape: list[int]) -> dict:
    """What two runs must have in common for the cost of a step and of an attacked image to be the same.

    Args:
        settings: of a run, as `config.runs` yields them.
        image_shape: channels, height, width.
    """
    like = {key: settings[key] for key in ("dataset", "network", "device", "threads", "precision", "compile")}
    like |= {key: settings["training"][key] for key in ("batch_size", "augmentation")}
    like |= {key: settings["feedback"][key] for key in ("rehearsals", "updates_per_epoch")}
    return like | {"image_shape": image_shape}


def find(folder: Path) -> list[Path]:
    """Where records may be read from below a folder of results: its own experiments first, then published ones."""
    own = [path.parents[1] for path in sorted(folder.glob("*/tables/runs.csv"))]
    return own + sorted(folder.glob(f"published/*/{NAME}"))


def read(path: Path) -> dict:
    """The record of an experiment, by the path of its results or of its published record. Raises LipscaleError: it has none."""
    if path.is_dir():
        return measure(path)
    try:
        record = files.read_json(path)
        whole = all(isinstance(record.get(key), kind) for key, kind in KEYS.items())
    except (OSError, ValueError, AttributeError):
        whole = False
    if not whole:
        raise LipscaleError(f"{path} is not a record of what an experiment has cost; remove it")
    return record


def _attacked(path: Path) -> list[int]:
    """How many images AutoAttack was run on, at each epsilon."""
    rows = files.read_rows(path)
    columns = [name for name in rows[0] if name.startswith("attacked_")]
    return [sum(int(row[name]) for row in rows) for name in columns]


def _by_method(methods: Sequence[str], values: Sequence[float]) -> dict[str, list[float]]:
    lists = defaultdict(list)
    for method, value in zip(methods, values, strict=True):
        lists[method].append(value)
    return lists


def _jobs(path: Path) -> list[dict[str, float]]:
    """The rows of one of Snakemake's benchmark files: seconds `s`, `max_rss` in MB."""
    with path.open(encoding="utf-8") as file:
        names, *rows = (line.rstrip("\n").split("\t") for line in file)
    rows = [dict(zip(names, row, strict=True)) for row in rows]
    return [{name: float(row[name].replace("NA", "0")) for name in ("s", "max_rss")} for row in rows]  # NA: too short


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

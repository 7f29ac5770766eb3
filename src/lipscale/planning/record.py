"""The measured cost of an experiment: seconds, memory, bytes.

The times are in the benchmark files that Snakemake writes beside the results. A finished experiment can be measured; a
published one has its record in a file.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from lipscale.config.models import Objective
from lipscale.errors import LipscaleError
from lipscale.planning import benchmark_files
from lipscale.planning.comparable import comparable, upgraded
from lipscale.planning.costs import attack_costs
from lipscale.store import files

NAME = "record.json"  # in a folder of published results

NonNegative = Annotated[float, Field(ge=0)]
ByMethod = Annotated[dict[str, Annotated[list[NonNegative], Field(min_length=1)]], Field(min_length=1)]  # a value per run


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Machine(_Part):
    """Where the experiment ran."""

    system: str
    processor: str
    cores: int


class Images(_Part):
    """Number of images in each split."""

    train: int = Field(ge=1)
    validation: int = Field(ge=1)
    test: int = Field(ge=1)


class Jobs(_Part):
    """What jobs of a stage need, beside the time that grows with the work.

    Attributes:
        start_seconds: from the start of a job to the start of its first run.
        mem_mb: largest resident memory of a job.
    """

    start_seconds: NonNegative
    mem_mb: NonNegative


class Training(Jobs):
    """Seconds of each run, by method, divided by the passes that a step of its objective takes."""

    seconds: ByMethod


class Attack(Jobs):
    """Seconds for each batch and for each image in it; share of the images that was attacked in each run, by method."""

    batch_seconds: NonNegative
    image_seconds: NonNegative
    attacked: ByMethod


class Once(_Part):
    """What is done once for an experiment: data, tables, figures."""

    jobs: int = Field(ge=0)
    seconds: NonNegative


class Record(_Part):
    """What an experiment has cost.

    Attributes:
        comparable: settings that an experiment must share for an estimate from this record, see `comparable`.
        run_seconds: of the stage `evaluate`, for each run.
        data_bytes: size of the prepared data set.
        run_bytes: size of the folder of a run.
    """

    experiment: str
    commit: str
    machine: Machine
    comparable: dict[str, object]
    epochs: int = Field(ge=1)
    images: Images
    train: Training
    attack: Attack
    run_seconds: NonNegative
    once: Once
    data_bytes: int = Field(ge=0)
    run_bytes: NonNegative

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, values: dict) -> dict:
        """Version 0.1 called `comparable` `like`."""
        return {**values, "comparable": upgraded(values.get("comparable", values.get("like")))}

    @property
    def runs(self) -> int:
        return sum(map(len, self.train.seconds.values()))


def find(folder: Path) -> list[Path]:
    """Paths that `read` takes, below a folder of results: its finished experiments first, then published records."""
    finished = [path.parents[1] for path in sorted(folder.glob("*/tables/runs.csv"))]
    return finished + sorted(folder.glob(f"published/*/{NAME}"))


def read(path: Path) -> Record:
    """The record of a finished experiment, by its folder, or of a published one, by its file. Raises LipscaleError: neither."""
    if path.is_dir():
        return measure(path)
    try:
        return Record.model_validate(files.read_json(path))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:  # ValidationError is a ValueError
        reason = _first(error) if isinstance(error, ValidationError) else str(error)
        raise LipscaleError(f"{path} is not a record of what an experiment has cost ({reason}); remove it") from None


def measure(results: Path) -> Record:
    """The record of a finished experiment.

    Args:
        results: results/<experiment>.

    Raises:
        LipscaleError: the experiment is not finished, or its files cannot be understood.
    """
    try:
        return _measure(results)
    except (LipscaleError, OSError, ValueError, LookupError, TypeError, ZeroDivisionError) as error:
        raise LipscaleError(f"{results}: its cost cannot be measured ({error!r}); allowed: a finished experiment") from None


def _measure(results: Path) -> Record:
    folders = [results / "runs" / row["run"] for row in files.read_rows(results / "tables" / "runs.csv")]
    settings = [files.read_yaml(folder / "config.yaml") for folder in folders]
    provenance = [files.read_json(folder / "provenance.json") for folder in folders]
    manifest = files.read_json(results / "data" / "manifest.json")
    methods, benchmarks = [run["method"] for run in settings], results / "benchmarks"
    seconds = [run["seconds"] for run in provenance]
    train = _by_method(methods, _per_pass(settings, seconds))
    once = list(benchmark_files.once(benchmarks))
    return Record(
        experiment=results.name,
        commit=provenance[0]["commit"],
        machine=provenance[0]["machine"],
        comparable=comparable(settings[0], manifest["image_shape"]),
        epochs=settings[0]["training"]["epochs"],
        images={split: count["images"] for split, count in manifest["counts"].items()},
        train={
            "seconds": train,
            **benchmark_files.overhead(benchmarks / "train", seconds),
        },
        attack=_attack(folders, methods, benchmarks / "attack"),
        run_seconds=sum(benchmark_files.evaluate(benchmarks)) / len(folders),
        once={"jobs": len(once), "seconds": sum(once)},
        data_bytes=_size(results / "data"),
        run_bytes=sum(map(_size, folders)) / len(folders),
    )


def _attack(folders: Sequence[Path], methods: Sequence[str], benchmarks: Path) -> dict[str, object]:
    summaries = [files.read_json(folder / "attack.json") for folder in folders]
    tables = [files.read_rows(folder / "attack.csv") for folder in folders]
    epsilons = [name for name in tables[0][0] if name.startswith("attacked_")]
    counts = [[sum(int(row[name]) for row in table) for name in epsilons] for table in tables]
    seconds = [summary["seconds"] for summary in summaries]
    batch_seconds, image_seconds = attack_costs(seconds, counts, summaries[0]["batch_size"])
    shares = [sum(of_run) / (len(epsilons) * len(table)) for of_run, table in zip(counts, tables, strict=True)]
    costs = {"batch_seconds": batch_seconds, "image_seconds": image_seconds, "attacked": _by_method(methods, shares)}
    return costs | benchmark_files.overhead(benchmarks, seconds)


def _per_pass(settings: Sequence[Mapping], seconds: Sequence[float]) -> list[float]:
    """The seconds of training of each run, divided by the passes that a step of its objective takes."""
    objectives = [run["training"].get("objective", "cross_entropy") for run in settings]
    passes = [TypeAdapter(Objective).validate_python(objective).passes for objective in objectives]
    return [taken / number for taken, number in zip(seconds, passes, strict=True)]


def _by_method(methods: Sequence[str], values: Sequence[float]) -> Mapping[str, list[float]]:
    lists = defaultdict(list)
    for method, value in zip(methods, values, strict=True):
        lists[method].append(value)
    return lists


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _first(error: ValidationError) -> str:
    """Where the first error is, and what it says."""
    details = error.errors(include_url=False)[0]
    return f"{'.'.join(map(str, details['loc'])) or 'the file'}: {details['msg']}"

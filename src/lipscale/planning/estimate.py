"""Before anything is submitted: the jobs, hours and gigabytes that an experiment will take, foretold from a measured record."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lipscale import config as configs
from lipscale.errors import LipscaleError
from lipscale.planning import record as records
from lipscale.planning.record import EACH_RUN, likeness


@dataclass
class Stage:
    """What the jobs of a stage take, seconds."""

    jobs: int
    longest: float
    total: float
    asked: float | None = None  # the time that the config asks for
    mem_mb: float | None = None  # measured


@dataclass
class Plan:
    stages: dict[str, Stage]
    gpu_seconds: float  # of training and attacks, if each job has a GPU to itself
    data_bytes: float  # on disk, in the end

    @property
    def jobs(self) -> int:
        return sum(stage.jobs for stage in self.stages.values())

    @property
    def seconds(self) -> float:
        """Summed over all jobs."""
        return sum(stage.total for stage in self.stages.values())


def fitting(config: Mapping, paths: Sequence[Path]) -> tuple[Path, dict]:
    """The first record of runs that cost the same an epoch and an image, with its path.

    Args:
        config: a checked config.
        paths: of records, as `records.find` lists them; those that cannot be read are passed over.

    Raises:
        LipscaleError: there is none; says what they lack and how to make one.
    """
    wanted = likeness(next(configs.runs(config)), configs.image_shape(config["dataset"]))
    reasons = []
    for path in paths:
        try:
            record = records.read(path)
        except LipscaleError as error:
            reasons.append(str(error))
            continue
        differing = [key for key, value in wanted.items() if record["like"].get(key) != value]
        if not differing:
            return path, record
        reasons.append(f"{path} has another {', '.join(differing)}")
    raise LipscaleError(
        f"no measured record fits {config['experiment']} ({'; '.join(reasons) or 'there is none'}); make one, with few epochs "
        'and images: snakemake --cores all --configfile FILE --config experiment=trial "training={epochs: 1}" '
        '"runs={seeds: [0]}" "evaluation={attack_images: 32}"'
    )


def plan(config: Mapping, record: Mapping) -> Plan:
    """What an experiment will take, if its costs are those of a record that fits it.

    Training is taken to be proportional to steps, attacks to have a cost for each batch and each image of the share that had to
    be attacked, the rest to be proportional to the number of runs. A method that the record lacks is taken to cost as much as
    the record's dearest.

    Args:
        config: a checked config.
        record: of `records.measure`.

    Raises:
        LipscaleError: the record's data have fewer images than the config sets aside.
    """
    runs = list(configs.runs(config))
    dataset, compute, evaluation = config["dataset"], config["compute"], config["evaluation"]
    counts = record["images"]
    split = counts["train"] + counts["validation"] - dataset["validation_images"]
    images = split + (counts["test"] - dataset["test_images"] if "test_images" in dataset else 0)
    if images < 1:
        raise LipscaleError(f"config: dataset leaves {images} images for training; allowed: smaller splits")
    test = min(evaluation["attack_images"], dataset.get("test_images", counts["test"]))
    epsilons, batch_size = len(evaluation["epsilons"]), evaluation["attack_batch_size"]

    def steps(method: str, epochs: int, images: int) -> int:
        rehearsed = 64 * config["feedback"]["rehearsals"] if method == "list" else 0
        return rehearsed + epochs * math.ceil(images / config["training"]["batch_size"])

    def trained(method: str, seconds: float) -> float:
        before = steps(method, record["epochs"], counts["train"])
        return seconds * steps(method, config["training"]["epochs"], images) / before

    def attacked(method: str, share: float) -> float:
        batches, cost = math.ceil(share * test / batch_size), record["attack"]
        return epsilons * (batches * cost["batch_seconds"] + share * test * cost["image_seconds"])

    seeds = len(config["runs"]["seeds"]) if compute["pack"] else 1  # runs of a job
    stages = {}
    for stage, of_run, measured in (
        ("train", trained, record["train"]["seconds"]),
        ("attack", attacked, record["attack"]["attacked"]),
    ):
        each = {method: sum(of_run(method, value) for value in values) / len(values) for method, values in measured.items()}
        start = record[stage]["start_seconds"]
        work = [start + seeds * each.get(run["method"], max(each.values())) for run in runs[::seeds]]
        asked = 60 * compute[f"{stage}_runtime"]
        stages[stage] = Stage(len(work), max(work), sum(work), asked, record[stage]["mem_mb"])
    light = record["run_seconds"] * len(runs)
    jobs = len(EACH_RUN) * (1 if compute["pack"] else len(runs))
    stages["evaluate"] = Stage(jobs, light / jobs, light)
    stages["data, tables, figures"] = Stage(record["once"]["jobs"], record["once"]["seconds"], record["once"]["seconds"])
    gpu = stages["train"].total + stages["attack"].total if compute["device"] == "cuda" else 0.0
    return Plan(stages, gpu, record["data_bytes"] + record["run_bytes"] * len(runs))


def text(config: Mapping, path: Path, record: Mapping, foretold: Plan) -> str:
    """A plan for people to read, with the record that it rests on, and a warning where the config asks for too little."""
    machine, compute = record["machine"], config["compute"]
    measured = sum(len(seconds) for seconds in record["train"]["seconds"].values())
    methods = Counter(run["method"] for run in configs.runs(config))
    rows, hints = [("stage", "jobs", "longest", "asked for", "all", "memory", "asked for")], []
    for name, stage in foretold.stages.items():
        time = "" if stage.asked is None else _time(stage.asked)
        memory = ("", "") if stage.mem_mb is None else (f"{stage.mem_mb:.0f} MiB", f"{compute['mem_mb']} MiB")
        rows.append((name, str(stage.jobs), _time(stage.longest), time, _time(stage.total), *memory))
        if stage.asked is not None and stage.longest > stage.asked:
            hints.append(f"warning: a job of {name} will take longer than compute.{name}_runtime, {time}")
        if stage.mem_mb is not None and stage.mem_mb > compute["mem_mb"]:
            hints.append(f"warning: a job of {name} will need more memory than compute.mem_mb, {memory[1]}")
    fit = {name: _fitting_an_hour(foretold.stages[name]) for name in ("train", "attack")}
    if max(fit.values()) > 1:
        asked = max(count * foretold.stages[name].asked for name, count in fit.items())
        groups = " ".join(f"{name}={count}" for name, count in {**fit, "predict": 20, "evaluate": 20}.items())
        hints.append(
            f"on SLURM, --group-components {groups} makes allocations that take up to an hour, and ask for up to "
            f"{_time(asked)}, less where jobs run side by side"
        )
    hours = {"hours": foretold.seconds, "of them attacks": foretold.stages["attack"].total, "GPU hours": foretold.gpu_seconds}
    return "\n".join(
        [
            f"{config['experiment']}: {methods.total()} runs of {config['training']['epochs']} epochs "
            f"({', '.join(f'{count} {name}' for name, count in methods.items())})",
            f"as measured in {path}: {measured} runs of {record['epochs']} epochs, commit {record['commit'][:12]}, "
            f"{machine['cores']} cores ({machine['processor']}), device {record['like']['device']}, "
            f"{record['images']['train']} training images",
            "",
            *(f"{row[0]:24}" + "".join(f"{cell:>11}" for cell in row[1:]) for row in rows),
            "",
            f"{foretold.jobs} jobs; {'; '.join(f'{seconds / 3600:.2f} {name}' for name, seconds in hours.items())}; "
            f"{foretold.data_bytes / 1e9:.2f} GB",
            *hints,
        ]
    )


def _fitting_an_hour(stage: Stage) -> int:
    """How many jobs of a stage, one after the other, take an hour; one at least."""
    return max(1, min(stage.jobs, int(3600 * stage.jobs / stage.total)))


def _time(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"

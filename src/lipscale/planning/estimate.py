"""Jobs, hours and gigabytes that an experiment will take, estimated from the measured cost of a comparable one."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from lipscale import config
from lipscale.errors import LipscaleError
from lipscale.method import warmup
from lipscale.method.methods import METHODS
from lipscale.planning import record as records
from lipscale.planning.comparable import comparable
from lipscale.planning.record import Images, Jobs, Record

if TYPE_CHECKING:
    from lipscale.settings import SourceSettings

TRIAL = (
    'snakemake --cores all --configfile FILE --config experiment=trial "training={epochs: 1}" '
    '"runs={seeds: [0], variants: []}" "evaluation={attack_images: 32}"'
)


@dataclass(frozen=True)
class Stage:
    """Seconds of the jobs of a stage.

    Attributes:
        longest: of a job.
        total: of all jobs.
        requested: for a job, by the config.
        mem_mb: largest memory of a job, measured.
    """

    jobs: int
    longest: float
    total: float
    requested: float | None = None
    mem_mb: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What an experiment will take.

    Attributes:
        stages: by name.
        gpu_seconds: of training and attacks, if each job has its GPUs to itself.
        data_bytes: on disk, of the finished experiment.
    """

    stages: dict[str, Stage]
    gpu_seconds: float
    data_bytes: float

    @property
    def jobs(self) -> int:
        return sum(stage.jobs for stage in self.stages.values())

    @property
    def seconds(self) -> float:
        """Summed over all jobs."""
        return sum(stage.total for stage in self.stages.values())


def comparable_record(experiment: config.Experiment, paths: Iterable[Path]) -> tuple[Path, Record]:
    """The first record whose steps and attacked images cost the same as those of the experiment, with its path.

    Args:
        paths: of records, as `record.find` lists them; those that cannot be read are skipped.

    Raises:
        LipscaleError: there is no such record; says why, and how to measure one.
    """
    run = next(iter(config.runs(experiment)))
    wanted = comparable(run.model_dump(mode="json"), config.image_shape(experiment.dataset))
    reasons = []
    for path in paths:
        try:
            record = records.read(path)
        except LipscaleError as error:
            reasons.append(str(error))
            continue
        differing = [key for key, value in wanted.items() if record.comparable.get(key) != value]
        if not differing:
            return path, record
        reasons.append(f"{path} has another {', '.join(differing)}")
    raise LipscaleError(
        f"no measured experiment is comparable with {experiment.experiment} ({'; '.join(reasons) or 'nothing was measured'}); "
        f"measure one with few epochs and images: {TRIAL}"
    )


def estimate(experiment: config.Experiment, record: Record) -> Estimate:
    """What an experiment will take, if it costs as much as a comparable one.

    The time of training is proportional to the number of steps, and to the passes that a step of the objective takes. Attacks
    have a cost for each batch and each image of the share that has to be attacked. The rest is proportional to the number of
    runs. A method that the record lacks is taken to cost as much as the dearest one in the record.

    Raises:
        LipscaleError: the data of the record have fewer images than the config sets aside.
    """
    runs, compute = list(config.runs(experiment)), experiment.compute
    images = _training_images(experiment.dataset, record.images)
    jobs = _jobs(runs, compute.pack)
    train = _stage(jobs, record.train, compute.train_runtime, lambda run: _training_seconds(run, images, record))
    attack = _stage(jobs, record.attack, compute.attack_runtime, lambda run: _attack_seconds(run, experiment, record))
    attack = _in_shards(attack, record.attack, compute.shards, len(experiment.evaluation.epsilons))
    evaluate = record.run_seconds * len(runs)
    bounded = [run for run in runs if METHODS[run.method].constrained]  # whose calibration is attacked
    for_each = 1 if compute.shards == 1 else 1 + compute.shards  # jobs of one evaluation or attack: its shards, and one joins
    evaluate_jobs = for_each * ((1 if compute.pack else len(runs)) + len(_jobs(bounded, compute.pack)))
    stages = {
        "train": train,
        "attack": attack,
        "evaluate": Stage(evaluate_jobs, evaluate / evaluate_jobs, evaluate),
        "data, tables, figures": Stage(record.once.jobs, record.once.seconds, record.once.seconds),
    }
    gpu = compute.gpus * train.total + attack.total if compute.device == "cuda" else 0.0
    return Estimate(stages, gpu, record.data_bytes + record.run_bytes * len(runs))


def _training_images(dataset: SourceSettings, counts: Images) -> int:
    """Images left for training, by the splits of the config; a data set has `test_images` if it comes without a test split."""
    images = counts.train + counts.validation - dataset.validation_images
    images += counts.test - getattr(dataset, "test_images", counts.test)
    if images < 1:
        raise LipscaleError(f"config: dataset leaves {images} images for training; allowed: smaller splits")
    return images


def _jobs(runs: Sequence[config.Run], pack: bool) -> list[list[config.Run]]:
    """The runs of each job that trains or attacks: one, or packed, all seeds of a setting."""
    jobs = defaultdict(list)
    for run in runs:
        jobs[run.setting if pack else run.run].append(run)
    return list(jobs.values())


def _stage(
    jobs: Sequence[Sequence[config.Run]], measured: Jobs, minutes: float, seconds: Callable[[config.Run], float]
) -> Stage:
    """A stage whose jobs spend `seconds` on each run, and request so many minutes."""
    times = [measured.start_seconds + sum(map(seconds, runs)) for runs in jobs]
    return Stage(len(times), max(times), sum(times), 60 * minutes, measured.mem_mb)


def _in_shards(attack: Stage, measured: Jobs, shards: int, epsilons: int) -> Stage:
    """The attacks in so many jobs at each epsilon, and a job that joins them; the longest if all epsilons took the same."""
    if shards == 1:
        return attack
    added, longest = attack.jobs * shards * epsilons, (attack.longest - measured.start_seconds) / (shards * epsilons)
    total = attack.total + added * measured.start_seconds
    return replace(attack, jobs=attack.jobs + added, longest=measured.start_seconds + longest, total=total)


def _training_seconds(run: config.Run, images: int, record: Record) -> float:
    def steps(method: str, epochs: int, images: int) -> int:
        per_epoch = math.ceil(images / run.training.batch_size)
        warmups = run.feedback.warmups if method in METHODS and METHODS[method].feedback else 0
        return warmups * warmup.steps(per_epoch) + epochs * per_epoch

    # a run that restarts with the validation split trains at most twice; how early L converges is not known
    epochs = run.training.epochs * (2 if run.training.calibration_data == "restart" else 1)

    def seconds(method: str) -> float:
        share = steps(method, epochs, images) / steps(method, record.epochs, record.images.train)
        return fmean(record.train.seconds[method]) * share * run.training.objective.passes

    return _cost(run.method, record.train.seconds, seconds)


def _attack_seconds(run: config.Run, experiment: config.Experiment, record: Record) -> float:
    evaluation, costs = experiment.evaluation, record.attack
    test = getattr(experiment.dataset, "test_images", record.images.test)
    images = min(evaluation.attack_images, test)

    def at_epsilon(share: float) -> float:
        batches = math.ceil(share * images / evaluation.attack_batch_size)
        return batches * costs.batch_seconds + share * images * costs.image_seconds

    def seconds(method: str) -> float:
        return len(evaluation.epsilons) * fmean(map(at_epsilon, costs.attacked[method]))

    return _cost(run.method, costs.attacked, seconds)


def _cost(method: str, measured: Iterable[str], seconds: Callable[[str], float]) -> float:
    """Seconds of a run of a method, by the measured ones: of that method, or of the dearest."""
    return seconds(method) if method in measured else max(map(seconds, measured))

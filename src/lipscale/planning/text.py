"""An estimate as text, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lipscale import config
from lipscale.planning.estimate import Estimate, Stage
from lipscale.planning.record import Record

HEADER = ("stage", "jobs", "longest", "requested", "total", "memory", "requested")


def text(experiment: config.Experiment, path: Path, record: Record, estimate: Estimate) -> str:
    """What an experiment will take, the record behind the estimate, and a warning where the config requests too little.

    Args:
        path: of the record.
    """
    methods = Counter(run.method for run in config.runs(experiment))
    hours = {
        "hours": estimate.seconds,
        "of them attacks": estimate.stages["attack"].total,
        "GPU hours": estimate.gpu_seconds,
    }
    rows = [HEADER, *(_row(name, stage, experiment.compute.mem_mb) for name, stage in estimate.stages.items())]
    lines = [
        f"{experiment.experiment}: {methods.total()} runs of {experiment.training.epochs} epochs "
        f"({', '.join(f'{count} {name}' for name, count in methods.items())})",
        f"estimated from {path}: {record.runs} runs of {record.epochs} epochs, commit {record.commit[:12]}, "
        f"{record.machine.cores} cores ({record.machine.processor}), device {record.comparable['device']}, "
        f"{record.images.train} training images",
        "",
        *(f"{row[0]:24}" + "".join(f"{cell:>11}" for cell in row[1:]).rstrip() for row in rows),
        "",
        f"{estimate.jobs} jobs; {'; '.join(f'{seconds / 3600:.2f} {name}' for name, seconds in hours.items())}; "
        f"{estimate.data_bytes / 1e9:.2f} GB",
        *_warnings(estimate, experiment.compute.mem_mb),
        *_slurm_hint(estimate),
    ]
    return "\n".join(lines)


def _row(name: str, stage: Stage, mem_mb: int) -> tuple[str, ...]:
    requested = "" if stage.requested is None else _time(stage.requested)
    memory = ("", "") if stage.mem_mb is None else (f"{stage.mem_mb:.0f} MiB", f"{mem_mb} MiB")
    return (name, str(stage.jobs), _time(stage.longest), requested, _time(stage.total), *memory)


def _warnings(estimate: Estimate, mem_mb: int) -> Iterator[str]:
    for name, stage in estimate.stages.items():
        if stage.requested is not None and stage.longest > stage.requested:
            yield f"warning: stage {name}: a job will take longer than compute.{name}_runtime, {_time(stage.requested)}"
        if stage.mem_mb is not None and stage.mem_mb > mem_mb:
            yield f"warning: stage {name}: a job will need more memory than compute.mem_mb, {mem_mb} MiB"


def _slurm_hint(estimate: Estimate) -> Iterator[str]:
    """How to group jobs, where several take an hour."""
    in_an_hour = {name: _jobs_in_an_hour(estimate.stages[name]) for name in ("train", "attack")}
    if max(in_an_hour.values()) > 1:
        requested = max(count * estimate.stages[name].requested for name, count in in_an_hour.items())
        groups = " ".join(f"{name}={count}" for name, count in {**in_an_hour, "evaluate": 20}.items())
        yield (
            f"on SLURM, --group-components {groups} makes allocations that take up to an hour and request up to "
            f"{_time(requested)}, less where jobs run side by side"
        )


def _jobs_in_an_hour(stage: Stage) -> int:
    """How many jobs of a stage, one after the other, take an hour; at least one."""
    return max(1, min(stage.jobs, int(3600 * stage.jobs / max(stage.total, 1))))


def _time(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"

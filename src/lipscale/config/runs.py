"""The runs of an experiment: one for each method, setting and seed."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from lipscale.config.consistency import (
    check_feedback,
    check_image_side,
    check_offset,
    check_parts,
    check_replay,
    check_start,
    image_shape,
)
from lipscale.config.messages import joined, missing, parsed, unknown, wrong
from lipscale.config.models import (
    Compute,
    DatasetSettings,
    Evaluation,
    Experiment,
    ExperimentName,
    Feedback,
    Training,
    Variant,
)
from lipscale.config.names import run_name, setting_name, variant_name
from lipscale.config.networks import NetworkSettings
from lipscale.errors import LipscaleError
from lipscale.method.methods import METHODS, Method
from lipscale.settings import Seed, Settings, number, read_number

DATASET_NOT_IN_IDENTITY = {"path", "largest_unpacked_gib"}  # where images are, and a limit: the images are the same
COMPUTE_IN_IDENTITY = {"device", "threads", "precision", "compile"}  # the rest says how jobs are scheduled,
PARTS = {"gpus", "accumulate"}  # and into how many parts a batch is split: in the identity where it is not 1


def compute_identity(compute: Compute) -> dict:
    """The part of the section `compute` on which trained weights depend."""
    values = compute.model_dump(mode="json")
    return {key: value for key, value in values.items() if key in COMPUTE_IN_IDENTITY or (key in PARTS and value != 1)}


def _number_or_infinity(value: object) -> object:
    value = read_number(value)
    return value if value == math.inf else number(value)


class Run(Settings):
    """All settings of a run: what `runs/<run>/config.yaml` holds.

    Attributes:
        experiment: name of the experiment.
        run: name of the run, such as `list-0.01-xi36-seed2`.
        method: a name in METHODS.
        initial_lipschitz: first L; infinite where there is no constraint.
        replays: name of the run whose L is replayed; None for methods that replay none.
        training: with what the method changes in it.
    """

    experiment: ExperimentName
    run: Annotated[str, AfterValidator(run_name)]
    method: Literal[tuple(METHODS)]
    initial_lipschitz: Annotated[float, Field(gt=0), BeforeValidator(_number_or_infinity)]
    seed: Seed
    replays: Annotated[str, AfterValidator(run_name)] | None
    dataset: DatasetSettings
    network: NetworkSettings
    training: Training
    feedback: Feedback
    evaluation: Evaluation
    compute: Compute

    @property
    def setting(self) -> str:
        """What the runs of several seeds share: the name without the seed."""
        return setting_name(self.method, self.initial_lipschitz, self.training)

    @property
    def variant(self) -> str:
        """See `variant_name`."""
        return variant_name(self.training)

    @property
    def calibration_budgets(self) -> list[int]:
        """Of calibration under attack, in 1/255, sorted."""
        return sorted(self.evaluation.calibration_epsilons or self.evaluation.epsilons)

    def identity(self) -> dict:
        """The settings on which trained weights depend, as JSON can hold them.

        The run that a run replays has the same sections, so its name says what its settings are.
        """
        whole = self.model_dump(mode="json")
        keys = ("method", "initial_lipschitz", "seed", "dataset", "network", "training", "feedback", "compute")
        identity = {key: whole[key] for key in keys} | ({"replays": self.replays} if self.replays else {})
        identity["initial_lipschitz"] = "inf" if math.isinf(self.initial_lipschitz) else self.initial_lipschitz
        identity["dataset"] = {key: value for key, value in whole["dataset"].items() if key not in DATASET_NOT_IN_IDENTITY}
        identity["compute"] = compute_identity(self.compute)
        return identity


@dataclass(frozen=True)
class Setting:
    """What the runs of several seeds share."""

    method: Method
    initial_lipschitz: float
    training: Training

    @property
    def name(self) -> str:
        return setting_name(self.method.name, self.initial_lipschitz, self.training)

    @property
    def replays(self) -> str:
        """Name of the setting whose L is replayed; empty if there is none."""
        return setting_name(self.method.replays, self.initial_lipschitz, self.training) if self.method.replays else ""


def settings(experiment: Experiment) -> list[Setting]:
    """The settings of an experiment, in the order of METHODS; those that `runs` lists directly before those of its variants.

    Raises:
        LipscaleError: two have one name, an offset does not go with a method or objective, or a run to replay is missing.
    """
    found = []
    for method in METHODS.values():
        found += _settings(experiment, method, getattr(experiment.runs, method.key), {})
        for variant in experiment.runs.variants:
            for changes in _changes(variant) if getattr(variant, method.key) is not None else ():
                found += _settings(experiment, method, getattr(variant, method.key), changes)
    for setting in found:
        check_offset(setting.method, setting.training)
    for name, count in Counter(setting.name for setting in found).items():
        if count > 1:
            raise LipscaleError(
                f"config: {count} runs would share the name {name}-seed{experiment.runs.seeds[0]}; values under runs must "
                "differ in their first six digits"
            )
    for setting in found:
        if setting.replays:
            check_replay(setting.name, setting.replays, [other.name for other in found], experiment.runs.seeds)
    return found


def _settings(experiment: Experiment, method: Method, value: object, changes: Mapping) -> list[Setting]:
    """The settings of a method for the value of its key, with changes in the section `training`."""
    shared = experiment.training.model_dump() | changes
    return [
        Setting(method, initial_lipschitz, parsed(Training, shared | dict(of_method)))
        for initial_lipschitz, of_method in method.expand(value)
    ]


def _changes(variant: Variant) -> list[dict[str, object]]:
    """What a variant changes in the section `training`, once for each offset."""
    names = ("objective", "calibration_data")
    changes = {name: value for name, value in variant.model_dump(include=names).items() if value is not None}
    return [changes | {"offset": offset} for offset in variant.offsets] if variant.offsets else [changes]


def runs(experiment: Experiment) -> list[Run]:
    """The runs of a checked experiment, ordered by method, setting and seed."""
    shared = {
        key: getattr(experiment, key) for key in ("experiment", "dataset", "network", "feedback", "evaluation", "compute")
    }
    seeds = experiment.runs.seeds
    return [
        parsed(
            Run,
            {
                "run": f"{setting.name}-seed{seed}",
                "method": setting.method.name,
                "initial_lipschitz": setting.initial_lipschitz,
                "seed": seed,
                "replays": f"{setting.replays}-seed{following}" if setting.replays else None,
                "training": setting.training,
                **shared,
            },
        )
        for setting in settings(experiment)
        for seed, following in zip(seeds, [*seeds[1:], seeds[0]], strict=True)
    ]


def check_run(config: object) -> Run:
    """The settings of a run, as its `config.yaml` holds them: complete and valid. Raises LipscaleError for anything else."""
    run = parsed(Run, config)
    _check_complete(config, run.model_dump(), ())
    if METHODS[run.method].constrained == math.isinf(run.initial_lipschitz):
        allowed = f"{'inf' if math.isfinite(run.initial_lipschitz) else 'a finite number'}, as method is {run.method}"
        raise wrong("initial_lipschitz", run.initial_lipschitz, allowed)
    if bool(METHODS[run.method].replays) == (run.replays is None):
        raise wrong("replays", run.replays, f"{'null' if run.replays else 'the name of a run'}, as method is {run.method}")
    check_image_side(run.network, image_shape(run.dataset)[1])
    check_feedback(run.feedback)
    check_parts(run.compute, run.training)
    check_offset(METHODS[run.method], run.training)
    if METHODS[run.method].feedback:
        check_start("initial_lipschitz", run.initial_lipschitz, run.feedback)
    return run


def digest(value: object) -> str:
    """A short hash of what JSON can hold, the same for equal values whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _check_complete(given: object, whole: Mapping, path: tuple) -> None:
    """Raises LipscaleError where `given` has other keys than `whole`: nothing is filled in when a run is read."""
    for key, value in whole.items():
        if not isinstance(given, Mapping) or key not in given:
            raise missing(joined((*path, key)))
        if isinstance(value, Mapping):
            _check_complete(given[key], value, (*path, key))
    for key in given:
        if key not in whole:
            raise unknown(key, joined(path), whole)

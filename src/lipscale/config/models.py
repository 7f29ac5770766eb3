"""The sections of a config as pydantic models: keys, units, defaults and bounds.

They are the only source of the check, of the defaults and of `config/schema.json`. Data sets, objectives, layer families and
methods are found by their files, so that a new one needs no change here.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Union

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, create_model

from lipscale import discovery
from lipscale.config.compute import Compute
from lipscale.config.networks import NetworkSettings
from lipscale.method.methods import METHODS
from lipscale.settings import (
    AsNumber,
    Count,
    CountList,
    NonNegative,
    NonNegativeNumber,
    Offsets,
    Positive,
    PositiveOrNone,
    Seed,
    SeedList,
    Settings,
    TruthValue,
)

OBJECTIVES = "lipscale.training.objectives"


def one_of(package: str) -> object:
    """The type of a section whose `name` is that of a module of `package`, which has the other keys in its `Settings`."""
    models = [discovery.load(package, name).Settings for name in discovery.names(package)]
    return Annotated[Union[*models], Field(discriminator="name")] if len(models) > 1 else models[0]


def _experiment_name(text: str) -> str:
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9._-]*", text) or text == "published" or len(text) > 100:
        raise ValueError(
            "allowed: up to 100 letters, digits, dots, dashes and underscores, a letter or digit first; not the name published"
        )
    return text


def _named(value: object) -> object:
    if not isinstance(value, str | Mapping | BaseModel):
        raise ValueError("allowed: a mapping of name and settings, or a name")
    return {"name": value} if isinstance(value, str) else value


ExperimentName = Annotated[
    str,
    Field(json_schema_extra={"pattern": "^(?!published$)[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": 100}),
    AfterValidator(_experiment_name),
]
DatasetSettings = one_of("lipscale.data.sources")
_AnyObjective = one_of(OBJECTIVES)
_ObjectiveName = Literal[tuple(discovery.names(OBJECTIVES))]
Objective = Annotated[_AnyObjective, BeforeValidator(_named, json_schema_input_type=_ObjectiveName | _AnyObjective)]
CalibrationData = Literal["none", "continue", "restart"]


class Training(Settings):
    """How networks are trained."""

    epochs: Count = Field(description="passes over the training split")
    batch_size: Count = Field(description="images per step")
    learning_rate: Positive = Field(description="first learning rate of Adam; it falls to 0 along a half cosine")
    divide_loss: TruthValue = Field(
        False,
        description="divide the loss by L, so that the size of gradients does not follow L; otherwise a start at a large L "
        "lowers all later steps, since Adam keeps a long mean of squared gradients",
    )
    augmentation: Literal["none", "crop-flip"] = Field(
        "none", description="crop-flip: random shift by up to an eighth of the side, and random horizontal flip"
    )
    objective: Objective = Field(
        {"name": "cross_entropy"}, description="loss that training minimises: a name, or a mapping of name and its settings"
    )
    offset: NonNegativeNumber = Field(
        0, description="xi, subtracted from the logit of the true class in the training loss only: larger margins; 0: none"
    )
    offset_unit: Literal["input", "logit"] = Field(
        "input",
        description="input: an l2 distance in 1/255 of the pixel range, of which sqrt(2) L xi is subtracted; logit: xi itself",
    )
    calibration_data: CalibrationData = Field(
        "none",
        description="what is done with the validation split once L has converged: none: only T* is fitted on it; continue: "
        "training continues with it at that L; restart: training starts again with it at that L",
    )


class Feedback(Settings):
    """When LiST updates L <- L / T*, and bounds on the update; the history says where a bound was hit."""

    warmups: NonNegative = Field(
        0,
        description="warm-ups before training: each is 64 steps with updates after 8, 16, 32 and 64, then a return to the "
        "initial weights, so that L0 does not shape them; 0: the basic update",
    )
    updates_per_epoch: Count = Field(
        1, description="updates of an epoch, evenly spaced, the last at its end; 1: the basic update"
    )
    largest_step: Annotated[float, Field(gt=1), AsNumber] = Field(
        10, description="largest factor by which one update may change L"
    )
    lowest_lipschitz: Positive = Field(
        0.0001, description="smallest L that an update may set, logits per unit of pixel distance"
    )
    highest_lipschitz: Positive = Field(
        100000, description="largest L that an update may set, logits per unit of pixel distance"
    )


Variant = create_model(
    "Variant",
    __base__=Settings,
    __doc__="Runs with other values of some keys of the section `training`: one setting for each offset and value of a method.",
    __module__=__name__,
    offsets=(Offsets | None, Field(None, description="values of training.offset; null: that of the section training")),
    objective=(Objective | None, Field(None, description="training.objective; null: that of the section training")),
    calibration_data=(CalibrationData | None, Field(None, description="training.calibration_data; null: that of training")),
    **{method.key: (method.annotation | None, Field(None, description=method.description)) for method in METHODS.values()},
)


Runs = create_model(
    "Runs",
    __base__=Settings,
    __doc__="Which networks are trained: one run for each seed and setting of each method.",
    __module__=__name__,
    seeds=(SeedList, Field(description="seeds; each setting is trained once with each of them")),
    **{method.key: (method.annotation, Field(method.default, description=method.description)) for method in METHODS.values()},
    variants=(
        Annotated[list[Variant], Field(strict=True, max_length=1000)],
        Field([], description="more settings, with other offsets, objectives or uses of the validation split"),
    ),
)


class Evaluation(Settings):
    """How robustness is evaluated."""

    epsilons: CountList = Field(description="l2 budgets of the attack, in 1/255 of the pixel range")
    calibration_epsilons: CountList | None = Field(None, description="budgets of calibration under attack; null: epsilons")
    attack_images: Count = Field(
        description="largest number of test images whose robustness is evaluated, a seeded choice, the same for every run; "
        "AutoAttack attacks those that are classified correctly and certified by neither radius, and the spot checks"
    )
    spot_check_images: NonNegative = Field(
        description="largest number of certified images, for each run and epsilon, that are attacked too; a seeded choice"
    )
    falsify_images: Count = Field(
        1000,
        description="largest number of certified images of a run that `snakemake falsify` attacks, each at 0.999 of its own "
        "radius; those of the test split first",
    )
    attack_batch_size: Count = Field(description="images attacked at once")
    attack_seed: Seed = Field(0, description="seed of the choice of images and of the attack")


class Figures(Settings):
    """What figures show."""

    posthoc_lipschitz: PositiveOrNone = Field(
        None,
        description="Figure 1 divides the logits of this fixed-L network by T; one of runs.fixed_lipschitz; null: the largest",
    )


class Experiment(Settings):
    """An experiment of lipscale."""

    experiment: ExperimentName = Field(description="name of the folder under results/ that everything is written to")
    dataset: DatasetSettings = Field(description="images, and how they are split")
    network: NetworkSettings = Field(description="architecture of the networks")
    training: Training
    feedback: Feedback = Feedback()
    runs: Runs
    evaluation: Evaluation
    figures: Figures = Figures()
    compute: Compute = Compute()


class DatasetOnly(BaseModel):
    """The section `dataset` alone, so that messages name its keys as in a config."""

    dataset: DatasetSettings

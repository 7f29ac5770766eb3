"""The check of a config, before any work starts."""

from collections.abc import Iterable, Mapping

import yaml

from lipscale.config.consistency import check_feedback, check_image_side, check_parts, check_start, image_shape
from lipscale.config.messages import parsed, wrong
from lipscale.config.models import DatasetOnly, Experiment, Figures
from lipscale.config.runs import settings
from lipscale.errors import LipscaleError
from lipscale.method.methods import METHODS
from lipscale.settings import SourceSettings


def check(config: object) -> Experiment:
    """The config, with defaults filled in. Raises LipscaleError: one sentence on the first thing that is wrong."""
    experiment = parsed(Experiment, config)
    check_image_side(experiment.network, image_shape(experiment.dataset)[1])
    check_feedback(experiment.feedback)
    check_parts(experiment.compute, experiment.training)
    for setting in settings(experiment):
        if setting.method.feedback:
            check_start(f"runs.{setting.method.key}", setting.initial_lipschitz, experiment.feedback)
    return experiment.model_copy(update={"figures": _figures(experiment)})


def check_dataset(section: object) -> SourceSettings:
    """`check` for the section `dataset` alone."""
    return parsed(DatasetOnly, {"dataset": section}).dataset


def overridden(config: object, values: Iterable[str]) -> object:
    """`config` with values such as `training={epochs: 10}` in place of its own, as `snakemake --config` understands them.

    Raises LipscaleError where one is not of that form; the values themselves are left to `check`.
    """
    for text in values:
        key, equals, value = text.partition("=")
        try:
            value = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError):  # ValueError: a date such as 2000-13-01
            equals = ""
        if not equals or not isinstance(config, Mapping):
            raise LipscaleError(f"--config got {text!r}; allowed: KEY=VALUE, the value in YAML")
        old = config.get(key)
        config = {**config, key: {**old, **value} if isinstance(old, Mapping) and isinstance(value, Mapping) else value}
    return config


def _figures(experiment: Experiment) -> Figures:
    """The section `figures` with the L of the network that Figure 1 divides."""
    key = METHODS["fixed"].key
    fixed, posthoc = getattr(experiment.runs, key), experiment.figures.posthoc_lipschitz
    if posthoc is None:
        return Figures(posthoc_lipschitz=max(fixed))
    if posthoc not in fixed:
        raise wrong("figures.posthoc_lipschitz", posthoc, f"one of runs.{key}, [{', '.join(f'{value:g}' for value in fixed)}]")
    return experiment.figures

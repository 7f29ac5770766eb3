"""Configs: checked before any work starts, defaults filled in, expanded into runs. Needs neither torch nor numpy.

Snakemake reads configs with it when it parses the workflow. The models of the sections are in `lipscale.config.models`.
"""

from lipscale.config.check import check, check_dataset, overridden
from lipscale.config.consistency import check_image_side, image_shape
from lipscale.config.models import Experiment
from lipscale.config.networks import SIZES
from lipscale.config.runs import Run, check_run, compute_identity, digest, runs

__all__ = [
    "SIZES",
    "Experiment",
    "Run",
    "check",
    "check_dataset",
    "check_image_side",
    "check_run",
    "compute_identity",
    "digest",
    "image_shape",
    "overridden",
    "runs",
]

"""The checked config, and what all rules share."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake import __version__ as snakemake_version
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from lipscale import config as configs
from lipscale import discovery
from lipscale.errors import LipscaleError
from lipscale.method.methods import METHODS

# Not a plain `configfile:`, which would mix the default's values into a config given with --configfile.
if not workflow.configfiles:

    configfile: "config/config.yaml"


try:
    CONFIG = configs.check(config)
except LipscaleError as error:
    raise WorkflowError(str(error)) from None

# Snakemake formats the paths of conda environments, and a colon ends an entry of PYTHONPATH.
if set("{}:") & set(str(workflow.basedir)):
    raise WorkflowError(f"the workflow lies in {workflow.basedir}; allowed: a folder without braces and colons in its path")

# What users have installed for themselves (pip install --user) would come before the packages of a conda environment, and pip
# would leave out of the environment what is there.
if DeploymentMethod.CONDA in workflow.deployment_settings.deployment_method:
    os.environ.update(PYTHONNOUSERSITE="1")

PREFIX = shlex.quote(str(Path(workflow.basedir) / "workflow" / "prefix.sh"))
shell.prefix(f"source {PREFIX}; ")

RESULTS = f"results/{CONFIG.experiment}"
DATA = f"{RESULTS}/data"
CODE = Path(workflow.basedir) / "src" / "lipscale"
RUNS = configs.runs(CONFIG)
EVALUATION = CONFIG.evaluation
COMPUTE = CONFIG.compute
IMAGE_FILES = getattr(CONFIG.dataset, "image_files", False)
GPU = "gpu:1" if COMPUTE.device == "cuda" else ""  # for SLURM
GPUS = f"gpu:{COMPUTE.gpus}" if GPU else ""  # of a training
GPU_SHARE = 100 // COMPUTE.jobs_per_gpu if GPU else 0  # in percent

# What a job handles. Heavy (training, attacks): one run, or packed, all seeds of a setting. Light (evaluation): one run, or
# packed, all runs.
PACKED = COMPUTE.pack
HEAVY_JOB = "{setting}" if PACKED else "{setting}-seed{seed}"
LIGHT_JOB = "all" if PACKED else HEAVY_JOB
SPLIT = COMPUTE.shards > 1  # where `attack` joins what `attack_shard` found; `evaluate` and `attack_calibration` likewise


wildcard_constraints:
    setting="|".join(sorted({re.escape(settings.setting) for settings in RUNS})),
    seed=r"[0-9]+",


def results_folder(wildcards):
    """The folder of the experiment. A function, as Snakemake's linter takes a plain text for a prefix of input files."""
    return RESULTS


def run_folder(settings):
    return f"{RESULTS}/runs/{settings.run}"


def folders_of(property_):
    """The folders of all runs whose method has a property, `feedback` or `constrained`."""
    return [run_folder(settings) for settings in RUNS if getattr(METHODS[settings.method], property_)]


def of_heavy(name):
    """The file `name` of each run that a heavy job handles."""
    pattern = f"{RESULTS}/runs/{{setting}}-seed{{seed}}/{name}"
    return expand(pattern, seed=CONFIG.runs.seeds, allow_missing=True) if PACKED else pattern


def of_light(name):
    """The file `name` of each run that a light job handles."""
    return [f"{run_folder(settings)}/{name}" for settings in RUNS] if PACKED else of_heavy(name)


def of_shards(epsilons):
    """The verdicts of all shards of a run at some epsilons; none where attacks are not split."""
    numbers = range(1, COMPUTE.shards + 1) if SPLIT else []
    names = [f"{epsilon}-{number}of{COMPUTE.shards}.json" for epsilon in sorted(epsilons) for number in numbers]
    return [f"{RESULTS}/runs/{{setting}}-seed{{seed}}/attack-shards/{name}" for name in names]


def of_all_shards(folder):
    """What all shards of the evaluation, or of the attack on calibration, wrote to this folder of a run."""
    numbers = range(1, COMPUTE.shards + 1) if SPLIT else []
    return [of_heavy(f"{folder}/{number}of{COMPUTE.shards}.npz") for number in numbers]


def runs_of(wildcards, output):
    """The folder of each run that a job handles."""
    return sorted({str(Path(path).parent) for path in output})


def runs_in(wildcards):
    """The settings of each run that a heavy job handles."""
    names = of_heavy("config.yaml")
    names = {expand(name, **wildcards)[0] for name in ([names] if isinstance(names, str) else names)}
    return [settings for settings in RUNS if f"{run_folder(settings)}/config.yaml" in names]


def settings_of(part):
    """A function of the wildcards: a part of the settings of each run that a heavy job handles, as JSON.

    Snakemake remembers such params, and reruns a job when they change. The job itself reads the run's config.yaml.
    """

    return lambda wildcards: json.dumps([part(settings) for settings in runs_in(wildcards)])


def attack_settings(settings):
    """The part of a run's settings on which its AutoAttack depends."""
    return settings.evaluation.model_dump(mode="json", exclude={"falsify_images", "calibration_epsilons"})


def more_memory(mem_mb):
    """Twice, three times and so on as much where a job is tried again, since it may have failed for the lack of it."""
    return lambda wildcards, attempt: attempt * mem_mb


def more_time(minutes):
    """The same for time, up to a day, which many clusters allow and no more."""
    return lambda wildcards, attempt: max(minutes, min(attempt * minutes, 24 * 60))


def dump(section):
    """A part of the config as JSON; a function, as Snakemake would look for wildcards in a plain text."""
    return lambda wildcards: json.dumps(section.model_dump(mode="json"))


def dataset_path(wildcards):
    """The images that the config names, where they exist; if they do not, `prepare` says so in a sentence.

    Prepared data outlive them: Snakemake would else prepare them again, and first remove all trained networks, because the images were
    copied, which makes them newer (hence `ancient`; `onstart` names images that are newer), or deleted. A path with braces, which
    Snakemake takes for a wildcard, is read all the same.
    """
    path, prepared = CONFIG.dataset.path, os.path.exists(f"{DATA}/manifest.json")
    return ancient(path) if IMAGE_FILES and (prepared or os.path.exists(path)) and "{" not in path else []


def asked_for(wildcards):
    """The part of the config that tables depend on, as JSON: all but how jobs are distributed."""
    sections = CONFIG.model_dump(mode="json", exclude={"compute"})
    return json.dumps({**sections, "compute": configs.compute_identity(COMPUTE)})


def table_file(name):
    """The file of a table that a figure declares."""
    return f"{RESULTS}/tables/{name}.csv" + (".gz" if name == "images" else "")


def replayed(wildcards):
    """The updates of L, and the settings, of the runs whose L the runs of a job replay."""
    runs = [settings.replays for settings in runs_in(wildcards) if settings.replays]
    return [f"{RESULTS}/runs/{run}/{name}" for run in runs for name in ("feedback.csv", "provenance.json")]

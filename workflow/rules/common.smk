"""The checked config, and what all rules share."""

import json
import os
import shlex
import sys
from pathlib import Path

from snakemake import __version__ as snakemake_version
from snakemake.exceptions import WorkflowError
from snakemake.settings.types import DeploymentMethod

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from lipscale import config as configs
from lipscale.store import locks
from lipscale.errors import LipscaleError

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

RESULTS = f"results/{CONFIG['experiment']}"
DATA = f"{RESULTS}/data"

if workflow.is_main_process and not workflow.output_settings.dryrun:
    try:
        LOCK = locks.hold_experiment(Path(RESULTS), Path(".snakemake/locks"))  # open, and so locked, until this process ends
    except (LipscaleError, OSError) as error:
        raise WorkflowError(str(error)) from None

RUNS = list(configs.runs(CONFIG))
RUN_FOLDERS = [f"{RESULTS}/runs/{settings['run']}" for settings in RUNS]
LIST_FOLDERS = [folder for settings, folder in zip(RUNS, RUN_FOLDERS) if settings["method"] == "list"]
CERTIFIED_FOLDERS = [folder for settings, folder in zip(RUNS, RUN_FOLDERS) if settings["method"] != "unconstrained"]
EVALUATION = CONFIG["evaluation"]
COMPUTE = CONFIG["compute"]
GPU = "gpu:1" if COMPUTE["device"] == "cuda" else ""  # for SLURM
GPU_SHARE = 100 // COMPUTE["jobs_per_gpu"] if GPU else 0  # in percent
CODE = Path(workflow.basedir) / "src" / "lipscale"
FIGURE_CODE = CODE / "report" / "figures"
STYLE = str(FIGURE_CODE / "style.py")

# What a job handles. Heavy (training, attack): one run, or packed, all seeds of a setting. Light (logits, calibration, radii):
# one run, or packed, all runs.
PACKED = COMPUTE["pack"]
HEAVY_JOB = "{setting}" if PACKED else "{setting}-seed{seed}"
LIGHT_JOB = "all" if PACKED else HEAVY_JOB


wildcard_constraints:
    setting=r"(list|fixed)-[0-9.e+-]+|unconstrained",
    seed=r"[0-9]+",


def of_heavy(name):
    """The file `name` of each run that a heavy job handles."""
    pattern = f"{RESULTS}/runs/{{setting}}-seed{{seed}}/{name}"
    return expand(pattern, seed=CONFIG["runs"]["seeds"], allow_missing=True) if PACKED else pattern


def of_light(name):
    """The file `name` of each run that a light job handles."""
    return expand("{folder}/{name}", folder=RUN_FOLDERS, name=name) if PACKED else of_heavy(name)


def folders(wildcards, output):
    """The folder of each run that a job handles."""
    return sorted({str(Path(path).parent) for path in output})


def asked_for(wildcards):
    """What the tables are checked against, as JSON: the part of the config that results depend on.

    A function, as Snakemake would look for wildcards in a text.
    """
    keys = ("dataset", "network", "training", "feedback", "runs", "evaluation")
    compute = {key: COMPUTE[key] for key in ("device", "threads", "precision", "compile")}
    return json.dumps({key: CONFIG[key] for key in keys} | {"compute": compute})


def more_memory(mem_mb):
    """Twice, three times and so on as much where a job is tried again, since it may have failed for the lack of it."""
    return lambda wildcards, attempt: attempt * mem_mb


def more_time(minutes):
    """The same for time, up to a day, which many clusters allow and no more."""
    return lambda wildcards, attempt: max(minutes, min(attempt * minutes, 24 * 60))


def settings_of(wildcards):
    """The settings of each run that a heavy job handles, as JSON.

    A function of the wildcards alone: only such params does Snakemake remember, to make runs anew when their settings change.
    """
    names = of_heavy("config.yaml")
    names = {expand(name, **wildcards)[0] for name in ([names] if isinstance(names, str) else names)}
    return json.dumps([settings for settings, folder in zip(RUNS, RUN_FOLDERS) if f"{folder}/config.yaml" in names])


def dataset_path(wildcards):
    """The images that the config names, where they are there; if they are not, `prepare` says so in a sentence.

    A path with braces, which Snakemake takes for a wildcard, is read all the same, but not watched for changes.
    """
    path = CONFIG["dataset"]["path"]
    return path if CONFIG["dataset"]["name"] == "imagefolder" and os.path.exists(path) and "{" not in path else []


def dataset_settings(wildcards):
    """The section `dataset` as JSON; not a plain param, in which Snakemake would look for wildcards."""
    return json.dumps(CONFIG["dataset"])


def tables_to_make(wildcards):
    """Nothing if there are tables: `snakemake figures` redraws from them as they are, computes nothing else, and says so where
    one is missing, as an older version did not make it."""
    return [] if Path(f"{RESULTS}/tables/runs.csv").exists() else rules.tabulate.output

"""Whether results were made with the settings that the config asks for.

Snakemake notices a changed setting and reruns what depends on it, but only while its records lie beside the results.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lipscale import config
from lipscale.errors import LipscaleError
from lipscale.method.methods import METHODS
from lipscale.store import files
from lipscale.store.checksums import checked
from lipscale.store.run_folder import ExperimentFolder, RunFolder

ATTACK = {  # names in attack.json, and in the section `evaluation`
    "epsilons": "epsilons",
    "images": "attack_images",
    "spot_checks": "spot_check_images",
    "seed": "attack_seed",
}
WITHOUT_EFFECT = {"path", "largest_unpacked_gib"}  # of the section `dataset`: where images lie does not change them


def check_origin(experiment: ExperimentFolder, wanted: Iterable) -> None:
    """Check the data set, the runs and their attacks.

    Args:
        wanted: the `config.Run` of each run, in the order of `experiment.runs`.

    Raises:
        LipscaleError: one was made with other settings.
    """
    path = experiment.data / "manifest.json"
    found = files.read_json(checked(path))["settings"]
    compare(path, found, experiment.config.dataset.model_dump(mode="json"))
    for folder, run in zip(experiment.runs, wanted, strict=True):
        folder.check_data()
        check_run(folder, run)


def check_run(folder: RunFolder, run) -> None:
    """Check that a run and its attack were made with the settings of `run`, a `config.Run`.

    The settings name the key that differs. The hash that training recorded tells what the weights were trained with, even
    if config.yaml was written again since.
    """
    compare(folder / "config.yaml", folder.settings.identity(), run.identity())
    if folder.json("provenance.json")["config_hash"] != config.digest(run.identity()):
        raise LipscaleError(f"{folder.path} was trained with other settings than its config.yaml; delete it and rerun")
    evaluation, attack = run.evaluation.model_dump(mode="json"), folder.json("attack.json")
    expected = {name: evaluation[key] for name, key in ATTACK.items()}
    expected["epsilons"] = sorted(expected["epsilons"])
    compare(folder / "attack.json", {name: attack[name] for name in ATTACK}, expected)
    if METHODS[run.method].constrained:
        budgets = sorted(evaluation.get("calibration_epsilons") or evaluation["epsilons"])
        found = folder.json("calibration_attack.json")["epsilons"]
        compare(folder / "calibration_attack.json", {"epsilons": found}, {"epsilons": budgets})


def compare(path: Path, found: Mapping, wanted: Mapping) -> None:
    """Raises LipscaleError: a value in the file `path` differs from that of the config."""
    for key, value, other in differences(found, wanted):
        raise LipscaleError(f"{path} was made with {key} = {value!r}, and the config says {other!r}; delete it and rerun")


def differences(found: Mapping, wanted: Mapping, section: str = "") -> Iterator[tuple[str, object, object]]:
    """The settings that differ, but for those WITHOUT_EFFECT: key, such as `training.epochs`, and both values."""
    for name in sorted({*found, *wanted} - WITHOUT_EFFECT):
        values = (found.get(name), wanted.get(name))
        if all(isinstance(value, Mapping) for value in values):
            yield from differences(*values, f"{section}{name}.")
        elif values[0] != values[1]:
            yield f"{section}{name}", *values

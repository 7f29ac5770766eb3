"""Results of other settings are moved to `results/<experiment>/replaced/` before the workflow computes new ones."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from lipscale import config
from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.store.checksums import FOLDER

FOLDER_NAME = "replaced"
ATTACK = {"epsilons": "epsilons", "images": "attack_images", "spot_checks": "spot_check_images", "seed": "attack_seed"}
FALSIFY = {"images": "falsify_images", "seed": "attack_seed"}


def move_aside(wanted: config.Experiment, folders: Mapping[str, Iterable[Path]]) -> Iterator[tuple[Path, str]]:
    """Move what is about to be recomputed with other settings; yields each new path and what the settings were.

    Args:
        wanted: the config of the experiment.
        folders: the run folders that each rule is about to write into, by the names in RULES.
    """
    settings = {run.run: run for run in config.runs(wanted)}
    for rule, changed, names, suffix in RULES:
        for folder in sorted(folders.get(rule, ())):
            if folder.exists() and folder.name in settings and (reason := changed(folder, settings[folder.name])):
                yield _move(folder, names, suffix), reason


def not_asked_for(wanted: config.Experiment, results: Path) -> list[str]:
    """Names of runs under `results` that a config does not ask for."""
    asked = {run.run for run in config.runs(wanted)}
    return sorted(
        path.name for path in (results / "runs").glob("*") if path.is_dir() and path.name[0] != "." and path.name not in asked
    )


def _trained_differently(folder: Path, run: config.Run) -> str:
    """The first setting that a finished run was trained with and that differs now; empty if there is none."""
    try:
        trained = files.read_json(folder / "provenance.json")["config_hash"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""  # never finished: an unfinished training checks by itself what its checkpoint was made with
    if trained == config.digest(run.identity()):
        return ""
    try:
        before = config.check_run(files.read_yaml(folder / "config.yaml")).identity()
    except (LipscaleError, OSError):
        return "other settings"
    return _first_difference(before, run.identity()) or "other settings"


def _attacked_differently(folder: Path, run: config.Run) -> str:
    return _other_options(folder / "attack.json", run, ATTACK)


def _falsified_differently(folder: Path, run: config.Run) -> str:
    return _other_options(folder / "falsification.json", run, FALSIFY)


def _calibration_attacked_differently(folder: Path, run: config.Run) -> str:
    """The budgets of a finished attack on calibration, if they are others now."""
    try:
        before = files.read_json(folder / "calibration_attack.json")["epsilons"]
    except (OSError, ValueError, LookupError, TypeError):
        return ""
    return "" if before == run.calibration_budgets else f"evaluation.calibration_epsilons = {before!r}"


def _other_options(path: Path, run: config.Run, names: Mapping[str, str]) -> str:
    """The first key of the section `evaluation` that a finished attack was made with another value of; empty if none."""
    try:
        found = files.read_json(path)
    except (OSError, ValueError):
        return ""
    evaluation, options = run.evaluation.model_dump(mode="json"), found.get("options", found)
    before = {key: options.get(name) for name, key in names.items()}
    after = {key: sorted(evaluation[key]) if key == "epsilons" else evaluation[key] for key in names.values()}
    return _first_difference(before, after, "evaluation.")


def _first_difference(before: Mapping, after: Mapping, prefix: str = "") -> str:
    for key in sorted({*before, *after}):
        values = before.get(key), after.get(key)
        if all(isinstance(value, Mapping) for value in values):
            if found := _first_difference(*values, f"{prefix}{key}."):
                return found
        elif values[0] != values[1]:
            return f"{prefix}{key} = {values[0]!r}"
    return ""


def _move(folder: Path, names: Sequence[str], suffix: str) -> Path:
    """Move a run's folder, or the named files of it with their checksums, to a new folder under `replaced`."""
    parent, number = folder.parent.parent / FOLDER_NAME, 1
    while (target := parent / f"{folder.name}{suffix}-{number}").exists():
        number += 1
    parent.mkdir(parents=True, exist_ok=True)
    if not names:
        return folder.rename(target)
    for name in names:
        for relative in (Path(name), Path(FOLDER, f"{name}.json")):
            if (folder / relative).exists():
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                (folder / relative).rename(target / relative)
    return target


RULES = (  # the rule, what tells that results are of other settings, the files that are moved (none: the whole folder)
    ("train", _trained_differently, (), ""),
    ("attack", _attacked_differently, ("attack.csv", "attack.json"), "-attack"),
    (
        "attack_calibration",
        _calibration_attacked_differently,
        ("calibration_attack.csv", "calibration_attack.json", "reliability_band.csv"),
        "-calibration-attack",
    ),
    ("falsify_certificates", _falsified_differently, ("falsification.csv", "falsification.json"), "-falsification"),
)

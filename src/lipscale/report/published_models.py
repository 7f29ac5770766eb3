"""The trained networks that are published with the results of an experiment."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from lipscale.errors import LipscaleError
from lipscale.store import files
from lipscale.store.checksums import checked
from lipscale.store.manifest import read_manifest
from lipscale.store.published import NETWORKS, SUFFIX, published
from lipscale.store.run_folder import ExperimentFolder, RunFolder

LARGEST_TOTAL = 8 * 10**6  # bytes of all published networks together, since they are committed
DESCRIPTION = "networks.json"
DATA = (  # of the manifest
    *("dataset", "settings", "source", "arrays_sha256", "preparation_sha256", "image_shape", "mean", "classes"),
)


def model_files(results: Path, folder: Path, runs: Sequence[str], known: Sequence[str], add: bool = False) -> dict[str, Path]:
    """The model files of `runs`, by run, where all may be published.

    Args:
        results: results/<experiment>.
        folder: results/published/<experiment>; networks of other experiments beside it count.
        runs: their names.
        known: names of all runs of the experiment.
        add: the networks in `folder` stay, and count.

    Raises:
        LipscaleError: a run or its model is missing, or the published networks would be too large together.
    """
    unknown = [run for run in runs if run not in known]
    if unknown:
        raise LipscaleError(f"publish: --models names {unknown[0]!r}; allowed: {', '.join(known)}")
    models = {run: checked(results / "runs" / run / "model.safetensors") for run in runs}
    others = [path for path in published(folder.parent).values() if add or path.parent.parent.resolve() != folder.resolve()]
    new, old = (sum(path.stat().st_size for path in paths) for paths in (models.values(), others))
    if new + old > LARGEST_TOTAL:
        raise LipscaleError(
            f"publish: the {len(models)} networks of --models take {megabytes(new)} and those that stay published "
            f"{megabytes(old)}; allowed: {megabytes(LARGEST_TOTAL)} together, so fewer or smaller networks"
        )
    return models


def write_models(results: Path, folder: Path, models: dict[str, Path], add: bool = False) -> list[str]:
    """Copy the model files into `folder`/networks and describe them there, in networks.json.

    Others are removed from it, unless `add`. Returns the runs whose networks are there now.
    """
    networks = folder / NETWORKS
    described = files.read_json(networks / DESCRIPTION)["networks"] if add and (networks / DESCRIPTION).exists() else {}
    if not described:
        shutil.rmtree(networks, ignore_errors=True)
    if models:
        networks.mkdir(parents=True, exist_ok=True)
        for run, path in models.items():
            shutil.copyfile(path, networks / f"{run}{SUFFIX}")
        manifest = read_manifest(results / "data")
        described |= {run: describe(ExperimentFolder(results).run(run), path) for run, path in models.items()}
        files.write_json(networks / DESCRIPTION, {"data": {key: manifest.get(key) for key in DATA}, "networks": described})
    return list(described)


def describe(run: RunFolder, model: Path) -> dict:
    """What a user of a network may ask: its L, T* of the validation split, and where it comes from."""
    origin, calibration, certificate = (run.json(f"{name}.json") for name in ("provenance", "calibration", "certificate"))
    return {
        "sha256": files.sha256(model),
        "lipschitz": certificate["lipschitz"],
        "lipschitz_certified": certificate["lipschitz_certified"],
        "temperature": calibration["temperature"],
        "commit": origin["commit"],
        "config_hash": origin["config_hash"],
        "data_sha256": origin["data_sha256"],
    }


def in_words(experiment: str, runs: Sequence[str]) -> str:
    """The published networks, for the page."""
    if not runs:
        return "none"
    names = ", ".join(f"[`{experiment}/{run}`]({NETWORKS}/{run}{SUFFIX})" for run in runs)
    return f"{names}; `lipscale.load` opens them, [`{NETWORKS}/{DESCRIPTION}`]({NETWORKS}/{DESCRIPTION}) describes them"


def megabytes(size: int) -> str:
    """A number of bytes, in MB."""
    return f"{size / 1e6:.3g} MB"

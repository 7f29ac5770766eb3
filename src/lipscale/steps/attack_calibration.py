"""Attack the calibration of trained runs, and compare NLL, Brier score and ECE under attack with their proven bounds.

Each run's folder gets calibration_attack.csv (a row per test image), calibration_attack.json (means and ECE) and
reliability_band.csv (a row per bin). The attacked images are those of attack.csv. A value above its bound is an error. Runs
without constraint have no bounds and are refused. Finished batches are kept, so that an attack that was stopped resumes from
there.
"""

import argparse
import io
import math
import time

import numpy as np
import torch

from lipscale.attacks.on_calibration import CalibrationAttack, Options, State, attack_calibration, bounds_at, task
from lipscale.attacks.reliability_under_attack import COLUMNS, reliability_rows
from lipscale.certification.certificate import Certificate, certificate
from lipscale.certification.model_file import load
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError, enough_memory
from lipscale.steps.common import add_runs, run_folders
from lipscale.store import files, locks, provenance, state
from lipscale.store.checksums import checked, record
from lipscale.store.dataset import read_dataset
from lipscale.store.run_folder import PARTIAL_CALIBRATION, RunFolder
from lipscale.training.devices import select_device

OUTPUTS = ("calibration_attack.csv", "calibration_attack.json", "reliability_band.csv")


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)


def run(options: argparse.Namespace) -> None:
    experiment, folders = run_folders(options.runs)
    with locks.writing("attack-calibration", [folder.path for folder in folders]):
        dataset = read_dataset(experiment.data, ["test"])
        for folder in folders:
            size = folder.settings.evaluation.attack_batch_size
            with enough_memory(
                f"the attack on calibration of run {folder.name}", f"lower evaluation.attack_batch_size, which is {size}"
            ):
                _attack(folder, dataset)


def _attack(folder: RunFolder, dataset: Dataset) -> None:
    start, settings = time.perf_counter(), folder.settings
    evaluation = settings.evaluation
    folder.check_data()
    torch.set_num_threads(settings.compute.threads)
    device, model = select_device(settings.compute.device), checked(folder / "model.safetensors")
    network, temperature = load(model, device), folder.json("calibration.json")["temperature"]
    if not math.isfinite(network.lipschitz):
        raise LipscaleError(f"run {folder.name} has no constraint, so nothing bounds its calibration; allowed: other runs")
    options = Options(tuple(settings.calibration_budgets), evaluation.attack_batch_size)
    temperatures = {"": 1.0} | ({} if temperature is None else {"_scaled": temperature})
    chosen = np.array([int(row["index"]) for row in folder.rows("attack.csv")])
    identity = task(options, temperatures) | {"model_sha256": files.sha256(model), "attacked": chosen.tolist()}
    content = state.load(folder / PARTIAL_CALIBRATION, identity)
    arrays, promise = folder.logits(), certificate(network)
    found = attack_calibration(
        network,
        dataset.splits["test"],
        arrays["test_logits"],
        promise,
        chosen,
        temperatures,
        options,
        device,
        state=None if content is None else _unpacked(content),
        save=lambda batches: state.save(folder / PARTIAL_CALIBRATION, identity, _packed(batches)),
        name=folder.name,
    )
    facts = {name: value for name, value in identity.items() if name != "attacked"}
    facts |= {"evaluated_images": len(chosen), "cases": _cases(found, arrays, promise), "seconds": time.perf_counter() - start}
    files.write_json(folder / "calibration_attack.json", facts | {"versions": provenance.versions()})
    files.write_rows(folder / "calibration_attack.csv", found.columns(), found.rows())
    bins = reliability_rows(found, arrays["test_logits"], arrays["test_labels"], folder.name)
    files.write_rows(folder / "reliability_band.csv", COLUMNS, bins)
    sources = [folder / name for name in ("model.safetensors", "logits.npz", "calibration.json", "attack.csv")]
    for name in OUTPUTS:
        record(folder / name, made_from=sources)


def _cases(found: CalibrationAttack, arrays: dict[str, np.ndarray], promise: Certificate) -> list[dict]:
    """The numbers of each case, with the certified NLL of the validation split, which an offset may be chosen by."""
    logits, labels = arrays["validation_logits"], arrays["validation_labels"]
    bounds = (bounds_at(logits, labels, promise, one.epsilon, one.temperature) for one in found.cases)
    rows = zip(found.summary(), bounds, strict=True)
    return [row | {"validation_certified_nll": float(one.nll.mean())} for row, one in rows]


def _packed(batches: State) -> bytes:
    arrays = {
        f"{number}/{key}/{name}": array
        for number, batch in enumerate(batches)
        for key, fields in batch.items()
        for name, array in fields.items()
    }
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def _unpacked(content: bytes) -> State:
    batches: State = []
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        for path in arrays.files:
            number, key, name = path.split("/")
            if int(number) == len(batches):
                batches.append({})
            batches[int(number)].setdefault(key, {})[name] = arrays[path]
    return batches

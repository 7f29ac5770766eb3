"""Attack the calibration of trained runs, and compare NLL, Brier score and ECE under attack with their proven bounds.

Each run's folder gets calibration_attack.csv (a row per test image), calibration_attack.json (means and ECE) and
reliability_band.csv (a row per bin). The attacked images are those of attack.csv. A value above its bound is an error. Runs
without constraint have no bounds and are refused. Finished batches are kept, so that an attack that was stopped resumes from
there. If compute.shards is more than 1, `attack-calibration-shard` has attacked, and this step joins what it found.
"""

import argparse
import json
import math
import time

import numpy as np
import torch

from lipscale.attacks.calibration_results import CalibrationAttack
from lipscale.attacks.calibration_state import State, packed, unpacked
from lipscale.attacks.on_calibration import Options, Target, attack_calibration, bounds_at
from lipscale.attacks.reliability_under_attack import COLUMNS, reliability_rows
from lipscale.certification.certificate import Certificate, certificate
from lipscale.certification.model_file import load
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError, enough_memory
from lipscale.steps.attack import advice, partial
from lipscale.steps.common import add_runs, run_folders
from lipscale.store import files, locks, provenance, state
from lipscale.store.checksums import checked, record
from lipscale.store.dataset import read_dataset
from lipscale.store.run_folder import PARTIAL_CALIBRATION, RunFolder
from lipscale.training.devices import select_device

SOURCES = ("model.safetensors", "logits.npz", "calibration.json", "attack.csv")
OUTPUTS = ("calibration_attack.csv", "calibration_attack.json", "reliability_band.csv")


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)


def run(options: argparse.Namespace) -> None:
    experiment, folders = run_folders(options.runs)
    with locks.writing("attack-calibration", [folder.path for folder in folders]):
        dataset = read_dataset(experiment.data, ["test"])
        for folder in folders:
            with enough_memory(f"the attack on calibration of run {folder.name}", advice(folder)):
                _attack(folder, dataset)


def target_of(folder: RunFolder, logits: np.ndarray, dataset: Dataset, device: torch.device) -> Target:
    """What is attacked of a run; logits of the test split.

    Raises:
        LipscaleError: nothing bounds the calibration of the run.
    """
    folder.check_data()
    settings, network = folder.settings, load(checked(folder / "model.safetensors"), device)
    if not math.isfinite(network.lipschitz):
        raise LipscaleError(f"run {folder.name} has no constraint, so nothing bounds its calibration; allowed: other runs")
    temperature = folder.json("calibration.json")["temperature"]
    return Target(
        network=network,
        split=dataset.splits["test"],
        logits=logits,
        promise=certificate(network),
        chosen=np.array([int(row["index"]) for row in folder.rows("attack.csv")]),
        temperatures={"": 1.0} | ({} if temperature is None else {"_scaled": temperature}),
        options=Options(tuple(settings.calibration_budgets), settings.evaluation.attack_batch_size),
        device=device,
        name=folder.name,
    )


def identity_of(folder: RunFolder, target: Target) -> dict:
    """What the result depends on."""
    return target.task | {"model_sha256": files.sha256(folder / "model.safetensors"), "attacked": target.chosen.tolist()}


def _attack(folder: RunFolder, dataset: Dataset) -> None:
    start, compute = time.perf_counter(), folder.settings.compute
    torch.set_num_threads(compute.threads)
    arrays, split = folder.logits(), compute.shards > 1
    device = torch.device("cpu") if split else select_device(compute.device)
    target = target_of(folder, arrays["test_logits"], dataset, device)
    identity, kept = identity_of(folder, target), folder / PARTIAL_CALIBRATION
    if split:
        finished, seconds = _of_shards(folder, identity)
    else:
        content = state.load(kept, identity)
        finished, seconds = None if content is None else unpacked(content)[0], 0.0
    found = attack_calibration(target, finished, lambda batches: state.save(kept, identity, packed(batches)))
    seconds += time.perf_counter() - start
    facts = {name: value for name, value in identity.items() if name != "attacked"}
    facts |= {
        "evaluated_images": len(target.chosen),
        "cases": _cases(found, arrays, target.promise),
        "seconds": seconds,
        "versions": provenance.versions(),
    }
    files.write_json(folder / "calibration_attack.json", facts)
    files.write_rows(folder / "calibration_attack.csv", found.columns(), found.rows())
    bins = reliability_rows(found, arrays["test_logits"], arrays["test_labels"], folder.name)
    files.write_rows(folder / "reliability_band.csv", COLUMNS, bins)
    for name in OUTPUTS:
        record(folder / name, made_from=[folder / source for source in SOURCES])
    for path in folder.calibration_shards():
        partial(path).unlink(missing_ok=True)


def _of_shards(folder: RunFolder, identity: dict) -> tuple[State, float]:
    """The batches of all shards, and the seconds that they took.

    Raises:
        LipscaleError: the result of a shard is missing, altered, or of other settings.
    """
    batches, seconds = [], 0.0
    for path in folder.calibration_shards():
        part, facts = unpacked(checked(path).read_bytes())
        if json.loads(facts["identity"]) != identity:
            raise LipscaleError(f"{path} was made with other settings; delete it and rerun the workflow")
        batches += part
        seconds += facts["seconds"]
    return batches, seconds


def _cases(found: CalibrationAttack, arrays: dict[str, np.ndarray], promise: Certificate) -> list[dict]:
    """The numbers of each case, with the certified NLL of the validation split, which an offset may be chosen by."""
    logits, labels = arrays["validation_logits"], arrays["validation_labels"]
    bounds = (bounds_at(logits, labels, promise, one.epsilon, one.temperature) for one in found.cases)
    rows = zip(found.summary(), bounds, strict=True)
    return [row | {"validation_certified_nll": float(one.nll.mean())} for row, one in rows]

"""AutoAttack on a sample of the test images of trained runs.

Each run's folder gets attack.csv (index, robust_EPS, attacked_EPS ...) and attack.json. Finished batches are kept, so that an
attack that was stopped resumes from there.
"""

import argparse
import json
import time

import torch

from lipscale.attacks.robustness import Options, Robustness, evaluate_robustness, task
from lipscale.certification.binding import check_fits
from lipscale.certification.model_file import load
from lipscale.data.dataset import Dataset
from lipscale.errors import enough_memory
from lipscale.steps.common import add_runs, run_folders
from lipscale.store import files, locks, provenance, state
from lipscale.store.checksums import checked, record
from lipscale.store.dataset import read_dataset
from lipscale.store.run_folder import PARTIAL, RunFolder
from lipscale.training.devices import select_device


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)


def run(options: argparse.Namespace) -> None:
    experiment, folders = run_folders(options.runs)
    with locks.writing("attack", [folder.path for folder in folders]):
        dataset = read_dataset(experiment.data, ["test"])
        for folder in folders:
            size = folder.settings.evaluation.attack_batch_size
            with enough_memory(f"the attack on run {folder.name}", f"lower evaluation.attack_batch_size, which is {size}"):
                _attack(folder, dataset)


def _attack(folder: RunFolder, dataset: Dataset) -> None:
    start, settings = time.perf_counter(), folder.settings
    evaluation = settings.evaluation
    folder.check_data()
    torch.set_num_threads(settings.compute.threads)
    options = Options(
        epsilons=tuple(evaluation.epsilons),
        images=evaluation.attack_images,
        spot_checks=evaluation.spot_check_images,
        batch_size=evaluation.attack_batch_size,
        seed=evaluation.attack_seed,
    )
    device, model = select_device(settings.compute.device), checked(folder / "model.safetensors")
    temperature = folder.temperature()
    logits = folder.logits()["test_logits"]
    identity = task(options, logits.shape[1], temperature) | {"model_sha256": files.sha256(model)}
    content = state.load(folder / PARTIAL, identity)
    network = load(model, device)
    check_fits(network.binding, dataset)
    robustness = evaluate_robustness(
        network,
        dataset.splits["test"],
        logits,
        *folder.radii(),
        temperature=temperature,
        options=options,
        device=device,
        state=None if content is None else json.loads(content),
        save=lambda verdicts: state.save(folder / PARTIAL, identity, json.dumps(verdicts).encode()),
        name=folder.name,
    )
    _write(folder, robustness, identity | {"seconds": time.perf_counter() - start})


def _write(folder: RunFolder, robustness: Robustness, facts: dict) -> None:
    files.write_json(folder / "attack.json", facts | {"versions": provenance.versions()})
    files.write_rows(folder / "attack.csv", robustness.columns(), robustness.rows())
    sources = [folder / name for name in ("model.safetensors", "logits.npz", "radii.csv", "calibration.json")]
    for name in ("attack.csv", "attack.json"):
        record(folder / name, made_from=sources)

"""AutoAttack on a sample of the test images of trained runs.

Each run's folder gets attack.csv (index, robust_EPS, attacked_EPS ...) and attack.json. Finished batches are kept, so that an
attack that was stopped resumes from there. If compute.shards is more than 1, `attack-shard` has attacked, and this step joins
what it found.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from lipscale.attacks.robustness import evaluate_robustness
from lipscale.attacks.sample import Options, Robustness, Sample, task
from lipscale.certification.binding import check_fits
from lipscale.certification.model_file import load
from lipscale.config.models import Evaluation
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError, enough_memory
from lipscale.steps.common import add_runs, run_folders
from lipscale.store import files, locks, provenance, state
from lipscale.store.checksums import checked, record
from lipscale.store.dataset import read_dataset
from lipscale.store.run_folder import PARTIAL, RunFolder
from lipscale.training.devices import select_device

SOURCES = ("model.safetensors", "logits.npz", "radii.csv", "calibration.json")


def arguments(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)


def run(options: argparse.Namespace) -> None:
    experiment, folders = run_folders(options.runs)
    with locks.writing("attack", [folder.path for folder in folders]):
        whole = [folder for folder in folders if folder.settings.compute.shards == 1]
        dataset = read_dataset(experiment.data, ["test"]) if whole else None
        for folder in folders:
            folder.check_data()
            if folder in whole:
                with enough_memory(f"the attack on run {folder.name}", advice(folder)):
                    _attack(folder, dataset)
            else:
                _join(folder)


def advice(folder: RunFolder) -> str:
    """What to do where memory does not suffice."""
    return f"lower evaluation.attack_batch_size, which is {folder.settings.evaluation.attack_batch_size}"


def options_of(evaluation: Evaluation) -> Options:
    return Options(
        epsilons=tuple(evaluation.epsilons),
        images=evaluation.attack_images,
        spot_checks=evaluation.spot_check_images,
        batch_size=evaluation.attack_batch_size,
        seed=evaluation.attack_seed,
    )


def identity_of(folder: RunFolder, options: Options, classes: int) -> dict:
    """What the verdicts depend on."""
    model = checked(folder / "model.safetensors")
    return task(options, classes, folder.temperature()) | {"model_sha256": files.sha256(model)}


def sample_of(folder: RunFolder) -> Sample:
    logits = folder.logits()
    return Sample(logits["test_labels"], logits["test_logits"], *folder.radii(), options_of(folder.settings.evaluation))


def add_shards(sample: Sample, folder: RunFolder, identity: dict, epsilons: Sequence[int]) -> float:
    """Add to a sample what all shards found at these epsilons. Returns the seconds that they took.

    Raises:
        LipscaleError: the result of a shard is missing, altered, or of other settings.
    """
    seconds = 0.0
    for epsilon in epsilons:
        survived = []
        for path in folder.shards([epsilon]):
            part = files.read_json(checked(path))
            if part["identity"] != identity:
                raise LipscaleError(f"{path} was made with other settings; delete it and rerun the workflow")
            survived += part["survived"]
            seconds += part["seconds"]
        sample.add(epsilon, survived)
    return seconds


def partial(shard: Path) -> Path:
    """The finished batches of a shard, beside its result; they stay until this has been read, see `tabulate`."""
    return shard.with_name(f"{shard.stem}-partial{shard.suffix}")


def _attack(folder: RunFolder, dataset: Dataset) -> None:
    start, settings = time.perf_counter(), folder.settings
    torch.set_num_threads(settings.compute.threads)
    options, device = options_of(settings.evaluation), select_device(settings.compute.device)
    logits = folder.logits()["test_logits"]
    identity = identity_of(folder, options, logits.shape[1])
    content = state.load(folder / PARTIAL, identity)
    network = load(folder / "model.safetensors", device)
    check_fits(network.binding, dataset)
    robustness = evaluate_robustness(
        network,
        dataset.splits["test"],
        logits,
        *folder.radii(),
        temperature=folder.temperature(),
        options=options,
        device=device,
        state=None if content is None else json.loads(content),
        save=lambda verdicts: state.save(folder / PARTIAL, identity, json.dumps(verdicts).encode()),
        name=folder.name,
    )
    _write(folder, robustness, identity | {"seconds": time.perf_counter() - start})


def _join(folder: RunFolder) -> None:
    start, sample = time.perf_counter(), sample_of(folder)
    identity = identity_of(folder, sample.options, sample.classes)
    seconds = add_shards(sample, folder, identity, sample.options.epsilons) + time.perf_counter() - start
    _write(folder, sample.found(folder.temperature(), seconds), identity | {"seconds": seconds})
    for path in folder.shards(sample.options.epsilons):
        partial(path).unlink(missing_ok=True)


def _write(folder: RunFolder, robustness: Robustness, facts: dict) -> None:
    files.write_json(folder / "attack.json", facts | {"versions": provenance.versions()})
    files.write_rows(folder / "attack.csv", robustness.columns(), robustness.rows())
    for name in ("attack.csv", "attack.json"):
        record(folder / name, made_from=[folder / source for source in SOURCES])

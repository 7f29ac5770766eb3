"""A part of the AutoAttack on a run, where compute.shards is more than 1.

The part is some of the batches at one epsilon. Which images are attacked there depends on what all shards found at smaller
epsilons, so these come first. What is found goes to attack-shards/ in the run's folder, where `attack` joins it. Finished
batches are kept, so that a shard that was stopped resumes from there.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from lipscale import config
from lipscale.attacks.robustness import attack_shard
from lipscale.certification.binding import check_fits
from lipscale.certification.model_file import load
from lipscale.errors import LipscaleError, enough_memory
from lipscale.steps.attack import SOURCES, add_shards, advice, identity_of, partial, sample_of
from lipscale.steps.common import add_run, add_shard, check_shard
from lipscale.store import files, locks, state
from lipscale.store.checksums import record
from lipscale.store.dataset import read_dataset
from lipscale.store.run_folder import RunFolder
from lipscale.training.devices import select_device


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    parser.add_argument("epsilon", type=int, metavar="EPSILON", help="one of evaluation.epsilons")
    add_shard(parser)


def run(options: argparse.Namespace) -> None:
    folder, epsilon, shard = RunFolder(options.run_folder), options.epsilon, options.shard
    epsilons = sorted(folder.settings.evaluation.epsilons)
    if epsilon not in epsilons:
        raise LipscaleError(f"EPSILON is {epsilon}; allowed: one of evaluation.epsilons, {epsilons}")
    check_shard(folder, shard)
    path = folder.shard(epsilon, shard)
    with locks.writing(f"attack-{path.stem}", [folder.path]), enough_memory(f"the attack on run {folder.name}", advice(folder)):
        folder.check_data()
        _attack(folder, epsilon, shard, path)


def _attack(folder: RunFolder, epsilon: int, shard: int, path: Path) -> None:
    start, compute = time.perf_counter(), folder.settings.compute
    torch.set_num_threads(compute.threads)
    dataset, sample = read_dataset(folder.data, ["test"]), sample_of(folder)
    identity = identity_of(folder, sample.options, sample.classes)
    smaller = [other for other in sample.options.epsilons if other < epsilon]
    add_shards(sample, folder, identity, smaller)
    targets = sample.shard(epsilon, shard, compute.shards)
    finished, of_targets = partial(path), identity | {"epsilon": epsilon, "targets": config.digest(targets.tolist())}
    content = state.load(finished, of_targets)
    device = select_device(compute.device)
    network = load(folder / "model.safetensors", device)
    check_fits(network.binding, dataset)
    survived = attack_shard(
        network,
        dataset.splits["test"],
        sample,
        epsilon,
        targets,
        folder.temperature(),
        device,
        state=None if content is None else json.loads(content),
        save=lambda verdicts: state.save(finished, of_targets, json.dumps(verdicts).encode()),
        name=f"{folder.name} shard {shard} of {compute.shards}",
    )
    files.write_json(path, {"identity": identity, "survived": survived, "seconds": time.perf_counter() - start})
    record(path, made_from=[*(folder / name for name in SOURCES), *folder.shards(smaller)])

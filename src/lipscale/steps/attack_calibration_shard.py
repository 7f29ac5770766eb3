"""A part of the attack on the calibration of a run, where compute.shards is more than 1.

The part is some of the batches. What is found goes to calibration-attack-shards/ in the run's folder, where
`attack-calibration` joins it. Finished batches are kept, so that a shard that was stopped resumes from there.
"""

import argparse
import json
import time

import torch

from lipscale.attacks.calibration_state import packed, unpacked
from lipscale.attacks.on_calibration import attack_calibration_shard
from lipscale.errors import enough_memory
from lipscale.steps.attack import advice, partial
from lipscale.steps.attack_calibration import SOURCES, identity_of, target_of
from lipscale.steps.common import add_run, add_shard, check_shard
from lipscale.store import files, locks, state
from lipscale.store.checksums import record
from lipscale.store.dataset import read_dataset
from lipscale.store.run_folder import RunFolder
from lipscale.training.devices import select_device


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_shard(parser)


def run(options: argparse.Namespace) -> None:
    folder, shard = RunFolder(options.run_folder), options.shard
    check_shard(folder, shard)
    lock = locks.writing(f"attack-calibration-{shard}", [folder.path])
    with lock, enough_memory(f"the attack on calibration of run {folder.name}", advice(folder)):
        _attack(folder, shard)


def _attack(folder: RunFolder, shard: int) -> None:
    start, compute, path = time.perf_counter(), folder.settings.compute, folder.calibration_shard(shard)
    torch.set_num_threads(compute.threads)
    dataset, device = read_dataset(folder.data, ["test"]), select_device(compute.device)
    target = target_of(folder, folder.logits()["test_logits"], dataset, device)
    identity, finished = identity_of(folder, target), partial(path)
    content = state.load(finished, identity)
    batches = attack_calibration_shard(
        target,
        shard,
        compute.shards,
        state=None if content is None else unpacked(content)[0],
        save=lambda batches: state.save(finished, identity, packed(batches)),
    )
    facts = {"identity": json.dumps(identity), "seconds": time.perf_counter() - start}
    files.write_bytes(path, packed(batches, **facts))
    record(path, made_from=[folder / source for source in SOURCES])

"""A part of the evaluation of a run, where compute.shards is more than 1: the logits of some of the images of both splits.

The part is some of the batches. The logits go to logits-shards/ in the run's folder, where `evaluate` joins them.
"""

import argparse

from lipscale.steps.common import add_run, add_shard, check_shard
from lipscale.steps.evaluate import SPLITS, logits_of, write_logits
from lipscale.store import locks
from lipscale.store.dataset import read_dataset
from lipscale.store.run_folder import RunFolder


def arguments(parser: argparse.ArgumentParser) -> None:
    add_run(parser)
    add_shard(parser)


def run(options: argparse.Namespace) -> None:
    folder, shard = RunFolder(options.run_folder), options.shard
    check_shard(folder, shard)
    with locks.writing(f"evaluate-{shard}", [folder.path]):
        folder.check_data()
        logits = logits_of(folder, read_dataset(folder.data, SPLITS), shard, folder.settings.compute.shards)
        write_logits(folder.logits_shards()[shard - 1], logits, folder / "model.safetensors")

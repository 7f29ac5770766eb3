"""Images that do not fit in memory are read batch by batch: a pass over them adds little to the memory of a process."""

import json
import subprocess
import sys

import numpy as np

from lipscale.store.dataset import write_dataset

IMAGES, SIDE = 6000, 64  # of each split; 74 MB each, 221 MB together
ALLOWED = 48  # MB that a pass over all of them may add to what torch and lipscale take

PASSES = """
import json, resource, sys
import torch
from lipscale.certification.export import export
from lipscale.config import networks
from lipscale.evaluation.logits import exact_logits
from lipscale.networks.network import build_network
from lipscale.store.dataset import read_dataset
from lipscale.training.batches import epoch_batches, in_order, load_splits

torch.set_num_threads(1)
device, peak = torch.device("cpu"), lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
settings = networks.Convnet(architecture="convnet", patch=16, channels=[2], depth=1, widths=[])
network = build_network(settings, (3, 64, 64), 2, [0.5] * 3, 1.0)
plain = export(network, (3, 64, 64)).double()
exact_logits(plain, torch.zeros(250, 3, 64, 64), device)  # so that its buffers count for the start
found = {"start": peak()}
dataset = read_dataset(sys.argv[1])
found["opened"] = peak()
(images, labels), (validation, _) = load_splits(dataset, device, in_memory_gib=0)
found["trained"] = sum(len(part) for _, part in epoch_batches(images, labels, 64, "crop-flip", 0)) and peak()
found["validated"] = sum(len(part) for part in in_order(validation)) and peak()
found["evaluated"] = len(exact_logits(plain, dataset.images("test"), device)) and peak()
print(json.dumps(found))
"""


def test_no_split_is_in_memory(tmp_path):
    images, labels = np.zeros((IMAGES, 3, SIDE, SIDE), dtype=np.uint8), np.arange(IMAGES) % 2
    splits = ("train", "validation", "test")
    arrays = {f"{split}_images": images for split in splits} | {f"{split}_labels": labels for split in splits}
    write_dataset(tmp_path, arrays, {"classes": ["a", "b"], "image_shape": [3, SIDE, SIDE]})
    said = subprocess.run([sys.executable, "-c", PASSES, str(tmp_path)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    found = {name: value / 1e6 for name, value in json.loads(said.stdout).items()}
    assert max(found.values()) - found["start"] < ALLOWED, found

"""Logits of the validation and the test split, computed once, in float64."""

from pathlib import Path

import numpy as np
import torch

from lipscale import export, files
from lipscale.data.dataset import Dataset
from lipscale.training import EVALUATION_BATCH, select_device


@torch.no_grad()
def predict(folder: Path, dataset: Dataset, device: str) -> None:
    """Write `folder`/logits.npz for `folder`/model.safetensors.

    Its arrays are validation_logits and test_logits, float64 (images, classes), and validation_labels and test_labels.
    """
    place = select_device(device)
    network = export.load(folder / "model.safetensors", device).double()
    arrays = {}
    for split in ("validation", "test"):
        images, labels = dataset.tensors(split, place)
        parts = [network(batch.double() / 255).cpu() for batch in images.split(EVALUATION_BATCH)]
        arrays |= {f"{split}_logits": torch.cat(parts).numpy(), f"{split}_labels": labels.cpu().numpy()}
    with files.atomic(folder / "logits.npz") as temporary:
        np.savez(temporary, **arrays)

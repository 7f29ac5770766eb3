"""Logits of the validation and the test split, computed once, in float64."""

from pathlib import Path

import numpy as np
import torch

from lipscale.certification import export
from lipscale.certification.layers import PlainNetwork
from lipscale.data.dataset import Dataset
from lipscale.store import files
from lipscale.store.checksums import checked, seal
from lipscale.store.run_folder import check_data
from lipscale.training.loop import EVALUATION_BATCH, select_device


def exact_logits(network: PlainNetwork, images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Logits (images, classes) in float64, with the rounding errors that `lipscale.certification.layers` bounds.

    Args:
        network: in float64, on `device`.
        images: uint8 or floating, (images, channels, height, width), on any device; uint8 is divided by 255.
    """
    parts = []
    # cuDNN may choose a fast transform, whose errors are not those of inner products
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=False):
        for batch in images.split(EVALUATION_BATCH):
            pixels = batch.to(device).double()
            parts.append(network(pixels if images.is_floating_point() else pixels / 255).cpu())
    return torch.cat(parts)


def predict(folder: Path, dataset: Dataset, device: str) -> None:
    """Write `folder`/logits.npz for `folder`/model.safetensors.

    Its arrays are validation_logits and test_logits, float64 (images, classes), and validation_labels and test_labels.
    """
    place = select_device(device)
    check_data(folder, dataset.sha256)
    model = checked(folder / "model.safetensors")
    network = export.load(model, device).double()
    arrays = {}
    for split in ("validation", "test"):
        images, labels = dataset.tensors(split, "cpu")
        arrays |= {f"{split}_logits": exact_logits(network, images, place).numpy(), f"{split}_labels": labels.numpy()}
    with files.atomic(folder / "logits.npz") as temporary:
        np.savez(temporary, **arrays)
    seal(folder / "logits.npz", made_from=[model])

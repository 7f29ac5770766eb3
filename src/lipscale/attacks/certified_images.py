"""Images that a network certifies: a seeded choice from one or more splits."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import torch

from lipscale.attacks.selection import choose
from lipscale.certification.certificate import certificate, certified_radii
from lipscale.evaluation.logits import check_labels, exact_logits

if TYPE_CHECKING:
    from lipscale.certification.plain_layers import PlainNetwork

Part = tuple[str, np.ndarray, np.ndarray | None]  # name of a split, its images, its labels if there are any


@dataclass(frozen=True)
class Certified:
    """Certified images.

    Attributes:
        split, index: where each image comes from.
        images: uint8 or floating in [0, 1], (images, channels, height, width).
        labels: (images,).
        margins, radii, pair_radii: see `lipscale.certification.certificate`, (images,).
    """

    split: np.ndarray
    index: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    margins: np.ndarray
    radii: np.ndarray
    pair_radii: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: object) -> "Certified":
        return Certified(*(getattr(self, field.name)[chosen] for field in fields(self)))


def find_certified(network: "PlainNetwork", parts: Sequence[Part], count: int, seed: int, device: torch.device) -> Certified:
    """At most `count` images with a radius above 0, drawn from the first part, then from the others.

    Args:
        network: in float64, on `device`.
        parts: images without labels count as certified for the class that the network predicts.

    Raises:
        LipscaleError: labels that the network has no logits for, or images of another shape than it was made for.
    """
    promise, found = certificate(network), []
    for split, images, labels in parts:
        logits = exact_logits(network, images, device).numpy()
        labels = logits.argmax(axis=1) if labels is None else labels
        check_labels(labels, logits)
        labels = labels.astype(np.int64)
        margins, radii, pair_radii = certified_radii(logits, labels, promise)
        everything = Certified(
            np.full(len(labels), split, dtype=object), np.arange(len(labels)), images, labels, margins, radii, pair_radii
        )
        found.append(everything[choose(np.flatnonzero(radii > 0), count - sum(map(len, found)), seed)])
    return Certified(*(np.concatenate([getattr(part, field.name) for part in found]) for field in fields(Certified)))

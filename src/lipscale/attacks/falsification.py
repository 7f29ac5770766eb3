"""Falsification: trying to break certificates by attacks on each certified image at 0.999 of its own radius.

The point where each attack came closest is looked at in float64: its distance from the image, and its class. One image whose
class changes within its radius refutes the certificate.

The radius that is tried is the pair radius, the larger one. The share of an image's margin that is left where an attack came
closest measures both the attack and the certificate: 0.001 is left if both are perfect.
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lipscale.attacks.at_own_radius import Attack, Batch, attacks
from lipscale.attacks.autoattack import Calibrated, broken, without_tf32
from lipscale.attacks.certified_images import Certified, Part, find_certified
from lipscale.certification.binding import check_fits
from lipscale.certification.plain_layers import PlainNetwork
from lipscale.errors import LipscaleError
from lipscale.evaluation.logits import exact_logits
from lipscale.progress import bar, describe

if TYPE_CHECKING:
    from lipscale.data.dataset import Dataset

SHARE = 0.999  # of the radius
LARGEST_RADIUS = 1e15  # longer than any image; the squares of much larger ones overflow in the attacks
SPLITS_IN_ORDER = ("test", "validation", "train")  # a certificate holds for any image, so few test images are no limit
COLUMNS = ("split", "index", "label", "radius", "pair_radius", "broken_by", "closest", "margin_left")


@dataclass(frozen=True)
class Options:
    """What is attacked.

    Attributes:
        images: certified images, at most, those of the first split first.
        batch_size: images attacked at once.
        seed: of the choice of images and of the attacks.

    Raises:
        LipscaleError: a number is too small.
    """

    images: int = 1000
    batch_size: int = 500
    seed: int = 0

    def __post_init__(self):
        for what, value, smallest in (
            ("number of images", self.images, 1),
            ("batch size", self.batch_size, 1),
            ("seed", self.seed, 0),
        ):
            if value < smallest:
                raise LipscaleError(f"falsify: the {what} is {value}; allowed: {smallest} or more")


@dataclass(frozen=True)
class Falsification:
    """What the attacks found.

    Attributes:
        name: of the network.
        rows: a row of COLUMNS for each image.
        summary: counts, attacks, the smallest and the median margin left, seed, device, seconds.
    """

    name: str
    rows: list[dict]
    summary: dict

    @property
    def broken(self) -> list[dict]:
        """Rows of the images whose certificate was broken."""
        return [row for row in self.rows if row["broken_by"]]

    def check(self) -> None:
        """Raises LipscaleError where a certificate was broken."""
        if self.broken:
            images = ", ".join(f"{row['split']} {row['index']} ({row['broken_by']})" for row in self.broken)
            raise LipscaleError(f"the certificate of {self.name} is broken for images {images}; this must not happen")


def falsify(
    network: PlainNetwork,
    images: np.ndarray | torch.Tensor,
    labels: np.ndarray | torch.Tensor | None = None,
    *,
    images_at_most: int = 1000,
    batch_size: int = 500,
    seed: int = 0,
    device: torch.device | str = "cpu",
    name: str = "the network",
) -> Falsification:
    """Attack the images that a network certifies, each at 0.999 of its own radius.

    Args:
        network: with float32 weights, from `export` or `load`; it is copied.
        images: (images, channels, height, width), an array or a tensor, uint8, or floating in [0, 1], not normalised.
        labels: (images,), class numbers; without them, the network's predictions are attacked, and rows have no label.
        images_at_most: certified images that are attacked.
        batch_size: images attacked at once.
        seed: of the choice of images and of the attacks.
        name: of the network, for messages and the progress bar.

    Raises:
        LipscaleError: the network certifies none of the images, or does not fit them, or is constant; an option is not allowed.
    """
    if not isinstance(network, PlainNetwork):
        raise LipscaleError(f"falsify: the network is {type(network).__name__}; allowed: what lipscale.export or load returns")
    images, labels = _array(images), None if labels is None else _array(labels)
    _check_pixels(images)
    return _falsify(network, [("images", images, labels)], Options(images_at_most, batch_size, seed), device, name)


def _array(values: object) -> np.ndarray:
    return torch.as_tensor(values).cpu().numpy()


def _check_pixels(images: np.ndarray) -> None:
    if images.dtype not in (np.uint8, np.float32, np.float64):
        raise LipscaleError(f"falsify: the images are {images.dtype}; allowed: uint8, float32 or float64")
    if images.dtype != np.uint8 and not ((images >= 0) & (images <= 1)).all():
        raise LipscaleError("falsify: pixels outside [0, 1] or NaN; allowed: pixels in [0, 1], not normalised, or uint8")


def falsify_dataset(
    network: PlainNetwork,
    dataset: "Dataset",
    options: Options,
    device: torch.device | str = "cpu",
    name: str = "the network",
) -> Falsification:
    """`falsify` for a prepared data set: images of the test split first, then of the validation and training splits."""
    check_fits(network.binding, dataset)
    parts = [(split, dataset.images(split), dataset.labels(split)) for split in SPLITS_IN_ORDER]
    return _falsify(network, parts, options, device, name)


def _falsify(network: PlainNetwork, parts: Sequence[Part], options: Options, device, name: str) -> Falsification:
    start, device = time.perf_counter(), torch.device(device)
    network = copy.deepcopy(network).to(device).eval()
    exact = copy.deepcopy(network).double()
    network.float()
    certified = find_certified(exact, parts, options.images, options.seed, device)
    if not len(certified):
        raise LipscaleError(f"{name} certifies none of the images, so there is nothing to attack")
    if (largest := certified.pair_radii.max()) > LARGEST_RADIUS:
        raise LipscaleError(
            f"{name} predicts the same class for every image (a radius is {largest:.3g}), so there is nothing to attack"
        )
    tried, rows = attacks(_classes(exact, device)), []
    with without_tf32(), bar(name=f"falsify {name}", total=len(tried) * len(certified), unit="image") as progress:
        for first in range(0, len(certified), options.batch_size):
            batch = certified[first : first + options.batch_size]
            rows += _attack_batch(network, exact, batch, tried, device, options.seed, progress)
    unlabelled = {split for split, _, labels in parts if labels is None}
    rows = [row | {"label": None} if row["split"] in unlabelled else row for row in rows]
    left = np.array([row["margin_left"] for row in rows])
    summary = {
        "images": len(rows),
        "per_split": {split: sum(row["split"] == split for row in rows) for split, *_ in parts},
        "share_of_radius": SHARE,
        "attacks": list(tried),
        "broken": sum(bool(row["broken_by"]) for row in rows),
        "smallest_margin_left": float(left.min()),
        "median_margin_left": float(np.median(left)),
        "seed": options.seed,
        "device": device.type,
        "seconds": time.perf_counter() - start,
    }
    return Falsification(name, rows, summary)


def _classes(network: PlainNetwork, device: torch.device) -> int:
    return exact_logits(network, torch.zeros(1, *network.image_shape), device).shape[1]


def _attack_batch(network, exact, certified: Certified, tried: dict[str, Attack], device, seed: int, progress) -> list[dict]:
    """A row of COLUMNS for each image: which attack broke its certificate, if any, and which one came closest to that."""
    # as in `lipscale.attacks.autoattack`: logits of a size that cross-entropy does not saturate at
    model = Calibrated(network, max(float(np.median(certified.margins)) / 5, 1e-12)).eval()
    images, labels, budgets = (
        torch.from_numpy(array).to(device) for array in (certified.images, certified.labels, SHARE * certified.pair_radii)
    )
    batch = Batch(model, exact, images, labels, budgets.reshape(-1, 1, 1, 1), seed)
    closest = np.full(len(certified), np.inf)
    names, breakers = np.full(len(certified), "", dtype=object), np.full(len(certified), "", dtype=object)
    for name, attack in tried.items():
        describe(progress, name)
        for found in attack(batch):
            left = _margins(exact, found, certified.labels, device) / certified.margins
            names = np.where(left < closest, name, names)
            closest = np.minimum(left, closest)
            fell = broken(exact, certified.images, certified.labels, certified.pair_radii, found).numpy()
            breakers = np.where(fell & (breakers == ""), name, breakers)
        progress.update(len(certified))
    columns = (certified.split, certified.index, certified.labels, certified.radii, certified.pair_radii)
    table = (column.tolist() for column in (*columns, breakers, names, closest))
    return [dict(zip(COLUMNS, row, strict=True)) for row in zip(*table, strict=True)]


def _margins(network: PlainNetwork, found: torch.Tensor, labels: np.ndarray, device: torch.device) -> np.ndarray:
    """f_y - max_{j != y} f_j in float64, (images,)."""
    logits = exact_logits(network, found, device).numpy()
    rows = np.arange(len(labels))
    others = logits.copy()
    others[rows, labels] = -np.inf
    return logits[rows, labels] - others.max(axis=1)

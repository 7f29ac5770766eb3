"""Trying to break certificates: each certified image is attacked at 0.999 of its own radius.

The four attacks of AutoAttack (Croce and Hein, ICML 2020), by pyautoattack, and a long PGD. AutoAttack takes one budget for all
images and drops those that fall; here its parts are called one by one, each with a budget per image, on all images to the end,
and the point where each attack came closest is looked at in float64: its distance from the image, and its class. One image
whose class is another one within its radius refutes the certificate.

The radius that is tried is the pair radius, the larger one. How much of an image's margin is left where an attack came closest
says how strong the attack and how tight the certificate is: if both are perfect, 0.001 of it is.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pyautoattack import AutoAttack
from torch import nn

from lipscale.attacks.autoattack import FEWEST_CLASSES, Calibrated, broken, choose
from lipscale.certification import export
from lipscale.certification.certificate import certificate, certified_radii
from lipscale.certification.layers import PlainNetwork
from lipscale.data.dataset import Dataset
from lipscale.errors import LipscaleError
from lipscale.evaluation.logits import exact_logits
from lipscale.progress import bar, describe
from lipscale.store import files, provenance
from lipscale.training.loop import select_device

SHARE = 0.999  # of the radius
PGD_STEPS, PGD_RESTARTS = 500, 2
SPLITS_IN_ORDER = ("test", "validation", "train")  # a certificate holds for any image, so few test images are no limit
COLUMNS = ("split", "index", "label", "radius", "pair_radius", "broken_by", "closest", "margin_left")


@dataclass(frozen=True)
class Certified:
    """Images that a network certifies.

    Attributes:
        split, index: where each image is in the data set.
        images: uint8, (images, channels, height, width).
        labels: (images,).
        margins, radii, pair_radii: see `lipscale.certification.certificate`.
    """

    split: np.ndarray
    index: np.ndarray
    images: np.ndarray
    labels: np.ndarray
    margins: np.ndarray
    radii: np.ndarray
    pair_radii: np.ndarray

    def __getitem__(self, chosen: object) -> "Certified":
        return Certified(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Options:
    """What is attacked.

    Attributes:
        images: certified images, at most, those of the test split first.
        batch_size: images attacked at once.
        seed: of the choice of images and of the attacks.
    """

    images: int
    batch_size: int
    seed: int


def audit(model: Path, dataset: Dataset, options: Options, device: str, threads: int, stem: Path) -> None:
    """Attack certified images; write stem.csv, a row per image, and stem.json.

    Args:
        model: a .safetensors file that `lipscale.certification.export.save` wrote.
        dataset: the prepared data set.
        stem: path of the two files without suffix.

    Raises:
        LipscaleError: a certificate was broken (both files are written before), or the network certifies no image at all.
    """
    start = time.perf_counter()
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = False
    place, network = select_device(device), export.load(model, device)
    exact = export.load(model, device).double()
    certified = find_certified(exact, dataset, options, place)
    if not len(certified.labels):
        raise LipscaleError(f"{model} certifies no image of {dataset.folder}, so there is nothing to attack")
    attacks = list(_attacks(dataset.classes))
    rows = []
    with bar(name=f"audit {model.parent.name}", total=len(attacks) * len(certified.labels), unit="image") as progress:
        for first in range(0, len(certified.labels), options.batch_size):
            batch = certified[first : first + options.batch_size]
            rows += _attack_batch(network, exact, batch, attacks, place, options.seed, progress)
    files.write_rows(stem.with_name(stem.name + ".csv"), COLUMNS, rows)
    fallen = [row for row in rows if row["broken_by"]]
    left = np.array([row["margin_left"] for row in rows])
    files.write_json(
        stem.with_name(stem.name + ".json"),
        {
            "images": len(rows),
            "per_split": {split: sum(row["split"] == split for row in rows) for split in SPLITS_IN_ORDER},
            "share_of_radius": SHARE,
            "attacks": [name for name, _ in attacks],
            "broken": len(fallen),
            "smallest_margin_left": float(left.min()),
            "median_margin_left": float(np.median(left)),
            "model_sha256": files.sha256(model),
            "data_sha256": dataset.sha256,
            "seed": options.seed,
            "seconds": time.perf_counter() - start,
            "commit": provenance.commit(),
            "machine": provenance.machine(),
            "device": device,
            "versions": provenance.versions(),
        },
    )
    if fallen:
        images = ", ".join(f"{row['split']} {row['index']} ({row['broken_by']})" for row in fallen)
        raise LipscaleError(f"the certificate of {model} is broken for images {images}; this must not happen")


def _attack_batch(network, exact, batch: "Certified", attacks, device, seed: int, progress) -> list[dict]:
    """A row of COLUMNS for each image: which attack broke its certificate, if any, and where one came closest to that."""
    # as in `lipscale.attacks.autoattack`: logits of a size that cross-entropy does not saturate at
    model = Calibrated(network, max(float(np.median(batch.margins)) / 5, 1e-12))
    closest = np.full(len(batch.labels), np.inf)
    names, breakers = np.full(len(batch.labels), "", dtype=object), np.full(len(batch.labels), "", dtype=object)
    for name, attack in attacks:
        describe(progress, name)
        for found in attack(model, exact, batch, device, seed):
            left = _margins(exact, found, batch, device) / batch.margins
            names = np.where(left < closest, name, names)
            closest = np.minimum(left, closest)
            fell = broken(exact, batch.images, batch.labels, batch.pair_radii, found).numpy()
            breakers = np.where(fell & (breakers == ""), name, breakers)
        progress.update(len(batch.labels))
    columns = (batch.split, batch.index, batch.labels, batch.radii, batch.pair_radii, breakers, names, closest)
    return [dict(zip(COLUMNS, row, strict=True)) for row in zip(*(column.tolist() for column in columns), strict=True)]


def find_certified(network: PlainNetwork, dataset: Dataset, options: Options, device: torch.device) -> Certified:
    """At most `options.images` images with a radius above 0, drawn from the test split, then from the others.

    Args:
        network: in float64, on `device`.
    """
    promise, parts = certificate(network), []
    for split in SPLITS_IN_ORDER:
        wanted = options.images - sum(len(part.labels) for part in parts)
        images, labels = dataset.images(split), dataset.labels(split)
        logits = exact_logits(network, torch.from_numpy(images), device).numpy()
        margins, radii, pair_radii = certified_radii(logits, labels, promise)
        chosen = choose(np.flatnonzero(radii > 0), wanted, options.seed)
        everything = Certified(
            np.full(len(labels), split, dtype=object), np.arange(len(labels)), images, labels, margins, radii, pair_radii
        )
        parts.append(everything[chosen])
    return Certified(*(np.concatenate([getattr(part, name) for part in parts]) for name in Certified.__dataclass_fields__))


def _margins(network: PlainNetwork, found: torch.Tensor, batch: Certified, device: torch.device) -> np.ndarray:
    logits = exact_logits(network, found, device).numpy()
    rows = np.arange(len(batch.labels))
    others = logits.copy()
    others[rows, batch.labels] = -np.inf
    return logits[rows, batch.labels] - others.max(axis=1)


Attack = Callable[[nn.Module, PlainNetwork, Certified, torch.device, int], Iterator[torch.Tensor]]


def _attacks(classes: int) -> Iterator[tuple[str, Attack]]:
    """Name and function of each; a function yields perturbed images, (images, channels, height, width), as close to another
    class as it came."""
    yield "apgd-ce", _apgd_ce
    if classes >= FEWEST_CLASSES:
        yield "apgd-t", _apgd_targeted
    yield "fab-t", _fab_targeted
    yield "square", _square
    yield "pgd", _pgd


def _autoattack(
    model: nn.Module, batch: Certified, device: torch.device, seed: int
) -> tuple[AutoAttack, torch.Tensor, torch.Tensor]:
    """AutoAttack with a budget for each image, float32 images and labels; its parts broadcast the budget."""
    images = torch.from_numpy(batch.images).to(device).float() / 255
    attack = AutoAttack(model.eval(), norm="L2", eps=1.0, seed=seed, device=device, version="standard")
    budgets = torch.from_numpy(SHARE * batch.pair_radii).to(device).float().reshape(-1, 1, 1, 1)
    for part in (attack.apgd, attack.apgd_targeted, attack.square):
        part.eps = budgets
        part.init_hyperparam(images)
    torch.manual_seed(seed)
    return attack, images, torch.from_numpy(batch.labels).to(device)


def _apgd_ce(model, exact, batch, device, seed) -> Iterator[torch.Tensor]:
    attack, images, labels = _autoattack(model, batch, device, seed)
    attack.apgd.loss = "ce"
    yield from _ends_of_apgd(attack.apgd, images, labels)


def _apgd_targeted(model, exact, batch, device, seed) -> Iterator[torch.Tensor]:
    attack, images, labels = _autoattack(model, batch, device, seed)
    order = model(images).argsort(dim=1)
    for place in range(2, min(9, order.shape[1] - 1) + 2):
        attack.apgd_targeted.y_target = order[:, -place]
        yield from _ends_of_apgd(attack.apgd_targeted, images, labels)


def _ends_of_apgd(part, images: torch.Tensor, labels: torch.Tensor) -> Iterator[torch.Tensor]:
    """Where the loss was largest, and the last point of another class, if there was one."""
    best, _, _, adversarial = part.attack_single_run(images, labels)
    yield best.detach()
    yield adversarial.detach()


def _fab_targeted(model, exact, batch, device, seed) -> Iterator[torch.Tensor]:
    """FAB looks for the nearest point of another class; where that is beyond the radius it is brought back to it."""
    attack, images, labels = _autoattack(model, batch, device, seed)
    fab = attack.fab
    fab.n_restarts, fab.targeted, fab.seed = 1, True, seed
    for fab.target_class in range(2, min(9, model(images[:1]).shape[1] - 1) + 2):
        found = fab.attack_single_run(images, labels, use_rand_start=False, is_targeted=True)
        yield _within(found, images, attack.apgd.eps)


def _square(model, exact, batch, device, seed) -> Iterator[torch.Tensor]:
    """Square drops images whose margin is below 0 in float32; told that none is, it goes on to lower all of them."""
    attack, images, labels = _autoattack(model, batch, device, seed)
    margin_and_loss = attack.square.margin_and_loss

    def never_fooled(points: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        margin, loss = margin_and_loss(points, labels)
        return torch.ones_like(margin), loss

    attack.square.margin_and_loss = never_fooled
    with torch.inference_mode():
        _, found = attack.square.attack_single_run(images, labels)
    yield found.clone()


def _pgd(model, exact, batch, device, seed) -> Iterator[torch.Tensor]:
    """Projected gradient descent on the margin to the nearest class, in float64, from random points, with falling steps."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.from_numpy(batch.images).to(device).double() / 255
    labels = torch.from_numpy(batch.labels).to(device)
    budgets = torch.from_numpy(SHARE * batch.pair_radii).to(device).reshape(-1, 1, 1, 1)
    for _ in range(PGD_RESTARTS):
        start = torch.randn(images.shape, generator=generator, dtype=torch.float64).to(device)
        points = _within(images + budgets * start, images, budgets)
        best, lowest = points, torch.full((len(labels),), torch.inf, dtype=torch.float64, device=device)
        for step in range(PGD_STEPS + 1):
            points = points.detach().requires_grad_()
            logits = exact(points)
            others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
            margins = logits.gather(1, labels[:, None])[:, 0] - others
            (gradient,) = torch.autograd.grad(margins.sum(), points)
            better = margins.detach() < lowest
            best = torch.where(better.reshape(-1, 1, 1, 1), points.detach(), best)
            lowest = torch.where(better, margins.detach(), lowest)
            size = budgets * 2 * (1 - step / (PGD_STEPS + 1))
            direction = gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-300).reshape(-1, 1, 1, 1)
            points = _within(points - size * direction, images, budgets)
        yield best


def _within(points: torch.Tensor, images: torch.Tensor, budgets: torch.Tensor) -> torch.Tensor:
    """`points` in the pixel range, moved towards `images` where they are farther away than the budgets."""
    points = points.detach().clamp(0, 1)
    norms = (points - images).flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    return images + (points - images) * (budgets / norms.clamp(min=1e-300)).clamp(max=1)

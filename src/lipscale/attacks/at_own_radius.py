"""Five attacks with a budget for each image: the four parts of AutoAttack, by pyautoattack, and a long PGD.

AutoAttack takes one budget for all images and drops those that fall. Here its parts are called one by one, on all images to the
end. Each attack yields perturbed images, (images, channels, height, width), as close to another class as it came.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from pyautoattack import AutoAttack
from torch import nn

from lipscale.attacks.autoattack import FEWEST_CLASSES, MOST_TARGETS, keep_windows, single_pixels
from lipscale.units import exact_pixels

if TYPE_CHECKING:
    from lipscale.certification.plain_layers import PlainNetwork

PGD_STEPS, PGD_RESTARTS = 500, 2


@dataclass(frozen=True)
class Batch:
    """What is attacked. All tensors are on the device of the networks.

    Attributes:
        model: the network in float32, its logits divided by a temperature.
        exact: the network in float64.
        images: uint8 or floating in [0, 1], (images, channels, height, width).
        labels: (images,).
        budgets: l2 distances in pixels, float64, (images, 1, 1, 1).
        seed: of the attacks.
    """

    model: nn.Module
    exact: "PlainNetwork"
    images: torch.Tensor
    labels: torch.Tensor
    budgets: torch.Tensor
    seed: int

    def targets(self) -> range:
        """Ranks of the classes that the targeted attacks try; the most likely class has rank 1."""
        classes = self.model(single_pixels(self.images[:1])).shape[1]
        return range(2, min(MOST_TARGETS, classes - 1) + 2)


Attack = Callable[[Batch], Iterator[torch.Tensor]]


def attacks(classes: int) -> dict[str, Attack]:
    """The attacks on a network with so many classes, by name."""
    every = {"apgd-ce": _apgd_ce, "apgd-t": _apgd_targeted, "fab-t": _fab_targeted, "square": _square, "pgd": _pgd}
    return {name: attack for name, attack in every.items() if name != "apgd-t" or classes >= FEWEST_CLASSES}


def _autoattack(batch: Batch) -> tuple[AutoAttack, torch.Tensor]:
    """AutoAttack with a budget for each image, which its parts broadcast, and the images in float32."""
    images = single_pixels(batch.images)
    attack = AutoAttack(batch.model.eval(), norm="L2", eps=1.0, seed=batch.seed, device=images.device, version="standard")
    for part in (attack.apgd, attack.apgd_targeted, attack.square):
        part.eps = batch.budgets.float()
        part.init_hyperparam(images)
    torch.manual_seed(batch.seed)
    return attack, images


def _apgd_ce(batch: Batch) -> Iterator[torch.Tensor]:
    attack, images = _autoattack(batch)
    attack.apgd.loss = "ce"
    yield from _ends_of_apgd(attack.apgd, images, batch.labels)


def _apgd_targeted(batch: Batch) -> Iterator[torch.Tensor]:
    attack, images = _autoattack(batch)
    order = batch.model(images).argsort(dim=1)
    for rank in batch.targets():
        attack.apgd_targeted.y_target = order[:, -rank]
        yield from _ends_of_apgd(attack.apgd_targeted, images, batch.labels)


def _ends_of_apgd(part, images: torch.Tensor, labels: torch.Tensor) -> Iterator[torch.Tensor]:
    """The points where the loss was largest, and the last points of another class, if there were any."""
    best, _, _, adversarial = part.attack_single_run(images, labels)
    yield best.detach()
    yield adversarial.detach()


def _fab_targeted(batch: Batch) -> Iterator[torch.Tensor]:
    """FAB looks for the nearest point of another class; a point beyond the budget is moved back to it."""
    attack, images = _autoattack(batch)
    fab = attack.fab
    fab.n_restarts, fab.targeted, fab.seed = 1, True, batch.seed
    for rank in batch.targets():
        fab.target_class = rank
        found = fab.attack_single_run(images, batch.labels, use_rand_start=False, is_targeted=True)
        yield within(found, images, attack.apgd.eps)


def _square(batch: Batch) -> Iterator[torch.Tensor]:
    """Square drops images whose margin is below 0 in float32; told that none is, it continues to lower all of them."""
    attack, images = _autoattack(batch)
    keep_windows(attack)
    margin_and_loss = attack.square.margin_and_loss

    def never_fooled(points: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        margin, loss = margin_and_loss(points, labels)
        return torch.ones_like(margin), loss

    attack.square.margin_and_loss = never_fooled
    with torch.inference_mode():
        _, found = attack.square.attack_single_run(images, batch.labels)
    yield found.clone()


def _pgd(batch: Batch) -> Iterator[torch.Tensor]:
    """Projected gradient descent on the margin to the nearest class, in float64, from random points, with falling steps."""
    generator = torch.Generator().manual_seed(batch.seed)
    images, budgets = exact_pixels(batch.images), batch.budgets
    for _ in range(PGD_RESTARTS):
        start = torch.randn(images.shape, generator=generator, dtype=torch.float64).to(images.device)
        points = within(images + budgets * start, images, budgets)
        best, lowest = points, images.new_full((len(images),), torch.inf)
        for step in range(PGD_STEPS + 1):
            points = points.detach().requires_grad_()
            margins = _margins(batch.exact(points), batch.labels)
            (gradient,) = torch.autograd.grad(margins.sum(), points)
            better = margins.detach() < lowest
            best = torch.where(better.reshape(-1, 1, 1, 1), points.detach(), best)
            lowest = torch.where(better, margins.detach(), lowest)
            size = budgets * 2 * (1 - step / (PGD_STEPS + 1))
            direction = gradient / gradient.flatten(1).norm(dim=1).clamp(min=1e-300).reshape(-1, 1, 1, 1)
            points = within(points - size * direction, images, budgets)
        yield best


def _margins(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """f_y - max_{j != y} f_j, (images,)."""
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1)
    return logits.gather(1, labels[:, None])[:, 0] - others


def within(points: torch.Tensor, images: torch.Tensor, budgets: torch.Tensor) -> torch.Tensor:
    """`points` in the pixel range, moved towards `images` where they are farther away than the budgets."""
    points = points.detach().clamp(0, 1)
    norms = (points - images).flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)
    return images + (points - images) * (budgets / norms.clamp(min=1e-300)).clamp(max=1)

"""An l2 attack on calibration: how far NLL, Brier score and ECE rise under attack, compared with their proven bounds.

From each image, projected gradient ascent with normalised steps of falling length (Madry et al., ICLR 2018, for the ball) goes
in the directions of `lipscale.attacks.calibration_directions`. Nothing is random. All is float64, so that the logits of every
visited point are those that certificates cover; a point counts where its distance, measured in float64, is at most epsilon. Of
each image the worst NLL, the worst Brier score, and the confidences in each bin are kept, over all directions, the clean image
and smaller epsilons. As each image is perturbed on its own, the ECE is that of the perturbed images chosen for one sign vector;
it starts at that of the worst case, and is improved by changing single signs.

Logits divided by T* are attacked too: that is what temperature scaling after training makes of the network.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from lipscale.attacks.calibration_directions import DIRECTIONS, Aims, aims
from lipscale.attacks.calibration_results import CalibrationAttack, Case
from lipscale.attacks.calibration_state import State
from lipscale.attacks.reached import Arrays, Ends, Reached
from lipscale.attacks.selection import shard
from lipscale.certification.certificate import Certificate
from lipscale.certification.certified_calibration import ImageBounds, bounds_of_images, divided, summary
from lipscale.certification.norms import UNIT, gamma
from lipscale.progress import bar
from lipscale.training.adversarial import Ball, gradient_and_logits
from lipscale.units import distance, exact_pixels

if TYPE_CHECKING:
    from lipscale.certification.plain_layers import PlainNetwork
    from lipscale.data.dataset import Split

STEPS = 12
FIRST_STEP, LAST_STEP = 1.0, 0.02  # lengths of steps, as shares of epsilon; between them a geometric sequence


@dataclass(frozen=True)
class Options:
    """What is attacked, and how.

    Attributes:
        epsilons: l2 budgets in 1/255; kept sorted.
        batch_size: images attacked at once.
    """

    epsilons: tuple[int, ...]
    batch_size: int

    def __post_init__(self):
        object.__setattr__(self, "epsilons", tuple(sorted(self.epsilons)))


@dataclass(frozen=True, eq=False)
class Target:
    """A network, and the images on which its calibration is attacked.

    Attributes:
        network: with a constraint; it is copied.
        split: `images` (images, channels, height, width), uint8, and `labels` (images,).
        logits: (images, classes) of the split, from `exact_logits`.
        promise: the certificate of the network.
        chosen: indices of the images to attack, sorted.
        temperatures: that logits are divided by, by the suffix of the columns: "" for 1.
        options: how they are attacked.
        device: where it is computed.
        name: of the network, for messages.
    """

    network: "PlainNetwork"
    split: "Split"
    logits: np.ndarray
    promise: Certificate
    chosen: np.ndarray
    temperatures: Mapping[str, float]
    options: Options
    device: torch.device | str = "cpu"
    name: str = "network"

    @property
    def task(self) -> dict:
        """What the result depends on beside network and images. Only a state of the same task may be resumed."""
        return {
            "attack": f"normalised gradient ascent l2: {', '.join(DIRECTIONS)}; {STEPS} steps",
            **asdict(self.options),
            "epsilons": list(self.options.epsilons),
            "temperatures": dict(self.temperatures),
        }

    def cases(self) -> list[Case]:
        """What is proven for each epsilon and temperature."""
        return [
            self._case(epsilon, suffix, temperature)
            for epsilon in self.options.epsilons
            for suffix, temperature in self.temperatures.items()
        ]

    def _case(self, epsilon: int, suffix: str, temperature: float) -> Case:
        bounds = bounds_at(self.logits, self.split.labels, self.promise, epsilon, temperature, kept=self.chosen)
        everything = summary(bounds, epsilon, np.arange(len(self.split.labels)))
        return Case(epsilon, suffix, temperature, bounds, everything, summary(bounds, epsilon, self.chosen))


def attack_calibration(
    target: Target, state: State | None = None, save: Callable[[State], None] = lambda state: None
) -> CalibrationAttack:
    """Attack the chosen images of a split at each epsilon.

    Args:
        target: what is attacked.
        state: what `save` got last in an attack with the same network, split and `task`, or of the same from all shards.
        save: called with the state after each batch; the state changes afterwards, so write or copy it.

    Raises:
        LipscaleError: an attack exceeds a bound, which a sound certificate rules out; the images are named.
    """
    start, cases = time.perf_counter(), target.cases()
    batches = _Attack(target, cases).batches(target.chosen, list(state or ()), save, target.name)
    reached = {key: _joined([batch[key] for batch in batches]) for key in batches[0]}
    seconds = time.perf_counter() - start
    return CalibrationAttack.of(cases, reached, target.split.labels, target.chosen, target.name, seconds)


def attack_calibration_shard(
    target: Target,
    number: int,
    shards: int,
    state: State | None = None,
    save: Callable[[State], None] = lambda state: None,
) -> State:
    """The part of one of several jobs, counted from 1. The parts of all, joined, are the state of `attack_calibration`."""
    wanted = shard(target.chosen, target.options.batch_size, number, shards)
    name = f"{target.name} shard {number} of {shards}"
    return _Attack(target, target.cases()).batches(wanted, list(state or ()), save, name)


def bounds_at(
    logits, labels, promise: Certificate, epsilon: float, temperature: float, kept: np.ndarray | None = None
) -> ImageBounds:
    """`bounds_of_images` for logits / temperature; `promise` is the certificate of the logits."""
    promise = promise if temperature == 1 else divided(promise, logits, temperature)
    return bounds_of_images(logits, labels, promise, epsilon, temperature, kept)


def _joined(parts: list[Arrays]) -> Arrays:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


class _Attack:
    """One network under attack on one split."""

    def __init__(self, target: Target, cases: list[Case]):
        self.network = copy.deepcopy(target.network).to(target.device).eval().double()
        self.split, self.cases, self.options, self.device = target.split, cases, target.options, torch.device(target.device)

    def batches(self, chosen: np.ndarray, found: State, save: Callable[[State], None], name: str) -> State:
        """What is reached of the images with these indices, batch by batch; the first ones are `found` already."""
        with bar(name=f"{name} attack on calibration", total=len(chosen), unit="image") as progress:
            for first in range(0, len(chosen), self.options.batch_size):
                rows = chosen[first : first + self.options.batch_size]
                if first // self.options.batch_size >= len(found):
                    found.append(self.batch(rows))
                    save(found)
                progress.update(len(rows))
        return found

    def batch(self, rows: np.ndarray) -> dict[str, Arrays]:
        """What is reached of the images with these indices, by case."""
        images = exact_pixels(torch.from_numpy(self.split.images[rows]).to(self.device))
        labels = self.split.labels[rows]
        truth = torch.from_numpy(labels).to(self.device)
        classes = self.cases[0].bounds.intervals.possible.shape[1]
        pools = {case.suffix: Reached.nothing(truth, classes, case.temperature) for case in self.cases}
        found = {}
        for epsilon in self.options.epsilons:
            cases = [case for case in self.cases if case.epsilon == epsilon]
            ends = {case.suffix: Ends.of(case.bounds, rows, self.device) for case in cases}
            for pool in pools.values():  # points of a smaller epsilon were compared with tighter bounds
                pool.excess = torch.full_like(pool.excess, -torch.inf)

            def visit(points: torch.Tensor, logits: torch.Tensor, epsilon=epsilon, ends=ends) -> None:
                inside = within(images, points, epsilon)
                for suffix, pool in pools.items():
                    pool.visit(logits, inside, ends[suffix])

            for one in cases:
                wanted = aims(one.bounds.of(rows), labels, one.evaluated.signs, self.device)
                self._ascend(images, epsilon, one.temperature, wanted, visit)
            found |= {one.key: pools[one.suffix].arrays() for one in cases}
        return found

    def _ascend(self, images, epsilon: int, temperature: float, wanted: Aims, visit) -> None:
        ball = Ball(images, _reach(images, epsilon), STEPS, 0.0)
        with torch.backends.cudnn.flags(enabled=False):  # as in `exact_logits`
            for direction in DIRECTIONS.values():

                def losses(logits: torch.Tensor, direction=direction) -> torch.Tensor:
                    return direction(logits / temperature, wanted)

                points = images
                for length in (*_lengths(ball.radius), 0.0):
                    gradient, logits = gradient_and_logits(self.network, losses, points)
                    visit(points, logits)
                    points = replace(ball, length=length).step(points, gradient)


def _lengths(radius: float) -> Iterator[float]:
    yield from (radius * np.geomspace(FIRST_STEP, LAST_STEP, STEPS)).tolist()


def _reach(images: torch.Tensor, epsilon: int) -> float:
    """A little less than epsilon, so that rounding in a projection does not lead out of the ball."""
    pixels = images[0].numel()
    return max(0.0, distance(epsilon) * (1 - gamma(2 * pixels + 32)) - 4 * UNIT * pixels**0.5)


def within(images: torch.Tensor, points: torch.Tensor, epsilon: int) -> torch.Tensor:
    """Which points are pixels in [0, 1] at a distance of at most epsilon, whatever the rounding of the norm, (images,)."""
    norms = (points - images).flatten(1).norm(dim=1) * (1 + gamma(images[0].numel() + 3))
    pixels = ((points >= 0) & (points <= 1)).flatten(1).all(1)
    return pixels & (norms <= distance(epsilon))

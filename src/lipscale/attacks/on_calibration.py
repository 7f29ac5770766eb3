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


def task(options: Options, temperatures: Mapping[str, float]) -> dict:
    """What the result depends on beside network and images. Only a state of the same task may be resumed."""
    return {
        "attack": f"normalised gradient ascent l2: {', '.join(DIRECTIONS)}; {STEPS} steps",
        **asdict(options),
        "epsilons": list(options.epsilons),
        "temperatures": dict(temperatures),
    }


def attack_calibration(
    network: "PlainNetwork",
    split: "Split",
    logits: np.ndarray,
    promise: Certificate,
    chosen: np.ndarray,
    temperatures: Mapping[str, float],
    options: Options,
    device: torch.device | str = "cpu",
    state: State | None = None,
    save: Callable[[State], None] = lambda state: None,
    name: str = "network",
) -> CalibrationAttack:
    """Attack the chosen images of a split at each epsilon.

    Args:
        network: with a constraint; it is copied.
        split: `images` (images, channels, height, width), uint8, and `labels` (images,).
        logits: (images, classes) of the split, from `exact_logits`.
        promise: the certificate of the network.
        chosen: indices of the images to attack, sorted.
        temperatures: that logits are divided by, by the suffix of the columns: "" for 1.
        state: what `save` got last in an attack with the same network, split and `task`, or of the same from all shards.
        save: called with the state after each batch; the state changes afterwards, so write or copy it.
        name: of the network, for messages.

    Raises:
        LipscaleError: an attack exceeds a bound, which a sound certificate rules out; the images are named.
    """
    start, cases = time.perf_counter(), _cases(logits, split.labels, promise, chosen, temperatures, options)
    batches = _Attack(network, split, cases, options, device).batches(chosen, list(state or ()), save, name)
    reached = {key: _joined([batch[key] for batch in batches]) for key in batches[0]}
    return CalibrationAttack.of(cases, reached, split.labels, chosen, name, time.perf_counter() - start)


def attack_calibration_shard(
    network: "PlainNetwork",
    split: "Split",
    logits: np.ndarray,
    promise: Certificate,
    chosen: np.ndarray,
    temperatures: Mapping[str, float],
    options: Options,
    number: int,
    shards: int,
    device: torch.device | str = "cpu",
    state: State | None = None,
    save: Callable[[State], None] = lambda state: None,
    name: str = "network",
) -> State:
    """The part of one of several jobs, counted from 1. The parts of all, joined, are the state of `attack_calibration`.

    The other arguments are those of `attack_calibration`.
    """
    cases = _cases(logits, split.labels, promise, chosen, temperatures, options)
    attack, wanted = _Attack(network, split, cases, options, device), shard(chosen, options.batch_size, number, shards)
    return attack.batches(wanted, list(state or ()), save, f"{name} shard {number} of {shards}")


def _cases(logits, labels, promise: Certificate, chosen, temperatures: Mapping[str, float], options: Options) -> list[Case]:
    return [
        _case(logits, labels, promise, chosen, epsilon, suffix, temperature)
        for epsilon in options.epsilons
        for suffix, temperature in temperatures.items()
    ]


def _case(logits, labels, promise: Certificate, chosen, epsilon: int, suffix: str, temperature: float) -> Case:
    bounds = bounds_at(logits, labels, promise, epsilon, temperature, kept=chosen)
    everything = summary(bounds, epsilon, np.arange(len(labels)))
    return Case(epsilon, suffix, temperature, bounds, everything, summary(bounds, epsilon, chosen))


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

    def __init__(self, network, split, cases: list[Case], options: Options, device):
        self.network = copy.deepcopy(network).to(device).eval().double()
        self.split, self.cases, self.options, self.device = split, cases, options, torch.device(device)

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

"""Robust accuracy: AutoAttack at fixed epsilons on a sample of a split, resumable after each batch."""

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lipscale.attacks.autoattack import Calibrated, attack_batch, broken, single_pixels, stages_for, without_tf32
from lipscale.attacks.selection import choose, select
from lipscale.evaluation.logits import check_labels, check_shape
from lipscale.progress import bar
from lipscale.units import distance

if TYPE_CHECKING:
    from lipscale.certification.plain_layers import PlainNetwork
    from lipscale.data.dataset import Split

Verdicts = dict[str, list[bool]]  # per epsilon, as text: which of the first attacked images survived


@dataclass(frozen=True)
class Options:
    """What is evaluated, and how.

    Attributes:
        epsilons: l2 budgets in 1/255 of the pixel range; kept sorted.
        images: images to evaluate, at most; a seeded choice, the same for every network.
        spot_checks: images certified by either radius to attack nevertheless at each epsilon, at most; a seeded choice.
        batch_size: images attacked at once.
        seed: of both choices and of the attack.
    """

    epsilons: tuple[int, ...]
    images: int
    spot_checks: int
    batch_size: int
    seed: int

    def __post_init__(self):
        object.__setattr__(self, "epsilons", tuple(sorted(self.epsilons)))


@dataclass(frozen=True)
class Robustness:
    """What an attack found.

    Attributes:
        index: of the evaluated images in their split, sorted.
        robust: for each epsilon a mask (len(index),): right, and still right after the attack.
        attacked: for each epsilon a mask (len(index),): the other images needed no attack.
        attack: name and stages.
        temperature: that the logits were divided by.
        seconds: that the attack took, since it was last resumed.
    """

    index: np.ndarray
    robust: dict[int, np.ndarray]
    attacked: dict[int, np.ndarray]
    attack: str
    temperature: float
    seconds: float

    def columns(self) -> list[str]:
        """The columns of `rows`: index, and robust_EPS and attacked_EPS for each epsilon."""
        return ["index", *(f"{name}_{epsilon}" for epsilon in self.robust for name in ("robust", "attacked"))]

    def rows(self) -> Iterator[dict[str, int]]:
        """A row for each evaluated image, masks as 0 and 1."""
        masks = (mask for epsilon in self.robust for mask in (self.robust[epsilon], self.attacked[epsilon]))
        table = np.column_stack([self.index, *masks]).astype(int)
        yield from (dict(zip(self.columns(), row, strict=True)) for row in table.tolist())


def task(options: Options, classes: int, temperature: float) -> dict:
    """What the verdicts of an attack depend on beside network and images. Only verdicts of the same task may be resumed."""
    return {
        "attack": _name(classes),
        **asdict(options),
        "certified_by": "radius or pair_radius",  # which images need no attack
        "epsilons": list(options.epsilons),
        "temperature": temperature,
    }


def _name(classes: int) -> str:
    return "AutoAttack l2: " + ", ".join(stages_for(classes))


def evaluate_robustness(
    network: "PlainNetwork",
    split: "Split",
    logits: np.ndarray,
    radii: np.ndarray,
    pair_radii: np.ndarray,
    temperature: float,
    options: Options,
    device: torch.device | str = "cpu",
    state: Verdicts | None = None,
    save: Callable[[Verdicts], None] = lambda state: None,
    name: str = "network",
) -> Robustness:
    """Attack a sample of a split, at each epsilon the images that `select` returns.

    AutoAttack works in float32, which no certificate covers: a certified image counts as broken only if it is in float64 too.

    Each batch has its own seed, so that an attack resumed from a saved state gives the same result.

    Args:
        network: with float32 weights; it is copied.
        split: `images` (images, channels, height, width), uint8, and `labels` (images,).
        logits: (images, classes) of the split, from `exact_logits`.
        radii, pair_radii: (images,) of the split, from `certified_radii`.
        temperature: T*, see `Calibrated`.
        state: what `save` got last in an attack with the same network, split and `task`.
        save: called with the state after each batch; the state changes afterwards, so write or copy it.
        name: of the network, for the progress bar.

    Raises:
        LipscaleError: labels that the network has no logits for, or images of another shape than it was made for.
    """
    start, classes = time.perf_counter(), logits.shape[1]
    check_shape(split.images, network)
    check_labels(split.labels, logits)
    verdicts = {epsilon: list(survived) for epsilon, survived in (state or {}).items()}
    chosen, radii = choose(np.arange(len(split.labels)), options.images, options.seed), np.maximum(radii, pair_radii)
    correct = logits.argmax(axis=1) == split.labels
    robust, attacked = {}, {}
    with bar(name=f"{name} attack", total=len(options.epsilons) * len(stages_for(classes)), unit="stage") as progress:
        attack = _Attack(network, split, radii, temperature, classes, options, device, progress)
        for epsilon in options.epsilons:
            targets = select(chosen, correct, radii, epsilon, options.spot_checks, options.seed).attacked
            survived = verdicts.setdefault(str(epsilon), [])
            for batch in attack.batches(targets, done=len(survived)):
                survived += attack.survivors(batch, epsilon)
                save(verdicts)
            correct[targets] = survived
            robust[epsilon], attacked[epsilon] = correct[chosen], np.isin(chosen, targets)
    return Robustness(chosen, robust, attacked, _name(classes), temperature, time.perf_counter() - start)


class _Attack:
    """One network under attack on one split."""

    def __init__(self, network, split, radii, temperature, classes, options, device, progress):
        network = copy.deepcopy(network).to(device).eval()
        self.exact = copy.deepcopy(network).double()
        self.model = Calibrated(network.float(), temperature).eval()
        self.split, self.radii, self.stages = split, radii, stages_for(classes)
        self.options, self.device, self.progress = options, device, progress

    def batches(self, targets: np.ndarray, done: int) -> Iterator[np.ndarray]:
        """The targets that are not done, in batches; the bar gets the number of stages."""
        size, stages = self.options.batch_size, len(self.stages)
        self.progress.total += stages * (-(-len(targets) // size) - 1)
        self.progress.update(stages * -(-done // size))
        yield from (targets[first : first + size] for first in range(done, len(targets), size))

    def survivors(self, batch: np.ndarray, epsilon: int) -> list[bool]:
        """Which images of a batch, given by indices, keep their class; certified ones lose it only as `broken` says."""
        images, labels, radii = self.split.images[batch], self.split.labels[batch], self.radii[batch]
        pixels, truth = single_pixels(torch.from_numpy(images).to(self.device)), torch.from_numpy(labels).to(self.device)
        with without_tf32():
            found, survived = attack_batch(self.model, pixels, truth, epsilon, self.stages, self.options.seed, self.progress)
        fallen = broken(self.exact, images, labels, radii, found)
        return torch.where(torch.from_numpy(radii >= distance(epsilon)), ~fallen, survived.cpu()).tolist()

"""The images that an attack evaluates, and what it found of each."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from lipscale.attacks.autoattack import stages_for
from lipscale.attacks.selection import choose, select, shard


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


class Sample:
    """The images that are evaluated, and what is known of them: verdicts are added epsilon by epsilon, the smallest first.

    Args:
        labels: (images,) of the split.
        logits: (images, classes) of the split, from `exact_logits`.
        radii, pair_radii: (images,) of the split, from `certified_radii`.
    """

    def __init__(
        self, labels: np.ndarray, logits: np.ndarray, radii: np.ndarray, pair_radii: np.ndarray, options: Options
    ) -> None:
        self.options, self.classes = options, logits.shape[1]
        self.chosen = choose(np.arange(len(labels)), options.images, options.seed)
        self.radii = np.maximum(radii, pair_radii)
        self.correct = logits.argmax(axis=1) == labels
        self.robust: dict[int, np.ndarray] = {}
        self.attacked: dict[int, np.ndarray] = {}

    def targets(self, epsilon: int) -> np.ndarray:
        """Indices of the images to attack, once the verdicts at all smaller epsilons are known."""
        options = self.options
        return select(self.chosen, self.correct, self.radii, epsilon, options.spot_checks, options.seed).attacked

    def shard(self, epsilon: int, number: int, shards: int) -> np.ndarray:
        """The targets of one of several jobs, counted from 1."""
        return shard(self.targets(epsilon), self.options.batch_size, number, shards)

    def add(self, epsilon: int, survived: Sequence[bool]) -> None:
        """The verdicts on all targets, in their order."""
        targets = self.targets(epsilon)
        self.correct[targets] = survived
        self.robust[epsilon], self.attacked[epsilon] = self.correct[self.chosen], np.isin(self.chosen, targets)

    def found(self, temperature: float, seconds: float) -> Robustness:
        """The result, once the verdicts at all epsilons are known."""
        return Robustness(self.chosen, self.robust, self.attacked, attack_name(self.classes), temperature, seconds)


def task(options: Options, classes: int, temperature: float) -> dict:
    """What the verdicts of an attack depend on beside network and images. Only verdicts of the same task may be resumed."""
    return {
        "attack": attack_name(classes),
        **asdict(options),
        "certified_by": "radius or pair_radius",  # which images need no attack
        "epsilons": list(options.epsilons),
        "temperature": temperature,
    }


def attack_name(classes: int) -> str:
    return "AutoAttack l2: " + ", ".join(stages_for(classes))

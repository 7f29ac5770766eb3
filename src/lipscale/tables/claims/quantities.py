"""What claims are decided on: numbers with an estimate, and bounds that are wrong with at most a given probability.

`low(error)` exceeds the true value with probability at most `error`, `high(error)` is below it with at most that.

`Sampled` is a mean over seeds on a sample of test images. Both count: its interval is

    estimate -+ sqrt(t(S - 1)^2 s^2 / S + z^2 V)

with s the standard deviation over the S seeds, t and z the quantiles of Student's t with S - 1 degrees of freedom and of the
normal distribution, and V the variance of the mean over bootstrap replicates of the test images, which all networks share.
Each quantile belongs to the part it is known for, so that three seeds are not taken for many (Cochran and Cox, 1957, for the
approximation). Differences are paired: by seed, and by image since all networks have the same replicates.

`Largest`, `Smallest` and `ShareUpTo` combine numbers. Where a bound needs one part only, the worst one, it has the bound of
that part; where any part could exceed it by chance, the error is shared between the parts (Bonferroni).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.special import ndtri, stdtrit


class Undecided(Exception):
    """The runs cannot decide a claim; the message says why."""


class Quantity(Protocol):
    """A number with bounds; `seeds` and `images` that it rests on (0 images: it needs none)."""

    estimate: float
    seeds: int
    images: int

    def low(self, error: float) -> float: ...

    def high(self, error: float) -> float: ...


@dataclass(frozen=True)
class Sampled:
    """A mean over seeds.

    Attributes:
        numbers: of the seeds.
        values: of each seed, (seeds,).
        replicates: the same on resampled test images, (seeds, replicates); None where no test images are involved.
        images: how many test images there are.
        slack: how far the values may be off for another reason, such as half the step of a grid.
    """

    numbers: tuple[int, ...]
    values: np.ndarray
    replicates: np.ndarray | None = None
    images: int = 0
    slack: float = 0.0

    @property
    def estimate(self) -> float:
        return float(np.mean(self.values))

    @property
    def seeds(self) -> int:
        return len(self.numbers)

    def low(self, error: float) -> float:
        return self.estimate - self._half(error)

    def high(self, error: float) -> float:
        return self.estimate + self._half(error)

    def _half(self, error: float) -> float:
        if self.seeds < 2:
            raise Undecided("one seed; two or more are needed")
        over_seeds = np.var(self.values, ddof=1) / self.seeds
        over_images = 0.0 if self.replicates is None else np.var(self.replicates.mean(axis=0), ddof=1)
        student, normal = stdtrit(self.seeds - 1, 1 - error), ndtri(1 - error)
        return float(np.sqrt(student**2 * over_seeds + normal**2 * over_images)) + self.slack

    def __neg__(self) -> "Sampled":
        return self.times(-1.0)

    def __add__(self, constant: float) -> "Sampled":
        return replace(self, values=self.values + constant)  # replicates count by their variance only

    def __sub__(self, other: "Sampled") -> "Sampled":
        """The difference over the seeds that both have."""
        common = tuple(number for number in self.numbers if number in other.numbers)
        if not common:
            raise Undecided("the compared settings have no seed in common")
        first, second = self.over(common), other.over(common)
        replicates = first.replicates
        if other.replicates is not None:
            replicates = -second.replicates if replicates is None else replicates - second.replicates
        images = min(filter(None, (self.images, other.images)), default=0)
        return Sampled(common, first.values - second.values, replicates, images, self.slack + other.slack)

    def over(self, numbers: Sequence[int]) -> "Sampled":
        """The same for some of its seeds."""
        rows = [self.numbers.index(number) for number in numbers]
        replicates = None if self.replicates is None else self.replicates[rows]
        return replace(self, numbers=tuple(numbers), values=self.values[rows], replicates=replicates)

    def times(self, factor: float) -> "Sampled":
        replicates = None if self.replicates is None else factor * self.replicates
        return replace(self, values=factor * self.values, replicates=replicates, slack=abs(factor) * self.slack)


class _Combined:
    """Numbers together; each has the seeds and images of the part with fewest."""

    def __init__(self, parts: Sequence[Quantity]):
        if not parts:
            raise ValueError("no parts")
        self.parts = list(parts)
        self.seeds = min(part.seeds for part in parts)
        self.images = min((part.images for part in parts if part.images), default=0)


class Largest(_Combined):
    """The largest of several numbers: at most a threshold where every part is."""

    @property
    def estimate(self) -> float:
        return max(part.estimate for part in self.parts)

    def low(self, error: float) -> float:
        return max(part.low(error / len(self.parts)) for part in self.parts)

    def high(self, error: float) -> float:
        return max(part.high(error) for part in self.parts)


class Smallest(_Combined):
    """The smallest of several numbers: above a threshold where every part is."""

    @property
    def estimate(self) -> float:
        return min(part.estimate for part in self.parts)

    def low(self, error: float) -> float:
        return min(part.low(error) for part in self.parts)

    def high(self, error: float) -> float:
        return min(part.high(error / len(self.parts)) for part in self.parts)


class ShareUpTo(_Combined):
    """The share of several numbers that are at most `largest`."""

    def __init__(self, parts: Sequence[Quantity], largest: float):
        super().__init__(parts)
        self.largest = largest

    @property
    def estimate(self) -> float:
        return self._share([part.estimate for part in self.parts])

    def low(self, error: float) -> float:
        return self._share([part.high(error / len(self.parts)) for part in self.parts])

    def high(self, error: float) -> float:
        return self._share([part.low(error / len(self.parts)) for part in self.parts])

    def _share(self, values: Sequence[float]) -> float:
        return float(np.mean(np.array(values) <= self.largest))


class Increasing:
    """A growing function of a number, such as exp for a ratio that is estimated by its logarithm."""

    def __init__(self, function: Callable[[float], float], of: Quantity):
        self._function, self._of = function, of
        self.seeds, self.images = of.seeds, of.images

    @property
    def estimate(self) -> float:
        return float(self._function(self._of.estimate))

    def low(self, error: float) -> float:
        return float(self._function(self._of.low(error)))

    def high(self, error: float) -> float:
        return float(self._function(self._of.high(error)))


def ratio(logarithm: Quantity) -> Increasing:
    """A ratio from its logarithm."""
    return Increasing(np.exp, logarithm)

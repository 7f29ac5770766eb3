"""Which images are attacked."""

from dataclasses import dataclass

import numpy as np

from lipscale.units import distance


def choose(candidates: np.ndarray, count: int, seed: int) -> np.ndarray:
    """At most `count` of the candidates, drawn without replacement, sorted."""
    return np.sort(np.random.default_rng(seed).permutation(candidates)[:count])


def shard(targets: np.ndarray, batch_size: int, number: int, shards: int) -> np.ndarray:
    """The targets of one of several jobs, counted from 1: whole batches, those of an attack that is not split."""
    batches = -(-len(targets) // batch_size)
    first, last = (end * batches // shards * batch_size for end in (number - 1, number))
    return targets[first:last]


@dataclass(frozen=True)
class Selection:
    """Images at one epsilon, by their indices in a split, sorted.

    Attributes:
        certified: those with a certified radius, either of the two, of at least epsilon; robust by proof.
        spot_checks: those of `certified` that are attacked nevertheless.
        attacked: all that are attacked.
    """

    certified: np.ndarray
    spot_checks: np.ndarray
    attacked: np.ndarray


def select(chosen: np.ndarray, robust: np.ndarray, radii: np.ndarray, epsilon: float, spot_checks: int, seed: int) -> Selection:
    """The images to attack at an epsilon. Three kinds need no attack:

    - misclassified images, which are not robust;
    - images broken at a smaller epsilon, as the larger ball holds the same adversarial image;
    - certified images, of a radius of at least epsilon, except for the spot checks.

    Args:
        chosen: indices of the images that are evaluated.
        robust: (images,) of the whole split, False for the first two kinds.
        radii: (images,) of the whole split, in pixels: the larger of an image's radius and pair radius, as both are proven.
        epsilon: in 1/255.
        spot_checks: certified images to attack, at most.
        seed: of the choice of spot checks.
    """
    alive = chosen[robust[chosen]]
    certified = alive[radii[alive] >= distance(epsilon)]
    checked = choose(certified, spot_checks, seed)
    return Selection(certified, checked, np.setdiff1d(alive, np.setdiff1d(certified, checked)))

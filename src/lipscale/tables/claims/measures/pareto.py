"""Claims 5, 8b and 9: the Pareto front of clean against robust or certified accuracy."""

from itertools import pairwise

import numpy as np

from lipscale.tables.claims.evidence import Evidence, NoRuns, Setting
from lipscale.tables.claims.quantities import Largest, Quantity, ShareUpTo, Smallest, Undecided, ratio
from lipscale.tables.claims.rule import Claim
from lipscale.tables.reader import FIXED, LIST

ATTACKED_MARGIN = 0.01  # of accuracy: a point
MARGIN = 0.005  # of accuracy: half a point
ECE_MARGIN = 0.005  # a network is as calibrated where its ECE is higher by no more


def ahead_under_attack(evidence: Evidence) -> tuple[Largest, str]:
    """By how much a fixed L is ahead of LiST in both accuracies, on the same evaluated images, at the smallest epsilon."""
    names = ("evaluated_clean_accuracy", f"robust_{_epsilon(evidence)}")
    rivals, settings = evidence.standard(FIXED), evidence.standard(LIST)
    parts = {(rival.name, setting.name): _ahead(evidence, rival, setting, names) for rival in rivals for setting in settings}
    return Largest(list(parts.values())), _closest(parts)


def ahead_of_the_front(evidence: Evidence) -> tuple[Largest, str]:
    """By how much a fixed L that is as calibrated after temperature scaling is ahead in clean and certified accuracy."""
    rivals, front = evidence.of(FIXED), _front(evidence)
    parts = {
        (rival.name, point.name): _dominates(evidence, rival, point, ("ece_scaled", "ece"))
        for rival in rivals
        for point in front
    }
    return Largest(list(parts.values())), _closest(parts)


def undominated(evidence: Evidence) -> tuple[ShareUpTo, str]:
    """Share of the front of fixed L at which no point of LiST is ahead in both accuracies and as calibrated."""
    points, front = _front(evidence), _pareto(evidence, evidence.of(FIXED))
    parts = [Largest([_dominates(evidence, point, rival, ("ece", "ece_scaled")) for point in points]) for rival in front]
    return ShareUpTo(parts, largest=0.0), f"front of fixed L: {', '.join(rival.name for rival in front)}"


def growth(evidence: Evidence) -> Quantity:
    """Final L over that at the next smaller offset, from the same L0."""
    parts = []
    for start in dict.fromkeys(setting.initial_lipschitz for setting in _front(evidence)):
        settings = [setting for setting in evidence.of(LIST) if setting.initial_lipschitz == start]
        logarithms = [setting.column("lipschitz", np.log) for setting in settings]
        if len(settings) > 2:
            parts += [after - before for before, after in pairwise(logarithms)]
    if not parts:
        raise Undecided("fewer than three offsets from one L0")
    return ratio(Largest(parts))


def _epsilon(evidence: Evidence) -> int:
    return min(evidence.tables.epsilons)


def _front(evidence: Evidence) -> list[Setting]:
    """LiST from each L0 with several offsets. Raises NoRuns where there is none."""
    settings = evidence.of(LIST)
    starts = [setting.initial_lipschitz for setting in settings]
    front = [setting for setting in settings if starts.count(setting.initial_lipschitz) > 1]
    if not front:
        raise NoRuns
    return front


def _accuracies(evidence: Evidence) -> tuple[str, str]:
    return "clean_accuracy", f"certified_{_epsilon(evidence)}"


def _ahead(evidence: Evidence, first: Setting, second: Setting, names: tuple[str, ...]) -> Smallest:
    return Smallest([evidence.measure(first, name) - evidence.measure(second, name) for name in names])


def _dominates(evidence: Evidence, first: Setting, second: Setting, ece: tuple[str, str]) -> Smallest:
    """By how much `first` is ahead of `second` in both accuracies, if it is as calibrated; `ece`: the columns of both.

    With `ECE_MARGIN` and `MARGIN` added, the difference of ECE exceeds `MARGIN` where `first` is as calibrated.
    """
    calibrated = evidence.measure(second, ece[1]) - evidence.measure(first, ece[0]) + (ECE_MARGIN + MARGIN)
    return Smallest([*_ahead(evidence, first, second, _accuracies(evidence)).parts, calibrated])


def _pareto(evidence: Evidence, settings: list[Setting]) -> list[Setting]:
    """Those that no other one is ahead of in both accuracies, by their means."""
    names = _accuracies(evidence)
    return [one for one in settings if not any(_ahead(evidence, other, one, names).estimate > 0 for other in settings)]


def _closest(parts: dict[tuple[str, str], Smallest]) -> str:
    rival, setting = max(parts, key=lambda pair: parts[pair].estimate)
    return f"closest: {rival} to {setting}"


CLAIMS = (
    Claim(
        "5",
        "LiST lies on the Pareto front of clean and AutoAttack accuracy",
        "share of evaluated images by which a fixed L is ahead in both",
        ahead_under_attack,
        at_most=ATTACKED_MARGIN,
    ),
    Claim("8b", "L* falls as the offset grows", "final L over that at the next smaller offset", growth, at_most=1.0),
    Claim(
        "9a",
        "No fixed L with temperature scaling dominates a point of LiST's front",
        "share of test images by which a fixed L, as calibrated, is ahead in clean and certified accuracy",
        ahead_of_the_front,
        at_most=MARGIN,
    ),
    Claim(
        "9b",
        "LiST's front dominates half of the front of fixed L",
        "share of the front of fixed L, with temperature scaling, that no point of LiST dominates",
        undominated,
        at_most=0.5,
    ),
)

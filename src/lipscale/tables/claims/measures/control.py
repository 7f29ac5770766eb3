"""Claim 12: is it the feedback, or only that L grows during training? LiST against two methods without feedback."""

from functools import partial

from lipscale.tables.claims.evidence import Evidence, NoRuns, Setting
from lipscale.tables.claims.quantities import Smallest
from lipscale.tables.claims.rule import Claim
from lipscale.tables.claims.selection import highest
from lipscale.tables.reader import LIST

REPLAY, RAMP = "replay", "ramp"
MARGIN = 0.005  # of accuracy: half a point, so that "only that L grows" can be found


def gain(evidence: Evidence, control: str) -> tuple[Smallest, str]:
    """By how much LiST is ahead of a control in clean and in certified accuracy, the smaller of both."""
    names = ("clean_accuracy", f"certified_{min(evidence.tables.epsilons)}")
    pairs = _replayed(evidence) if control == REPLAY else _ramped(evidence)
    parts = [evidence.measure(one, name) - evidence.measure(other, name) for one, other in pairs for name in names]
    return Smallest(parts), "; ".join(f"{one.name} against {other.name}" for one, other in pairs)


def _replayed(evidence: Evidence) -> list[tuple[Setting, Setting]]:
    """LiST and the replay of its L, from the same L0 with the same offset."""
    controls = {(one.initial_lipschitz, one.offset): one for one in evidence.of(REPLAY)}
    settings = [one for one in evidence.of(LIST) if (one.initial_lipschitz, one.offset) in controls]
    if not settings:
        raise NoRuns
    return [(one, controls[one.initial_lipschitz, one.offset]) for one in settings]


def _ramped(evidence: Evidence) -> list[tuple[Setting, Setting]]:
    """For each offset, LiST and the ramp that are the most accurate on the validation split."""
    pairs = []
    for offset in dict.fromkeys(setting.offset for setting in evidence.of(RAMP)):
        best = highest(evidence.of(LIST, offset), "validation_accuracy")
        pairs.append((best, highest(evidence.of(RAMP, offset), "validation_accuracy")))
    return pairs


MEASURE = "accuracy minus that of the control, the smaller of clean and certified"
CLAIMS = (
    Claim(
        "12a",
        "It is the feedback: LiST is better than the same L replayed from another seed",
        MEASURE,
        partial(gain, control=REPLAY),
        above=MARGIN,
    ),
    Claim(
        "12b",
        "It is the feedback: LiST is better than an L that only grows",
        MEASURE,
        partial(gain, control=RAMP),
        above=MARGIN,
    ),
)

"""Claims 14 to 16: proven bounds on NLL and ECE under attack, along LiST's offsets and against fixed L.

Bounds and attacks are computed of all test images together, so intervals count seeds only: verdicts are about this test split.
"""

import re
from functools import partial
from itertools import pairwise

import numpy as np

from lipscale.tables.claims.evidence import Evidence, NoRuns, Setting
from lipscale.tables.claims.quantities import Largest, Sampled, ratio
from lipscale.tables.claims.rule import Claim
from lipscale.tables.key import in_logits
from lipscale.tables.reader import FIXED, LIST

NLL_MARGIN = 0.02  # nats
USUAL = 36  # the budget of most tables on certified accuracy, in 1/255


def growth(evidence: Evidence, measure: str) -> tuple[Largest, str]:
    """A measure minus that at the next smaller offset, up to the offset that equals epsilon."""
    epsilon, front = _epsilon(evidence), _front(evidence)
    low = [setting for setting in front if setting.offset <= epsilon]
    name = f"{measure}_{epsilon}"
    steps = [after.column(name) - before.column(name) for before, after in pairwise(low)]
    if not steps:
        raise NoRuns
    return Largest(steps), f"lowest at xi = {_lowest(front, name).offset:g}"


def excess_over_offsets(evidence: Evidence) -> tuple[Largest, str]:
    """Certified NLL at the offset that equals epsilon, minus that at every other offset."""
    parts, notes = [], []
    for epsilon, own in _matched(evidence):
        name = f"certified_nll_{epsilon}"
        others = [setting for setting in _front(evidence) if setting.offset != epsilon]
        parts += [own.column(name) - other.column(name) for other in others]
        notes.append(f"at {epsilon}/255 lowest at xi = {_lowest([own, *others], name).offset:g}")
    return Largest(parts), "; ".join(notes)


def excess_over_fixed(evidence: Evidence, suffix: str) -> tuple[Largest, str]:
    """Certified NLL of LiST at the offset that equals epsilon, minus that of every fixed L."""
    parts: dict[str, Sampled] = {}
    for epsilon, own in _matched(evidence):
        for rival in evidence.standard(FIXED):
            excess = own.column(f"certified_nll_{epsilon}") - rival.column(f"certified_nll{suffix}_{epsilon}")
            parts[f"{own.name} and {rival.name} at {epsilon}/255"] = excess
    return Largest(list(parts.values())), f"closest: {max(parts, key=lambda name: parts[name].estimate)}"


def gap(evidence: Evidence, bound: str, attacked: str) -> tuple[object, str]:
    """A bound over what the attack reached on the same images, the largest of LiST's offsets."""
    epsilon, found = _epsilon(evidence), {}
    for setting in _front(evidence):
        found[setting.name] = setting.column(f"{bound}_{epsilon}", np.log) - setting.column(f"{attacked}_{epsilon}", np.log)
    name = max(found, key=lambda name: found[name].estimate)
    return ratio(Largest(list(found.values()))), f"largest: {name}"


def _budgets(evidence: Evidence) -> list[int]:
    """Raises NoRuns where the tables have no certified NLL, as those of older versions."""
    budgets = [int(name[1]) for name in map(re.compile(r"certified_nll_(\d+)").fullmatch, evidence.tables.runs) if name]
    if not budgets:
        raise NoRuns
    return sorted(budgets)


def _epsilon(evidence: Evidence) -> int:
    budgets = _budgets(evidence)
    return USUAL if USUAL in budgets else budgets[0]


def _front(evidence: Evidence) -> list[Setting]:
    """LiST along its offsets, from the initial L that has most. Raises NoRuns where there are fewer than two."""
    settings = [setting for setting in evidence.of(LIST) if not in_logits(setting.name)]
    starts = [setting.initial_lipschitz for setting in settings]
    start = max(starts, key=starts.count, default=None)
    if starts.count(start) < 2:
        raise NoRuns
    return [setting for setting in settings if setting.initial_lipschitz == start]


def _matched(evidence: Evidence) -> list[tuple[int, Setting]]:
    """Each budget that is an offset of LiST, and the setting. Raises NoRuns where there is none."""
    of_offset = {setting.offset: setting for setting in _front(evidence)}
    found = [(epsilon, of_offset[epsilon]) for epsilon in _budgets(evidence) if epsilon in of_offset]
    if not found:
        raise NoRuns
    return found


def _lowest(settings: list[Setting], name: str) -> Setting:
    return min(settings, key=lambda setting: setting.column(name).estimate)


CLAIMS = (
    Claim(
        "14a",
        "Certified NLL falls as the offset grows, up to the offset that equals epsilon",
        "certified NLL at 36/255 minus that at the next smaller offset",
        partial(growth, measure="certified_nll"),
        at_most=0.0,
    ),
    Claim(
        "14b",
        "Worst-case ECE falls as the offset grows, up to the offset that equals epsilon",
        "worst-case ECE at 36/255 minus that at the next smaller offset",
        partial(growth, measure="worst_case_ece"),
        at_most=0.0,
    ),
    Claim(
        "14c",
        "The offset that equals epsilon has the lowest certified NLL",
        "certified NLL at that offset minus that at every other one, in nats",
        excess_over_offsets,
        at_most=NLL_MARGIN,
    ),
    Claim(
        "15a",
        "LiST with an offset of epsilon has a certified NLL no worse than any fixed L",
        "certified NLL at epsilon minus that of the fixed L, in nats",
        partial(excess_over_fixed, suffix=""),
        at_most=NLL_MARGIN,
    ),
    Claim(
        "15b",
        "LiST with an offset of epsilon has a certified NLL no worse than any fixed L with temperature scaling",
        "certified NLL at epsilon minus that of the fixed L after scaling, in nats",
        partial(excess_over_fixed, suffix="_scaled"),
        at_most=NLL_MARGIN,
    ),
    Claim(
        "16a",
        "The bound on NLL is nearly reached",
        "certified NLL at 36/255 over NLL under attack, on the same images",
        partial(gap, bound="evaluated_certified_nll", attacked="attacked_nll"),
        at_most=1.25,
    ),
    Claim(
        "16b",
        "The bound on ECE is nearly reached",
        "worst-case ECE at 36/255 over ECE under attack, on the same images",
        partial(gap, bound="evaluated_worst_case_ece", attacked="attacked_ece"),
        at_most=1.5,
    ),
)

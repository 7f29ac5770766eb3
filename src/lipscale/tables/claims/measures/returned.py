"""Claim 10: calibration data that is returned to training raises accuracy, and the network stays calibrated."""

from functools import partial

from lipscale.tables.claims.evidence import Evidence, NoRuns, Setting
from lipscale.tables.claims.quantities import Largest, Smallest
from lipscale.tables.claims.rule import Claim
from lipscale.tables.reader import LIST

MARGIN = 0.005  # of ECE


def gain(evidence: Evidence, variant: str) -> Smallest:
    """Clean accuracy minus that of the same setting without the returned data."""
    parts = []
    for setting, without in _pairs(evidence, variant):
        parts.append(evidence.measure(setting, "clean_accuracy") - evidence.measure(without, "clean_accuracy"))
    return Smallest(parts)


def ece_excess(evidence: Evidence, variant: str) -> Largest:
    """ECE minus that of the same setting without the returned data."""
    pairs = _pairs(evidence, variant)
    return Largest([evidence.measure(setting, "ece") - evidence.measure(without, "ece") for setting, without in pairs])


def _pairs(evidence: Evidence, variant: str) -> list[tuple[Setting, Setting]]:
    standard = {(one.initial_lipschitz, one.offset): one for one in evidence.of(LIST)}
    found = [
        (one, standard[one.initial_lipschitz, one.offset])
        for one in evidence.settings
        if one.method == LIST and one.variant == variant and (one.initial_lipschitz, one.offset) in standard
    ]
    if not found:
        raise NoRuns
    return found


def _claims(letters: str, variant: str, how: str) -> tuple[Claim, Claim]:
    same = "that of the same setting without the data"
    return (
        Claim(
            f"10{letters[0]}",
            f"Returning calibration data ({how}) raises accuracy",
            f"clean accuracy minus {same}",
            partial(gain, variant=variant),
            above=0.0,
        ),
        Claim(
            f"10{letters[1]}",
            f"Returning calibration data ({how}) keeps calibration",
            f"ECE minus {same}",
            partial(ece_excess, variant=variant),
            at_most=MARGIN,
        ),
    )


CLAIMS = (*_claims("ab", "continue", "training continues"), *_claims("cd", "restart", "training restarts"))

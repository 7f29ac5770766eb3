"""Claim 11: LiST against other ways to train a network, each with temperature scaling."""

from functools import partial

from lipscale.config.runs import STANDARD
from lipscale.method.methods import METHODS
from lipscale.tables.claims.evidence import Evidence, NoRuns, Setting
from lipscale.tables.claims.quantities import Sampled, Smallest, Undecided
from lipscale.tables.claims.rule import Claim
from lipscale.tables.claims.selection import lowest, matched
from lipscale.tables.reader import LIST

ECE_MARGIN = 0.005
FAMILIES = {  # beginning of the variant -> name
    STANDARD: "unconstrained cross-entropy",
    "label_smoothing": "label smoothing",
    "focal": "the focal loss",
    "flsd": "FLSD-53",
    "brier": "the Brier score",
    "pgd": "PGD adversarial training",
    "trades": "TRADES",
    "caat": "CAAT",
}


def ece_excess(evidence: Evidence, family: str) -> tuple[Sampled, str]:
    """ECE of LiST minus that of the rival after temperature scaling."""
    rival = lowest(_rivals(evidence, family), "validation_ece_scaled")
    setting = matched(evidence.of(LIST), rival)
    return evidence.measure(setting, "ece") - evidence.measure(rival, "ece_scaled"), f"{setting.name} against {rival.name}"


def robust_gain(evidence: Evidence, family: str) -> tuple[Smallest, str]:
    """Robust accuracy of LiST minus that of each rival, at the smallest epsilon."""
    epsilon = min(evidence.tables.epsilons)
    return _gain(evidence, family, f"robust_{epsilon}", lambda rival: f"robust_{epsilon}")


def certified_gain(evidence: Evidence, family: str) -> tuple[Smallest, str]:
    """Certified accuracy of LiST minus that of each rival; a rival without certificates counts by its robust accuracy."""
    epsilon = min(evidence.tables.epsilons)
    name = f"evaluated_certified_{epsilon}"
    return _gain(evidence, family, name, lambda rival: name if METHODS[rival.method].constrained else f"robust_{epsilon}")


def _gain(evidence: Evidence, family: str, own: str, theirs) -> tuple[Smallest, str]:
    parts, pairs = [], []
    for rival in _rivals(evidence, family):
        setting = matched(evidence.of(LIST), rival)
        if not evidence.tables.runs["evaluated_images"].gt(0).all():
            raise Undecided("no image was evaluated with AutoAttack")
        parts.append(evidence.measure(setting, own) - evidence.measure(rival, theirs(rival)))
        pairs.append(f"{setting.name} against {rival.name}")
    return Smallest(parts), "; ".join(pairs)


def _rivals(evidence: Evidence, family: str) -> list[Setting]:
    """The settings without feedback of a family: all strengths, with and without constraint."""
    found = []
    for setting in evidence.settings:
        usual = family == STANDARD and setting.variant == STANDARD and not METHODS[setting.method].constrained
        other = family != STANDARD and setting.variant.startswith(family) and not setting.variant.endswith(RETURNED)
        if usual or (other and not METHODS[setting.method].feedback):
            found.append(setting)
    if not found:
        raise NoRuns
    return found


def _claims(letter: str, family: str, name: str) -> tuple[Claim, Claim, Claim]:
    return (
        Claim(
            f"11{letter}-ece",
            f"LiST is as calibrated as {name} with temperature scaling",
            "ECE minus that of the rival, which is the best of its kind on the validation split",
            partial(ece_excess, family=family),
            at_most=ECE_MARGIN,
        ),
        Claim(
            f"11{letter}-robust",
            f"LiST is more robust than {name}",
            "robust accuracy minus that of the rival",
            partial(robust_gain, family=family),
            above=0.0,
        ),
        Claim(
            f"11{letter}-certified",
            f"LiST certifies more images than {name} does, or than it keeps under attack where it has no certificates",
            "certified accuracy minus certified, else robust, accuracy of the rival, on the same images",
            partial(certified_gain, family=family),
            above=0.0,
        ),
    )


RETURNED = ("-continue", "-restart")  # ends of variants that train on calibration data too
CLAIMS = tuple(
    claim
    for letter, (family, name) in zip("abcdefgh", FAMILIES.items(), strict=True)
    for claim in _claims(letter, family, name)
)

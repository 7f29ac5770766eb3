"""Claims 6 and 8a: LiST is calibrated without temperature scaling, and no worse than the fixed L that is best at it."""

from lipscale.tables.claims.evidence import Evidence, NoRuns
from lipscale.tables.claims.quantities import Largest
from lipscale.tables.claims.rule import Claim
from lipscale.tables.claims.selection import lowest
from lipscale.tables.reader import FIXED, LIST

MARGIN = 0.005  # of ECE: half a percent; smaller differences have no use, and 10,000 test images hardly show them


def excess(evidence: Evidence) -> tuple[Largest, str]:
    """ECE of LiST from each L0 minus that of the fixed L with the lowest ECE on the validation split."""
    return _excess_over(evidence, "ece")


def excess_over_scaled(evidence: Evidence) -> tuple[Largest, str]:
    """The same, fixed L after temperature scaling."""
    return _excess_over(evidence, "ece_scaled")


def _excess_over(evidence: Evidence, name: str) -> tuple[Largest, str]:
    settings, rivals = evidence.standard(LIST), evidence.standard(FIXED)
    rival = lowest(rivals, f"validation_{name}")
    ece = evidence.measure(rival, name)
    return Largest([evidence.measure(setting, "ece") - ece for setting in settings]), f"rival: {rival.name}"


def along_the_front(evidence: Evidence) -> Largest:
    """ECE of LiST at every offset."""
    settings = evidence.of(LIST)
    if len({setting.offset for setting in settings}) < 2:
        raise NoRuns
    return Largest([evidence.measure(setting, "ece") for setting in settings])


RIVAL = "ECE minus that of the fixed L that is best on the validation split"
CLAIMS = (
    Claim("6a", "LiST has the lowest ECE", RIVAL, excess, at_most=MARGIN),
    Claim(
        "6b",
        "LiST has the lowest ECE, also against fixed L with temperature scaling",
        f"{RIVAL}, after scaling",
        excess_over_scaled,
        at_most=MARGIN,
    ),
    Claim("8a", "LiST is calibrated at every offset", "largest ECE of a setting", along_the_front, at_most=0.02),
)

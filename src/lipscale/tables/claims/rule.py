"""The rule: a claim holds where the whole interval is on its side of the threshold.

It does not hold where the whole interval is on the other side. Everything else decides nothing, and so do runs that the claim
cannot be measured with: the row then says why. Measures and thresholds are in the code, not in a config, so that they are
fixed before an experiment runs.

Each bound is wrong with a probability of at most 5 %, so it is a 90 % interval. Only one of the two verdicts can be wrong, as
the truth is on one side, so wrong verdicts are at most 5 %, as in a test of equivalence by two one-sided tests (Schuirmann,
1987). `benchmarks/claim_error_rates.py` measures it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from lipscale.tables.claims.evidence import Evidence, NoRuns
from lipscale.tables.claims.quantities import Quantity, Undecided
from lipscale.text import short

HOLDS, FAILS, UNDECIDED = "holds", "does not hold", "not decided"
COLUMNS = (
    "claim", "statement", "measure", "threshold", "estimate", "low", "high", "seeds", "images", "verdict", "reason"
)  # fmt: skip
ERROR = 0.05  # of each bound
Measured = Quantity | tuple[Quantity, str]  # a number, and a note for the column `reason`


@dataclass(frozen=True)
class Claim:
    """A claim, its measure and its threshold: the measure must be at most, or above, a value.

    Attributes:
        number: of the claim on the poster, from 8 on of this project; letters tell its parts apart.
        statement: in words.
        measure: in words, what `value` returns.
        value: function of the evidence. It raises NoRuns where the experiment has no runs for the claim, and Undecided where
            it has too few.
        at_most: the measure must not exceed it; or
        above: the measure must exceed it.
    """

    number: str
    statement: str
    measure: str
    value: Callable[[Evidence], Measured]
    at_most: float | None = None
    above: float | None = None

    def __post_init__(self):
        if (self.at_most is None) == (self.above is None):
            raise ValueError(f"claim {self.number} needs one threshold, at_most or above")

    @property
    def threshold(self) -> str:
        return f"above {short(self.above)}" if self.at_most is None else f"at most {short(self.at_most)}"


def decide(claim: Claim, evidence: Evidence) -> dict | None:
    """The row of claims.csv for a claim; None where the experiment has no runs for it."""
    row = dict.fromkeys(COLUMNS, "")
    row |= {"claim": claim.number, "statement": claim.statement, "measure": claim.measure, "threshold": claim.threshold}
    try:
        measured = claim.value(evidence)
        quantity, row["reason"] = measured if isinstance(measured, tuple) else (measured, "")
        row |= {"estimate": float(quantity.estimate), "seeds": quantity.seeds, "images": quantity.images}
        row |= {"low": float(quantity.low(ERROR)), "high": float(quantity.high(ERROR))}
    except NoRuns:
        return None
    except Undecided as reason:
        return row | {"verdict": UNDECIDED, "reason": str(reason)}
    return row | {"verdict": verdict(claim, row["low"], row["high"])}


def verdict(claim: Claim, low: float, high: float) -> str:
    """What an interval says about a claim."""
    threshold = claim.above if claim.at_most is None else claim.at_most
    if high <= threshold:
        return FAILS if claim.at_most is None else HOLDS
    if low > threshold:
        return HOLDS if claim.at_most is None else FAILS
    return UNDECIDED

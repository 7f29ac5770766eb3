"""What an attack on calibration has found, beside what is proven; a value above its bound is an error.

Numbers under attack are rounded too, so a bound counts as broken only where the attacked value exceeds it whatever its
rounding: where the interval of `confidence_intervals` at epsilon 0, for the logits of the perturbed image, lies beyond the
bound. Values that exceed their bound by less than that are set to it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lipscale.attacks.reached import Arrays, choose
from lipscale.certification.certificate import Certificate
from lipscale.certification.certified_calibration import CertifiedCalibration, ImageBounds
from lipscale.certification.confidence_intervals import ConfidenceIntervals, confidence_intervals
from lipscale.certification.norms import UNIT, gamma
from lipscale.errors import LipscaleError
from lipscale.evaluation.metrics import BINS, bin_of

BOUNDS, ATTACKED = ("certified_nll", "certified_brier"), ("nll", "brier", "confidence", "right")


@dataclass(frozen=True)
class Case:
    """One budget and one temperature.

    Attributes:
        epsilon: in 1/255.
        suffix: of names of columns: "" for logits as they are, "_scaled" for those divided by T*.
        temperature: that logits are divided by.
        bounds: of all images.
        everything, evaluated: what follows for all images, and for the attacked ones.
    """

    epsilon: int
    suffix: str
    temperature: float
    bounds: ImageBounds
    everything: CertifiedCalibration
    evaluated: CertifiedCalibration

    @property
    def key(self) -> str:
        return f"{self.suffix}_{self.epsilon}"


@dataclass(frozen=True)
class CalibrationAttack:
    """Bounds of all images of a split, and what the attack reached for those at `index`.

    Attributes:
        index: of the attacked images, sorted.
        cases: in the order of epsilons.
        attacked: for each `Case.key` the arrays `nll`, `brier`, `confidence` and `right` of the attacked images; the last two
            make the ECE.
        ece: attacked ECE, for each `Case.key`.
        seconds: that the attack took, since it was last resumed.
    """

    index: np.ndarray
    cases: Sequence[Case]
    attacked: Mapping[str, Arrays]
    ece: Mapping[str, float]
    seconds: float

    @classmethod
    def of(
        cls,
        cases: Sequence[Case],
        reached: Mapping[str, Arrays],
        labels: np.ndarray,
        index: np.ndarray,
        name: str,
        seconds: float,
    ) -> "CalibrationAttack":
        """Raises LipscaleError where what was reached exceeds a bound."""
        attacked, ece, starts = {}, {}, {}
        for one in cases:
            found, bounds = reached[one.key], one.bounds.of(index)
            _check(found, bounds, labels[index], one, index, name)
            known = starts.setdefault(one.suffix, [np.ones(BINS, int), -np.ones(BINS, int)])
            confidence, right, signs = choose(found["ends"], [*known, one.evaluated.signs])
            known.append(signs)  # the same points are within larger budgets too
            confidence = np.clip(confidence, bounds.low, np.where(right, bounds.high_right, bounds.high_wrong))
            values = {"nll": np.minimum(found["nll"], bounds.nll), "brier": np.minimum(found["brier"], bounds.brier)}
            attacked[one.key] = values | {"confidence": confidence, "right": right}
            ece[one.key] = _ece(confidence, right)
            if ece[one.key] > one.evaluated.worst_case_ece:
                raise LipscaleError(
                    f"run {name}: an attack reaches an ECE of {ece[one.key]} at {one.epsilon}/255, "
                    f"above its proven bound {one.evaluated.worst_case_ece}; this must not happen"
                )
        return cls(index, cases, attacked, ece, seconds)

    def columns(self) -> list[str]:
        """The columns of `rows`."""
        names = [f"{name}{one.key}" for one in self.cases for name in (*BOUNDS, *(f"attacked_{name}" for name in ATTACKED))]
        return ["index", *names]

    def rows(self) -> Iterator[dict]:
        """A row for each image of the split; the columns of the attack are empty where it was not attacked."""
        images = len(self.cases[0].bounds.nll)
        columns = {"index": range(images)}
        for one in self.cases:
            columns |= {
                f"certified_nll{one.key}": one.bounds.nll.tolist(),
                f"certified_brier{one.key}": one.bounds.brier.tolist(),
            }
            for name in ATTACKED:
                values = [None] * images
                for place, value in zip(self.index.tolist(), self.attacked[one.key][name].tolist(), strict=True):
                    values[place] = int(value) if name == "right" else value
                columns[f"attacked_{name}{one.key}"] = values
        yield from (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))

    def summary(self) -> list[dict]:
        """For each case, its means and largest ECE: proven for all images, proven and attacked for the attacked ones."""
        return [
            {
                "epsilon": one.epsilon,
                "temperature": one.temperature,
                "suffix": one.suffix,
                "certified_nll": one.everything.certified_nll,
                "certified_brier": one.everything.certified_brier,
                "worst_case_ece": one.everything.worst_case_ece,
                "signs": one.everything.signs.tolist(),
                "evaluated_certified_nll": one.evaluated.certified_nll,
                "evaluated_certified_brier": one.evaluated.certified_brier,
                "evaluated_worst_case_ece": one.evaluated.worst_case_ece,
                "attacked_nll": float(self.attacked[one.key]["nll"].mean()),
                "attacked_brier": float(self.attacked[one.key]["brier"].mean()),
                "attacked_ece": self.ece[one.key],
            }
            for one in self.cases
        ]


def _ece(confidence: np.ndarray, right: np.ndarray) -> float:
    return float(np.abs(np.bincount(bin_of(confidence), weights=confidence - right, minlength=BINS)).sum() / len(right))


def _check(found: Arrays, bounds: ImageBounds, labels: np.ndarray, one: Case, index: np.ndarray, name: str) -> None:
    extreme = found["extreme_logits"]
    measured, proven = _measured(extreme, one.temperature), bounds.intervals
    outside = (measured.log_odds_high < proven.log_odds_low) | (measured.log_odds_low > proven.log_odds_high)
    flipped = ~np.take_along_axis(proven.possible, extreme.argmax(axis=1)[:, None], axis=1)[:, 0]
    beyond = _least_brier(found["brier_logits"], labels, one.temperature) > bounds.brier
    for broken, what in (
        (outside.any(axis=1), "a confidence"),
        (flipped, "a predicted class"),
        (beyond, "a Brier score"),
    ):
        if broken.any():
            names = ", ".join(map(str, index[broken]))
            raise LipscaleError(
                f"run {name}: an attack on calibration reaches {what} of test images {names} at {one.epsilon}/255 "
                "that their certificates rule out; this must not happen"
            )


def _measured(logits: np.ndarray, temperature: float) -> ConfidenceIntervals:
    """Intervals that hold the exact softmax of logits / temperature, (images, classes)."""
    longest = float(np.linalg.norm(logits, axis=1).max()) * (1 + gamma(logits.shape[1] + 8))
    rounding = 0.0 if temperature == 1 else UNIT * longest / temperature * (1 + gamma(8))
    pairs = np.zeros((logits.shape[1],) * 2)
    return confidence_intervals(logits / temperature, Certificate(1.0, 1.0, pairs, rounding), 0)


def _least_brier(logits: np.ndarray, labels: np.ndarray, temperature: float) -> np.ndarray:
    """Lower bounds on the Brier score, (images,); the sum is at most 2, and off by less than gamma_{K + 8} relative."""
    found, rows = _measured(logits, temperature), np.arange(len(labels))
    low = found.low
    low[rows, labels] = np.maximum(1 - found.high[rows, labels], 0)
    return (low**2).sum(axis=1) - 2 * gamma(logits.shape[1] + 16)

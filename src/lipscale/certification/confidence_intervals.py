"""Intervals that hold the confidence in each class, for every perturbation of l2 norm at most epsilon.

Let z be the computed logits at x, and z' the logits at x + delta: the exact ones, or the float64 ones of a perturbed image in
[0, 1]. From z to z' the logits move by at most E (rounding at x), L eps (L is `lipschitz_certified`) and E (rounding at
x + delta), in the l2 norm. Write d_j = z_c - z_j for a class c, and

    r    = L eps + 2 E                       how far all logits move, in the l2 norm
    s_j  = eps pairs[c, j] + 2 sqrt(2) E     how far d_j moves
    o(z) = z_c - log sum_{j != c} exp(z_j)   the log-odds of c: the confidence is p_c = 1 / (1 + exp(-o))

1. By pairs of classes. o = -log sum_j exp(-d_j) rises with each d_j, so -log sum_j exp(s_j - d_j) <= o(z') and
   o(z') <= -log sum_j exp(-s_j - d_j).
2. By the log-odds. The gradient of o is e_c - q, with q_j = p_j / (1 - p_c) for j != c and 0 for c; its norm is
   sqrt(1 + |q|^2) <= sqrt(1 + max_j q_j) <= sqrt(2). Among the classes j != c, the log-odds of q_j change by at most sqrt(2) r
   (the same bound on the gradient), so with Sigma = sum_{j != c} exp(z_j - max_{k != c} z_k), and all along the way,
   max_j q_j <= m = 1 / (1 + (Sigma - 1) exp(-sqrt(2) r)). Hence |o(z') - o(z)| <= r sqrt(1 + m).

The tighter of both is taken. With sqrt(2) in place of sqrt(1 + m), the second would never be tighter than the first:
s_j <= sqrt(2) r for all j gives log sum_j exp(s_j - d_j) <= sqrt(2) r - o(z).

A class can be the predicted one unless some other class stays above it: d_j + s_j < 0 for some j. An image is decided where
only one class can be.

With more than ALL_PAIRS classes this would take too long. Then only the class t with the largest logit is compared with all
others. For the others, 1. is left out, and 2. is fast: the largest of the other logits is z_t for each c, and Sigma =
sum_{j < c} exp(z_j - z_t) + sum_{j > c} exp(z_j - z_t), from cumulative sums in both directions, which subtract nothing. A
class c cannot be the predicted one where d_t + s_t < 0.

Rounding. All is float64, u = 2^-53, K classes. Assumed: numpy's exp, log and log1p are within 4 ulp, that is 8 u relative.

- z_c - z_j is off by u |d_j|. For pairs, s_j is raised by gamma_8 (s_j + |d_j|), which also covers s_j +- d_j. For the
  log-odds, it counts as a movement of z: r is raised by gamma_4 sqrt(K) max_j |d_j|.
- log sum exp(a_j) = M + log Sigma, M = max_j a_j. A term exp(a_j - M) <= 1 is off by at most 9 u: 8 u of exp, and x u exp(-x)
  <= u / e of the subtraction, x = M - a_j. Sigma >= 1 is thus off by at most 10 K u relative, also from cumulative sums; its
  logarithm by 10 K u, and 8 u log K by log. The additions that follow round by at most 3 u (|M| + K). `_slack` is more than
  that. Where M is the difference z_t - z_c, off by u |M|, gamma_4 in the raised r covers that too.
- sqrt(1 + m) is off by less than 6 K u: the product x = (Sigma - 1) exp(-sqrt(2) r) is off by x (2 sqrt(2) r + 10) u, at most
  11 K u. The factor 1 + gamma_{12 K + 32} covers that.
- 1 / (1 + exp(-o)) is off by 10 u relative. Where exp overflows, it is below 2^-1022, which is added to upper ends.
"""

import math
from dataclasses import dataclass

import numpy as np

from lipscale.certification.certificate import Certificate
from lipscale.certification.log_odds import of_class, of_many_classes
from lipscale.certification.norms import gamma, rounded_up
from lipscale.errors import LipscaleError
from lipscale.units import distance

TINY = 2.0**-1022  # the smallest normal float64
_LARGEST_LOGIT = 2.0**1000  # no difference of logits overflows
_BLOCK = 2**20  # logits at once
ALL_PAIRS = 200  # classes that are all compared with each other; Tiny ImageNet has as many


@dataclass(frozen=True)
class ConfidenceIntervals:
    """What is guaranteed of the confidences within l2 distance epsilon of each image. All arrays are (images, classes).

    Attributes:
        log_odds_low, log_odds_high: the log-odds of each class, log(p_c / (1 - p_c)), are between these.
        possible: False where the class cannot be the predicted one.
    """

    log_odds_low: np.ndarray
    log_odds_high: np.ndarray
    possible: np.ndarray

    def of(self, rows: np.ndarray) -> "ConfidenceIntervals":
        """Those of some images, by their indices."""
        return ConfidenceIntervals(self.log_odds_low[rows], self.log_odds_high[rows], self.possible[rows])

    @property
    def low(self) -> np.ndarray:
        """A lower bound on p_c, at least 0."""
        with np.errstate(over="ignore"):
            return (1 - gamma(16)) / (1 + np.exp(-self.log_odds_low))

    @property
    def high(self) -> np.ndarray:
        """An upper bound on p_c, at most 1."""
        with np.errstate(over="ignore"):
            return np.minimum((1 + gamma(16)) / (1 + np.exp(-self.log_odds_high)) + TINY, 1.0)

    @property
    def decided(self) -> np.ndarray:
        """Whether the predicted class cannot change, (images,)."""
        return self.possible.sum(axis=1) == 1


def confidence_intervals(logits: np.ndarray, promise: Certificate, epsilon: float) -> ConfidenceIntervals:
    """The intervals of all classes. Time grows with images x classes^2, with more than ALL_PAIRS classes with images x classes.

    Without a constraint (the enforced L is infinite) and epsilon > 0 nothing is certified: intervals of confidences are [0, 1].

    Args:
        logits: (images, classes), computed in float64.
        promise: the certificate of the network that gave the logits.
        epsilon: l2 budget in 1/255, 0 or more. At 0, intervals allow for rounding alone.

    Raises:
        LipscaleError: logits, certificate and epsilon are not such, or do not fit.
    """
    check_arguments(logits, promise, epsilon)
    reach, moves = _movements(promise, epsilon)
    if not (math.isfinite(reach) and np.isfinite(moves).all()):
        infinite = np.full(logits.shape, np.inf)
        return ConfidenceIntervals(-infinite, infinite, np.ones(logits.shape, dtype=bool))
    low, high, possible = np.empty(logits.shape), np.empty(logits.shape), np.empty(logits.shape, dtype=bool)
    step = max(1, _BLOCK // logits.shape[1])
    for rows in (slice(start, start + step) for start in range(0, len(logits), step)):
        if logits.shape[1] > ALL_PAIRS:
            low[rows], high[rows], possible[rows] = of_many_classes(logits[rows], moves, reach)
            continue
        for c in range(logits.shape[1]):
            others = np.delete(logits[rows], c, axis=1) - logits[rows, c : c + 1]
            low[rows, c], high[rows, c], possible[rows, c] = of_class(others, np.delete(moves[c], c), reach)
    return ConfidenceIntervals(low, high, possible)


def check_arguments(logits: np.ndarray, promise: Certificate, epsilon: float) -> None:
    """Raises LipscaleError where they are not those of `confidence_intervals`."""
    if logits.ndim != 2 or not len(logits) or logits.shape[1] < 2 or logits.dtype != np.float64:
        raise LipscaleError(
            f"the logits have shape {logits.shape}, {logits.dtype}; allowed: (images, classes), "
            "an image and two classes or more, float64"
        )
    if not (logits.min() >= -_LARGEST_LOGIT and logits.max() <= _LARGEST_LOGIT):
        raise LipscaleError("the logits hold NaN, infinity or numbers above 2^1000; allowed: finite numbers up to that")
    if promise.pairs.shape != (logits.shape[1],) * 2:
        raise LipscaleError(
            f"the certificate is for {len(promise.pairs)} classes; allowed: {logits.shape[1]}, as there are logits"
        )
    if not 0 <= epsilon < math.inf:
        raise LipscaleError(f"epsilon is {epsilon}; allowed: a finite number, 0 or more, in 1/255")


def _movements(promise: Certificate, epsilon: float) -> tuple[float, np.ndarray]:
    """r, and s_j for each c, (classes, classes); infinite where nothing is certified."""
    rounding = rounded_up(2 * promise.rounding)
    if epsilon == 0:
        return rounding, np.full(promise.pairs.shape, rounded_up(math.sqrt(2) * rounding))
    if not math.isfinite(promise.lipschitz):
        return math.inf, np.full(promise.pairs.shape, math.inf)
    length = rounded_up(distance(float(epsilon)))
    reach = rounded_up(promise.lipschitz_certified * length + rounding)
    return reach, (promise.pairs * length + math.sqrt(2) * rounding) * (1 + gamma(8))

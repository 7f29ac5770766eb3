"""How large NLL, Brier score and ECE can become under attack: proven upper bounds, from logits and a certificate.

Every image may be perturbed by an l2 norm of at most epsilon. The intervals of `confidence_intervals` hold all confidences p_k
that can result. With y the label and K the number of classes, of each image:

1. NLL: -log p_y <= log(1 + exp(-o)), o the lower end of the log-odds of y.
2. Brier score (all classes, the column `brier`): sum_k (p_k - 1[k = y])^2 = (1 - p_y)^2 + sum_{k != y} p_k^2. The other
   confidences have the sum 1 - p_y and upper ends h_k. A convex function of them is largest where the largest ends are filled
   first: sort h_k from the largest, p_k = min(h_k, what is left of 1 - p_y). That rises with 1 - p_y, so p_y is its lower end.
3. ECE: the top confidence v is at least max(1 / K, the largest lower end over all classes). If the prediction is right, v is
   p_y, at most its upper end, and y must be a possible prediction. If it is wrong, v is at most the largest upper end among the
   other possible predictions. `worst_case_ece` finds the largest ECE over these intervals. It is exact for them, and so an
   upper bound on what an attack can reach.

The bounds hold for the exact softmax of the exact logits and of their float64 evaluation at perturbed images in [0, 1].

Rounding. The additions of K terms in the Brier score, all of them at most 1, and 1 - p_y are off by less than gamma_{8 K + 32}:
what is left of 1 - p_y is off by at most 3 gamma_K + 3 u where it is not 0, which enters twice. log(1 + exp(-o)) is off by less
than gamma_24 relative, with numpy's functions within 4 ulp, and underflow by less than 2^-1022. A mean of n non-negative terms
is off by gamma_{n + 1} relative.

Randomised smoothing bounds the Brier score and, approximately, the ECE, with a probability (Emde, Pinto, Lukasiewicz, Torr and
Bibi, Towards certification of uncertainty calibration under adversarial attacks, arXiv 2405.13922).
"""

from dataclasses import dataclass

import numpy as np

from lipscale.certification.certificate import Certificate
from lipscale.certification.confidence_intervals import TINY, ConfidenceIntervals, check_arguments, confidence_intervals
from lipscale.certification.norms import UNIT, gamma
from lipscale.certification.worst_case_ece import worst_case_ece
from lipscale.evaluation.logits import check_labels
from lipscale.parts import parts


@dataclass(frozen=True)
class CertifiedCalibration:
    """Upper bounds over all perturbations of each image of l2 norm at most epsilon.

    Attributes:
        epsilon: in 1/255.
        certified_nll: of the mean negative log-likelihood of the labels, in nats; infinite without constraint.
        certified_brier: of the mean Brier score over all classes, from 0 to 2.
        worst_case_ece: of the ECE of the top label with 15 equal-width bins.
        signs: (bins,), 1 where confidence exceeds accuracy in the worst case, else -1.
    """

    epsilon: float
    certified_nll: float
    certified_brier: float
    worst_case_ece: float
    signs: np.ndarray


def certified_calibration(
    logits: np.ndarray, labels: np.ndarray, certificate: Certificate, epsilon: float
) -> CertifiedCalibration:
    """How large NLL, Brier score and ECE can become under attack; at epsilon 0, what they are, up to rounding.

    An image whose confidence is on the edge of a bin counts to the worse one, also at epsilon 0, and one with two largest
    logits that are equal up to rounding as right or wrong. Without a constraint (the enforced L is infinite) nothing is
    certified for epsilon > 0: the NLL is infinite, the Brier score 2.

    Args:
        logits: (images, classes), computed in float64, such as `Certification.logits`.
        labels: (images,), class numbers.
        certificate: of the network, such as `Certification.certificate`.
        epsilon: l2 budget in 1/255, 0 or more.

    Raises:
        LipscaleError: arguments are not such, or do not fit.
    """
    bounds = bounds_of_images(logits, labels, certificate, epsilon)
    return summary(bounds, epsilon, np.arange(len(labels)))


@dataclass(frozen=True)
class ImageBounds:
    """Bounds of each image, over all its perturbations of l2 norm at most epsilon.

    Attributes:
        kept: indices of images, sorted; None for none.
        intervals: of the confidence in each class, for the images at `kept`: those of all images may take gigabytes.
        nll: upper bounds on -log p_y, (images,).
        brier: upper bounds on the Brier score, (images,).
        low: of the top confidence, (images,).
        high_wrong, high_right: its upper ends where the prediction is wrong, or right; 0 where it cannot be so, (images,).
    """

    kept: np.ndarray | None
    intervals: ConfidenceIntervals | None
    nll: np.ndarray
    brier: np.ndarray
    low: np.ndarray
    high_wrong: np.ndarray
    high_right: np.ndarray

    def of(self, rows: np.ndarray) -> "ImageBounds":
        """Those of some images at `kept`, by their indices."""
        intervals = self.intervals.of(np.searchsorted(self.kept, rows))
        others = (self.nll, self.brier, self.low, self.high_wrong, self.high_right)
        return ImageBounds(np.arange(len(rows)), intervals, *(array[rows] for array in others))


def bounds_of_images(
    logits: np.ndarray,
    labels: np.ndarray,
    certificate: Certificate,
    epsilon: float,
    temperature: float = 1.0,
    kept: np.ndarray | None = None,
) -> ImageBounds:
    """What `certified_calibration` puts together, for logits / temperature, `certificate` being that of these quotients.

    Other arguments and errors are the same; for `kept` see `ImageBounds`.
    """
    check_arguments(logits, certificate, epsilon)
    check_labels(labels, logits)
    bounds = np.empty((5, len(labels)))  # one buffer: small arrays between those of parts fragment the heap
    for part in parts(*logits.shape):
        found, of_part = confidence_intervals(logits[part] / temperature, certificate, epsilon), labels[part]
        bounds[:, part] = _losses(found, of_part), _brier_scores(found, of_part), *_top_confidences(found, of_part)
    intervals = None if kept is None else confidence_intervals(logits[kept] / temperature, certificate, epsilon)
    return ImageBounds(kept, intervals, *bounds)


def summary(bounds: ImageBounds, epsilon: float, chosen: np.ndarray) -> CertifiedCalibration:
    """Means, and the largest ECE, over the images with the indices `chosen`, one or more."""
    worst = worst_case_ece(bounds.low[chosen], bounds.high_wrong[chosen], bounds.high_right[chosen])
    brier = min(_mean(bounds.brier[chosen]), 2.0)
    return CertifiedCalibration(epsilon, _mean(bounds.nll[chosen]), brier, worst.ece, worst.signs)


def divided(certificate: Certificate, logits: np.ndarray, temperature: float) -> Certificate:
    """The certificate of logits / temperature: all its constants divided, rounded upward.

    Dividing the float64 logits z rounds them by at most u |z| / temperature in the l2 norm, u = 2^-53, which is added to the
    rounding error. Logits of perturbed images are taken as their exact quotients.

    Args:
        logits: (images, classes), of the network, float64; the result is for these divided by the temperature.
        temperature: above 0.
    """
    kept = (1 + gamma(8)) / temperature
    longest = max(float(np.linalg.norm(logits[part], axis=1).max()) for part in parts(*logits.shape))
    longest *= 1 + gamma(logits.shape[1] + 8)
    return Certificate(
        certificate.lipschitz / temperature,
        certificate.lipschitz_certified * kept,
        certificate.pairs * kept,
        (certificate.rounding + UNIT * longest) * kept,
    )


def _losses(found: ConfidenceIntervals, labels: np.ndarray) -> np.ndarray:
    """Upper bounds on -log p_y, (images,)."""
    against = -found.log_odds_low[np.arange(len(labels)), labels]
    return (np.maximum(against, 0) + np.log1p(np.exp(-np.abs(against)))) * (1 + gamma(24)) + TINY


def _brier_scores(found: ConfidenceIntervals, labels: np.ndarray) -> np.ndarray:
    """Upper bounds on the Brier score, (images,)."""
    rows, classes = np.arange(len(labels)), found.possible.shape[1]
    missing = 1 - found.low[rows, labels]
    ends = found.high
    ends[rows, labels] = 0
    ends = -np.sort(-ends, axis=1)
    filled = np.clip(missing[:, None] - (np.cumsum(ends, axis=1) - ends), 0, ends)
    return np.minimum(missing**2 + (filled**2).sum(axis=1) + gamma(8 * classes + 32), 2.0)


def _top_confidences(found: ConfidenceIntervals, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """low, high_wrong and high_right of `ImageBounds`."""
    rows, classes = np.arange(len(labels)), found.possible.shape[1]
    low = np.maximum(found.low.max(axis=1), np.nextafter(1 / classes, 0))
    ends = np.where(found.possible, found.high, 0.0)  # 0 is below every lower end: such an outcome is impossible
    right = ends[rows, labels]
    ends[rows, labels] = 0
    return low, ends.max(axis=1), right


def _mean(values: np.ndarray) -> float:
    """An upper bound on the mean of non-negative numbers, (images,)."""
    return float(values.mean() * (1 + gamma(len(values) + 4)))

"""What a certificate claims of confidences within one epsilon: of each image, and of all together."""

from collections.abc import Iterator
from fractions import Fraction

from confidences import ONE, Confidences, Reach
from reading import Refused, number
from worst_case import largest_sum

CONFIDENCES = ("low", "high_right", "high_wrong")  # a number for each image
LOSSES = ("nll", "brier")
MEASURES = ("certified_nll", "certified_brier", "worst_case_ece")


class Calibration:
    """The claims for an epsilon.

    Attributes:
        epsilon: as the certificate has it.
        labelled: whether there are claims that need labels.
        images: for each name of CONFIDENCES, and of LOSSES if `labelled`, the claims of all images.
    """

    def __init__(self, claims: dict, count: int, squares: list[list[Fraction]], product: Fraction):
        self.epsilon, self.labelled, names = claims["epsilon"], "nll" in claims, CONFIDENCES
        if self.labelled:
            names += LOSSES
        if claims.keys() != {"epsilon", *names, *(MEASURES if self.labelled else ())}:
            raise Refused(f"the calibration at {self.epsilon} has the keys {', '.join(claims)}, of which not all is proven")
        distance = number(self.epsilon, "an epsilon of the calibration")
        if distance < 0:
            raise Refused(f"an epsilon of the calibration is {self.epsilon}, which is negative")
        self.reach = Reach(distance, squares, product)
        self.images = {name: [self._number(value, f"{name} of an image") for value in claims[name]] for name in names}
        self.measures = {name: self._number(claims[name], name) for name in MEASURES if self.labelled}
        if any(len(column) != count for column in self.images.values()):
            raise Refused(f"the calibration at {self.epsilon} is for another number of images than the certificate")

    def _number(self, value: object, what: str) -> Fraction:
        return number(value, f"the claim {what} at {self.epsilon}")

    def check_image(self, index: int, label: int, logits: list[int], denominator: int) -> None:
        """Lemma 12, for logits / denominator of an image."""
        claims = {name: column[index] for name, column in self.images.items()}
        for name, proven in self._proofs(Confidences(logits, denominator, self.reach), label, len(logits), claims):
            if not proven:
                raise Refused(f"the claim {name} = {float(claims[name])} of image {index} at {self.epsilon} is not proven")

    def _proofs(self, found: Confidences, label: int, classes: int, claims: dict[str, Fraction]) -> Iterator[tuple[str, bool]]:
        others = [c for c in range(classes) if c != label]
        likely = sorted(range(classes), key=found.logits.__getitem__, reverse=True)
        low = claims["low"]
        yield "low", low >= 0 and (low * classes <= 1 or any(low * ONE <= found.low(c) for c in likely))
        for name, outcomes in (("high_right", [label]), ("high_wrong", others)):
            high = claims[name]
            yield name, 0 <= high <= 1 and all(found.high(c) <= high * ONE for c in outcomes if found.possible(c))
        if self.labelled:
            yield "nll", found.loss_is_at_most(label, claims["nll"])
            yield "brier", brier_score(found.low(label), [found.high(c) for c in others]) <= claims["brier"] * ONE**2

    def check_all(self) -> None:
        """Means and ECE of all images, each of whose claims is proven."""
        if not self.labelled:
            return
        count = len(self.images["nll"])
        sums = (sum(self.images["nll"]), sum(self.images["brier"]), largest_sum(*(self.images[name] for name in CONFIDENCES)))
        for (name, claim), total in zip(self.measures.items(), sums, strict=True):
            if claim * count < total:
                raise Refused(f"{name} at {self.epsilon} is {float(claim)}; proven is no less than {float(total / count)}")


def brier_score(low: int, highs: list[int]) -> int:
    """Lemma 12: above ONE^2 times the Brier score, for a label of at least the confidence `low`, others of at most `highs`."""
    missing = ONE - low
    score = missing**2
    for high in sorted(highs, reverse=True):
        filled = min(high, missing)
        score, missing = score + filled**2, missing - filled
    return score

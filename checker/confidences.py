"""The confidences that a perturbation of an image can lead to. The lemmas are in docs/checker.md.

Confidences, logits and how far they move are whole numbers over 2^BITS.
"""

import math
from collections.abc import Iterator
from fractions import Fraction

from exponentials import exponential, root_above

BITS = 128
ONE = 1 << BITS
LEVELS = 255  # an epsilon counts in 1/255 of the pixel range


class Reach:
    """How far logits move within an l2 distance of epsilon / 255, rounded upward.

    Attributes:
        pairs: of two classes, how far the difference of their logits moves.
        whole: how far all logits move, in the l2 norm.
        shrunk: below e^-(sqrt(2) whole).
    """

    def __init__(self, epsilon: Fraction, squares: list[list[Fraction]], product: Fraction):
        """`squares` are those of the Lipschitz constants of differences of logits; `product` is that of all logits."""
        distance = epsilon / LEVELS
        # `Confidences` rounds logits down, by less than a unit each: as if they had moved
        self.pairs = [[root_above(square * distance**2, BITS) + 1 for square in row] for row in squares]
        self.whole = math.ceil(product * distance * ONE) + len(squares)
        self.shrunk = exponential(-root_above(Fraction(2 * self.whole**2, ONE**2), BITS), BITS)[0]


class Confidences:
    """Of an image with the exact logits values / denominator, within a reach."""

    def __init__(self, values: list[int], denominator: int, reach: Reach):
        self.logits, self.reach = [value * ONE // denominator for value in values], reach

    def possible(self, c: int) -> bool:
        """Whether class c can have the largest logit, also together with others."""
        return all(z - self.logits[c] <= move for z, move in zip(self.logits, self.reach.pairs[c], strict=True))

    def low(self, c: int) -> int:
        """Below the confidence in class c."""
        totals = [sum(high) for exponents in self.exponents(c, 1) if None not in (high := self._exponentials(exponents, 1))]
        return ONE**2 // (ONE + min(totals)) if totals else 0

    def high(self, c: int) -> int:
        """Above the confidence in class c."""
        total = max(sum(self._exponentials(exponents, 0)) for exponents in self.exponents(c, -1))
        return -(-(ONE**2) // (ONE + total))

    def loss_is_at_most(self, label: int, claim: Fraction) -> bool:
        """Whether log(1 + sum of e^t) <= claim for one of the two lists of exponents: e^-claim + sum of e^(t - claim) <= 1."""
        if claim <= 0:
            return False
        bits = BITS + (claim.denominator // claim.numerator).bit_length()
        shift, loss = bits - BITS, math.floor(claim * 2**bits)
        for exponents in self.exponents(label, 1):
            terms = [exponential((t << shift) - loss, bits)[1] for t in (0, *exponents)]
            if None not in terms and sum(terms) <= 1 << bits:
                return True
        return False

    def exponents(self, c: int, sign: int) -> Iterator[list[int]]:
        """Lemmas 10 and 11: two lists of t. For each, (1 - p_c) / p_c is at most the sum of e^t; at least, for the sign -1."""
        others = [z - self.logits[c] for j, z in enumerate(self.logits) if j != c]
        moves = [move for j, move in enumerate(self.reach.pairs[c]) if j != c]
        yield [z + sign * move for z, move in zip(others, moves, strict=True)]
        growth = self._growth(others)
        yield [z + sign * growth for z in others]

    def _growth(self, others: list[int]) -> int:
        """Lemma 11: how far log-odds move whose other classes have these logits."""
        rivals = sum(exponential(z - max(others), BITS)[0] for z in others) - ONE
        share = ONE**2 // (ONE + (rivals * self.reach.shrunk >> BITS)) + 1
        return (self.reach.whole * root_above(1 + Fraction(share, ONE), BITS) >> BITS) + 1

    @staticmethod
    def _exponentials(exponents: list[int], side: int) -> list[int | None]:
        return [exponential(t, BITS)[side] for t in exponents]

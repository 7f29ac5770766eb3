"""What floating-point arithmetic does to sums of products, for float64 and for plain float32.

Each operation on numbers a and b is assumed to give (a' o b') (1 + d) + e with |d| <= u and |e| <= t, t the smallest normal
number, where a' is a, or 0 if |a| < t; so it may keep numbers below t, round them, or take them for 0, when they are read and
when they are written. A sum of n products may be taken in any order, with or without fused operations. Not covered is what is
no sum of products of the numbers themselves: TF32, bfloat16 and the like, transforms (Winograd, FFT), Strassen's algorithm.

With n u <= 1/2, what is lost below t in one output of n products and n additions is then at most

    3 t (4 n + sum |w_j| + sum |h_j|):

per product t and t (|w| + |h|), per addition 3 t, each times the at most n factors 1 + d behind it, (1 + u)^(2 n) <= 3. Over m
outputs that is at most 3 t sqrt(m) (4 n + sqrt(n) ||W||_F + sqrt(n) ||h||) in the l2 norm, since a row of W has at most the
norm ||W||_F, and a window of h at most the norm ||h||.

Overflow. If the four numbers of `bounds.Bounds` are at most B after each layer, also in branches, and images no longer than N,
then a hidden vector within k branches is no longer than (2 B)^(k + 1) (N + 1), and no partial sum of a layer is above 2 / u
times B times that, since `relative` is at least u ||W||_F. With B = 2^16, N = 2^12, k = 4 and u = 2^-24 that is below 2^123.
"""

import math
from dataclasses import dataclass

UNIT = 2.0**-53  # u, the unit roundoff of float64


@dataclass(frozen=True)
class Arithmetic:
    """A floating-point format.

    Attributes:
        unit: u, half the distance of 1 from the next number.
        smallest: t, the smallest normal number.
        largest: B, of the four numbers after any layer: then nothing overflows.
        longest: N, of images in the l2 norm.
    """

    unit: float
    smallest: float
    largest: float
    longest: float

    def gamma(self, n: int) -> float:
        """gamma_n = n u / (1 - n u), rounded up: the relative error of n operations is at most this. Infinite for n u > 1/2."""
        share = n * self.unit
        return share / (1 - share) * (1 + 4 * UNIT) if share <= 0.5 else math.inf

    def lost(self, length: int, outputs: int, norm: float) -> tuple[float, float]:
        """What is lost below t in `outputs` inner products of a length with weights of a Frobenius norm: at most the first
        number times the norm of the input, plus the second."""
        unit = 3 * self.smallest * math.sqrt(outputs) * (1 + 8 * UNIT)
        return unit * math.sqrt(length), unit * (4 * length + math.sqrt(length) * norm)


FLOAT64 = Arithmetic(UNIT, 2.0**-1022, 2.0**128, 2.0**128)
FLOAT32 = Arithmetic(2.0**-24, 2.0**-126, 2.0**16, 2.0**12)

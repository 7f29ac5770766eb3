"""The proof that a layer's Lipschitz constant is at most what is claimed. The lemmas are those of docs/checker.md."""

import math
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations, product
from operator import mul

from layers import Layer
from reading import Refused, number

BITS = 128  # of the numbers that elimination starts from: rounding costs 2^-128 of the square, times the size squared
ROOT_BITS = 80  # behind the point of roots of unity
ROOT_ERROR = Fraction(1, 2**64)  # which is proven of them
LARGEST_MATRIX = 2**20  # entries of a convolution's matrix


def constants(network: list[Layer], claims: list[dict]) -> Fraction:
    """The product of the claimed constants of layers behind one another, each of them proven."""
    if len(network) != len(claims):
        raise Refused(f"the certificate has {len(claims)} layers where the model has {len(network)}")
    return math.prod((_constant(layer, claim) for layer, claim in zip(network, claims, strict=True)), start=Fraction(1))


def _constant(layer: Layer, claim: dict) -> Fraction:
    name = f"layer {layer.where} ({layer.kind})"
    if claim["layer"] != layer.kind or tuple(claim["output_shape"]) != layer.output:
        raise Refused(f"{name} has outputs of shape {list(layer.output)}, unlike {claim['layer']} {claim['output_shape']}")
    constant = number(claim["lipschitz"], f"the constant of {name}")
    if constant < 0:
        raise Refused(f"the constant of {name} is negative")
    if layer.kind == "dense":
        proven = _norm_is_at_most(layer.rows, (constant * layer.weight.denominator) ** 2)
    elif layer.kind == "sll":  # its W has a norm of at most the root of (constant + 1) / 2
        proven = constant >= 1 and _norm_is_at_most(layer.rows, (constant + 1) / 2 * layer.weight.denominator**2)
    elif layer.kind == "sll_conv":
        proven = constant >= 1 and _convolution(layer, _root((constant + 1) / 2))
    elif layer.kind == "conv":
        proven = _convolution(layer, constant)
    elif layer.kind == "scale":
        proven = constant >= abs(layer.scale)
    elif layer.kind == "average_pool":
        proven = constant * layer.taps[0] >= 1
    elif layer.kind == "residual":
        proven = constant >= 1 + constants(layer.branch, claim["branch"])
    else:
        proven = constant >= 1
    if not proven:
        raise Refused(f"the constant {claim['lipschitz']} of {name} is not proven")
    return constant


def _root(square: Fraction) -> Fraction:
    """At most the square root, and that of 1 exactly."""
    return Fraction(math.isqrt(math.floor(square * 4**BITS)), 2**BITS)


def _norm_is_at_most(matrix: list[list[int]], square: Fraction) -> bool:
    """Lemma 3: whether square I - A A^T has no negative eigenvalue, A the matrix or its transpose."""
    if len(matrix) > len(matrix[0]):
        matrix = [*zip(*matrix, strict=True)]
    shift = BITS - int(square).bit_length()
    above, below = max(shift, 0), max(-shift, 0)
    rows = [[(-sum(map(mul, row, other)) << above) >> below for other in matrix[i:]] for i, row in enumerate(matrix)]
    for row in rows:
        row[0] += math.floor(square * 2**above / 2**below) - (len(rows) if below else 0)
    return _semidefinite(rows)


def _semidefinite(rows: list[list[int]]) -> bool:
    """Lemma 2, by elimination; rows[i] holds the entries i, i + 1, ... of row i of a symmetric matrix."""
    while rows:
        (pivot, *rest), rows = rows[0], rows[1:]
        if pivot < 0 or (pivot == 0 and any(rest)):
            return False
        if any(rest):
            rows = [[a - rest[i] * b // pivot for a, b in zip(row, rest[i:], strict=True)] for i, row in enumerate(rows)]
            for row in rows:
                row[0] -= len(rows)
    return True


def _convolution(layer: Layer, constant: Fraction) -> bool:
    """Lemmas 4 to 6; where the layer is a part only of what is on the torus and its matrix is small, Lemma 3 for that."""
    sides = [*zip(layer.shape[1:], layer.taps, layer.stride, layer.padding, layer.sides, strict=True)]
    whole = layer.mode == "circular" and all(o * s == n for n, _, s, _, o in sides)
    if not whole and math.prod(layer.shape) * math.prod(layer.output) <= LARGEST_MATRIX:
        inputs = range(math.prod(layer.shape))
        columns = [layer.linear([int(i == j) for j in inputs]) for i in inputs]
        return _norm_is_at_most(columns, (constant * layer.weight.denominator) ** 2)
    if layer.mode == "circular" and any(n % s or o * s > n for n, _, s, _, o in sides):
        raise Refused(f"layer {layer.where} (conv) has a stride that does not divide its input, or repeats outputs")
    torus = [n // s if layer.mode == "circular" else -(-max(n + p, k, s * o) // s) for n, k, s, p, o in sides]
    kernel = _unit_stride(layer)
    error = sum(
        (2 * sum(tap) + 1) * ROOT_ERROR * sum(abs(value) for row in rows for value in row) for tap, rows in kernel.items()
    )
    allowed = constant * layer.weight.denominator - error
    square = (allowed * 2**ROOT_BITS) ** 2
    return allowed >= 0 and all(_norm_is_at_most(matrix, square) for matrix in _frequencies(kernel, torus))


def _unit_stride(layer: Layer) -> dict[tuple[int, int], list[list[int]]]:
    """Lemma 4: the kernel of stride 1 on blocks of stride x stride pixels, a matrix (out, in * block) for each tap."""
    (outputs, inputs, *taps), (down, across) = layer.weight.shape, layer.stride
    kernel = defaultdict(lambda: [[0] * (inputs * down * across) for _ in range(outputs)])
    indices = product(range(outputs), range(inputs), *map(range, taps))
    for (o, i, y, x), value in zip(indices, layer.weight.values, strict=True):
        # instead of -p, -p % s: this shifts the image by whole blocks, and no tap is negative
        places = zip((y, x), layer.padding, layer.stride, strict=True)
        (block_y, row), (block_x, column) = (divmod(t + -p % s, s) for t, p, s in places)
        kernel[block_y, block_x][o][(i * down + row) * across + column] = value
    return kernel


def _frequencies(kernel: dict, torus: list[int]) -> Iterator[list[list[int]]]:
    """Lemma 5: for each frequency, up to conjugates, the real form of 2^ROOT_BITS sum_tap K_tap z^tap_y w^tap_x."""
    vertical, horizontal = map(roots_of_unity, torus)
    for z, w in product(vertical[: torus[0] // 2 + 1], horizontal):
        real, imaginary = [], []
        powers = [(_power(z, w, *tap), rows) for tap, rows in kernel.items()]
        for lines in zip(*(rows for _, rows in powers), strict=True):
            for part, target in ((0, real), (1, imaginary)):
                factors = [power[part] for power, _ in powers]
                target.append([sum(map(mul, factors, values)) for values in zip(*lines, strict=True)])
        top = [[*r, *(-value for value in i)] for r, i in zip(real, imaginary, strict=True)]
        yield top + [[*i, *r] for r, i in zip(real, imaginary, strict=True)]


def _times(z: tuple[int, int], w: tuple[int, int], shift: int) -> tuple[int, int]:
    return (z[0] * w[0] - z[1] * w[1]) >> shift, (z[0] * w[1] + z[1] * w[0]) >> shift


def _power(z: tuple[int, int], w: tuple[int, int], first: int, second: int) -> tuple[int, int]:
    """2^ROOT_BITS times z^first w^second, both parts rounded once."""
    result = (1, 0)
    for factor in (z,) * first + (w,) * second:
        result = _times(result, factor, 0)
    excess = ROOT_BITS * (first + second - 1)
    return (result[0] >> excess, result[1] >> excess) if excess >= 0 else (1 << ROOT_BITS, 0)


def roots_of_unity(n: int) -> list[tuple[int, int]]:
    """Lemma 6: 2^ROOT_BITS times all n-th roots of 1, each off by at most 2^ROOT_BITS ROOT_ERROR; root n - k conjugate to k.

    Floating point gives a first guess, which decides nothing, and z - z (z^n - 1) / n (Newton's method) a better one.
    """
    one, found = 1 << ROOT_BITS, []
    for k in range(n // 2 + 1):
        z = tuple(round(f(2 * math.pi * k / n) * 2**60) << (ROOT_BITS - 60) for f in (math.cos, math.sin))
        for _ in range(2):
            power = (one, 0)
            for _ in range(n):
                power = _times(power, z, ROOT_BITS)
            step = _times(z, (power[0] - one, power[1]), ROOT_BITS)
            z = (z[0] - step[0] // n, z[1] - step[1] // n)
        if k in (0, n / 2):
            z = (z[0], 0)
        power = (1, 0)
        for _ in range(n):
            power = _times(power, z, 0)
        distance = (power[0] - one**n) ** 2 + power[1] ** 2  # of z^n from 1, squared, times one^(2 n)
        if distance > (ROOT_ERROR * one) ** 2 * (z[0] ** 2 + z[1] ** 2) ** (n - 1):
            raise Refused(f"the roots of unity of order {n} are not proven")
        found.append(z)
    found += [(x, -y) for x, y in reversed(found[1 : (n + 1) // 2])]
    if any((a - c) ** 2 + (b - d) ** 2 <= (2 * ROOT_ERROR * one) ** 2 for (a, b), (c, d) in combinations(found, 2)):
        raise Refused(f"two roots of unity of order {n} are not told apart")
    return found

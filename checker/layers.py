"""What each kind of layer computes, in whole numbers: the shape of its output, and the output itself without rounding."""

import math
from itertools import product
from operator import itemgetter, mul

from reading import Array, Refused, number

KEYS = {  # of the entry of a layer in the model file, by kind: those without which it is refused, and their defaults
    "centre": {"channels": None},
    "dense": {"in_features": None, "out_features": None, "bias": True},
    "conv": {
        "in_channels": None, "out_channels": None, "kernel_size": None, "stride": 1, "padding": 0,
        "padding_mode": "circular", "bias": True,
    },
    "scale": {"scale": None},
    "maxmin": {}, "groupsort2": {}, "relu": {}, "flatten": {},
    "average_pool": {"kernel_size": None}, "max_pool": {"kernel_size": None},
    "residual": {"branch": None},
    "sll": {"features": None, "bias": True},
    "sll_conv": {"channels": None, "kernel_size": None, "bias": True},
}  # fmt: skip


class Layer:
    """A layer, the shape of its input and of its output, and its numbers.

    Attributes:
        kind: a key of KEYS.
        where: its position, such as 3, or 3.0 in the branch of layer 3.
        shape: of its input, without the batch.
        output: of its output.
        weight, bias: arrays; bias is None where there is none.
        rows: the weights' whole numbers, a list for each output channel.
        branch: the layers of a residual.
    """

    def __init__(self, entry: dict, where: str, shape: tuple[int, ...], tensors: dict[str, Array], prefix: str):
        self.kind, self.where, self.shape, self.output = entry.get("layer"), where, shape, shape
        if self.kind not in KEYS or not entry.keys() - {"layer"} <= KEYS[self.kind].keys():
            raise Refused(f"layer {where} is {entry}, of which nothing is proven")
        settings = {**KEYS[self.kind], **entry}
        self.weight = self.bias = None
        if self.kind == "centre":
            self.bias = self._tensor(tensors, f"{prefix}mean", (settings["channels"], 1, 1))
            self._require(len(shape) == 3 and shape[0] == settings["channels"])
        elif self.kind == "dense":
            self.output = (settings["out_features"],)
            self._require(shape == (settings["in_features"],))
            self.weight = self._tensor(tensors, f"{prefix}weight", (*self.output, *shape))
        elif self.kind == "sll":
            self._require(shape == (settings["features"],))
            self.weight = self._tensor(tensors, f"{prefix}weight", (*shape, *shape))
        elif self.kind == "conv":
            self._convolve(settings, tensors, prefix)
        elif self.kind == "sll_conv":
            channels, side = settings["channels"], settings["kernel_size"]
            self._require(isinstance(side, int) and side % 2 == 1)
            same = {"stride": 1, "padding": side // 2, "padding_mode": "circular"}
            self._convolve(settings | same | {"in_channels": channels, "out_channels": channels}, tensors, prefix)
        elif self.kind == "scale":
            self.scale = number(settings["scale"], f"the scale of layer {where}")
        elif self.kind == "flatten":
            self.output = (math.prod(shape),)
        elif self.kind in ("maxmin", "groupsort2"):
            self._require(shape[0] % 2 == 0)
        elif self.kind in ("average_pool", "max_pool"):
            self._require(len(shape) == 3)
            self._window((settings["kernel_size"],) * 2, (settings["kernel_size"],) * 2, (0, 0), "zeros", channels=1)
            self.output = (shape[0], *self.sides)
        elif self.kind == "residual":
            self.branch = layers(settings["branch"], shape, tensors, f"{where}.", f"{prefix}branch.")
            self._require(not self.branch or self.branch[-1].output == shape)
        if self.weight and settings["bias"]:
            self.bias = self._tensor(tensors, f"{prefix}bias", self.output[:1])
        if self.weight:
            length = math.prod(self.weight.shape[1:])
            self.rows = [self.weight.values[i : i + length] for i in range(0, len(self.weight.values), length)]

    def _require(self, fits: bool) -> None:
        if not fits:
            raise Refused(f"layer {self.where} ({self.kind}) does not fit an input of shape {list(self.shape)}")

    def _tensor(self, tensors: dict[str, Array], name: str, shape: tuple[int, ...]) -> Array:
        if name not in tensors or tensors[name].shape != shape:
            raise Refused(f"the model has no tensor {name} of shape {list(shape)}")
        return tensors.pop(name)

    def _convolve(self, settings: dict, tensors: dict[str, Array], prefix: str) -> None:
        pairs = [settings[name] for name in ("kernel_size", "stride", "padding")]
        taps, self.stride, self.padding = (tuple(p) if isinstance(p, list) else (p, p) for p in pairs)
        self.mode = settings["padding_mode"]
        self._require(len(self.shape) == 3 and self.shape[0] == settings["in_channels"] and self.mode in ("zeros", "circular"))
        self._window(taps, self.stride, self.padding, self.mode, self.shape[0])
        self.output = (settings["out_channels"], *self.sides)
        self.weight = self._tensor(tensors, f"{prefix}weight", (self.output[0], self.shape[0], *taps))

    def _window(self, taps: tuple, stride: tuple, padding: tuple, mode: str, channels: int) -> None:
        """The sides of the output, and for each of its pixels what picks the inputs below the kernel: channel, row, column.

        The position behind the last input stands for a zero.
        """
        self.taps, (height, width) = taps, self.shape[1:]
        self._require(all(isinstance(n, int) for n in (*taps, *stride, *padding)) and min(*taps, *stride, *padding, 0) == 0)
        self._require(min(*taps, *stride) > 0)
        self._require(mode == "zeros" or all(pad <= n for pad, n in zip(padding, self.shape[1:], strict=True)))
        self.sides = tuple((n + 2 * p - k) // s + 1 for n, p, k, s in zip(self.shape[1:], padding, taps, stride, strict=True))
        self._require(min(self.sides) > 0)
        self.pick = []
        for down, across in product(*map(range, self.sides)):
            places = []
            for channel, y, x in product(range(channels), range(taps[0]), range(taps[1])):
                row, column = down * stride[0] + y - padding[0], across * stride[1] + x - padding[1]
                if mode == "circular":
                    row, column = row % height, column % width
                inside = 0 <= row < height and 0 <= column < width
                places.append((channel * height + row) * width + column if inside else channels * height * width)
            self.pick.append(itemgetter(*places) if len(places) > 1 else lambda values, place=places[0]: (values[place],))

    def patches(self, values: list[int]) -> list[tuple[int, ...]]:
        values = [*values, 0]
        return [pick(values) for pick in self.pick]

    def linear(self, values: list[int], rows: list | None = None) -> list[int]:
        """Of a dense layer or a convolution, the products with the weights' whole numbers, or with other rows of numbers."""
        inputs = [values] if self.kind in ("dense", "sll") else self.patches(values)
        return [sum(map(mul, row, patch)) for row in rows or self.rows for patch in inputs]

    def transposed(self) -> list[tuple[int, ...]]:
        """The rows of the transpose of a block's matrix; of a convolution, see Lemma 7, those of its kernel."""
        if self.kind == "sll":
            return [*zip(*self.rows, strict=True)]
        taps, length = math.prod(self.taps), len(self.rows[0])
        return [tuple(value for row in self.rows for value in reversed(row[i : i + taps])) for i in range(0, length, taps)]

    def __call__(self, values: list[int], denominator: int) -> tuple[list[int], int]:
        """The output for the input values / denominator, in the same form."""
        if self.kind in ("sll", "sll_conv"):
            return self._block(values, denominator)
        if self.weight:
            values, denominator = self.linear(values), denominator * self.weight.denominator
        elif self.kind == "scale":
            values, denominator = [v * self.scale.numerator for v in values], denominator * self.scale.denominator
        elif self.kind == "maxmin":  # channel i with channel i + channels / 2
            first, second = values[: len(values) // 2], values[len(values) // 2 :]
            values = [*map(max, first, second), *map(min, first, second)]
        elif self.kind == "groupsort2":  # channel 2i with channel 2i + 1
            pixels, pairs = len(values) // self.shape[0], range(0, len(values), 2 * len(values) // self.shape[0])
            both = [(values[i : i + pixels], values[i + pixels : i + 2 * pixels]) for i in pairs]
            values = [v for one, other in both for v in (*map(min, one, other), *map(max, one, other))]
        elif self.kind == "relu":
            values = [max(v, 0) for v in values]
        elif self.kind in ("average_pool", "max_pool"):
            pixels = math.prod(self.shape[1:])
            patches = [p for i in range(0, len(values), pixels) for p in self.patches(values[i : i + pixels])]
            values = [max(p) if self.kind == "max_pool" else sum(p) for p in patches]
            denominator *= 1 if self.kind == "max_pool" else len(patches[0])
        elif self.kind == "residual":
            inner, below = run(self.branch, values, denominator)
            values, denominator = [v * (below // denominator) + w for v, w in zip(values, inner, strict=True)], below
        return self._shifted(values, denominator) if self.bias else (values, denominator)

    def _block(self, values: list[int], denominator: int) -> tuple[list[int], int]:
        """h - 2 W^T ReLU(W h + b)."""
        inner, below = self.linear(values), denominator * self.weight.denominator
        inner, below = self._shifted(inner, below) if self.bias else (inner, below)
        hidden, scale = [max(v, 0) for v in inner], below * self.weight.denominator // denominator
        back = [2 * value for value in self.linear(hidden, self.transposed())]
        return [v * scale - w for v, w in zip(values, back, strict=True)], denominator * scale

    def _shifted(self, values: list[int], denominator: int) -> tuple[list[int], int]:
        """Plus the bias of each channel; that of a centre is subtracted."""
        common = math.lcm(denominator, self.bias.denominator)
        sign = -1 if self.kind == "centre" else 1
        shifts = [sign * shift * (common // self.bias.denominator) for shift in self.bias.values]
        pixels, factor = len(values) // len(shifts), common // denominator
        return [v * factor + shifts[i // pixels] for i, v in enumerate(values)], common


def layers(specification: list, shape: tuple[int, ...], tensors: dict[str, Array], where: str = "", prefix: str = "") -> list:
    """The layers of a model file, for inputs of a shape. Takes their numbers out of `tensors`."""
    found = []
    for position, entry in enumerate(specification):
        found.append(Layer(entry, f"{where}{position}", shape, tensors, f"{prefix}{position}."))
        shape = found[-1].output
    return found


def run(network: list, values: list[int], denominator: int) -> tuple[list[int], int]:
    """Layers behind one another: whole numbers over a common denominator, a multiple of the one that came in."""
    for layer in network:
        values, denominator = layer(values, denominator)
    return values, denominator

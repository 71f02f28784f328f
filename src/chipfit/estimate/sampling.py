"""Which subgraphs to measure, so that whatever a network can reach lies between measured points.

Shapes are drawn by Latin hypercubes in logarithmic scale, from mixtures of what networks hold: stems, bodies and heads,
multiples of 8 and 16 and the odd numbers beside them, full, grouped and depthwise, square and not. Every workload comes
from an operator through `graph.workload.describe`, so its sizes, MACs and elements always belong together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import gcd, prod

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.graph.build import sides
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    GlobalPool,
    LayerNorm,
    Linear,
    MatMul,
    Op,
    Pad,
    Pool2d,
    Resize,
    Slice,
    Softmax,
    Transpose,
)
from chipfit.graph.subgraphs import FOLDED
from chipfit.measure.specimen import Largest, Specimen

_COORDINATES = 26
_KERNELS = ((1, 0.36), (3, 0.36), (5, 0.1), (7, 0.07), (2, 0.03), (4, 0.03), (9, 0.02), (11, 0.02), (6, 0.01))
_STRIDES = ((1, 0.64), (2, 0.29), (3, 0.03), (4, 0.04))

Sizes = tuple[int, ...]
Pair = tuple[int, int]
Drawn = tuple[Op, list[Sizes], int]
"""An operator, the shapes of its inputs, and the elements of its constant operands."""


class _Point:
    """One point of the hypercube, coordinates handed out in turn."""

    __slots__ = ("_left", "largest")

    def __init__(self, coordinates: NDArray[np.float64], largest: Largest) -> None:
        self._left = iter(coordinates.tolist())
        self.largest = largest

    def unit(self) -> float:
        return next(self._left)

    def log(self, low: int, high: int) -> int:
        """An integer between `low` and `high`, even in logarithmic scale."""
        if high <= low:
            self.unit()
            return low
        return min(int(low * ((high + 1) / low) ** self.unit()), high)

    def pick(self, options: Sequence[tuple[int, float]]) -> int:
        """One of the options by its weight."""
        place = self.unit() * sum(weight for _, weight in options)
        for option, weight in options:
            place -= weight
            if place < 0:
                return option
        return options[-1][0]

    def channels(self, high: int, low: int = 1) -> int:
        """Channels up to `high`: half of them aligned to 8 or 16, some one off, the rest as they fall."""
        count = self.log(low, max(high, low))
        style = self.unit()
        step = 16 if style < 0.3 else 8
        if style < 0.68 and count >= step:
            count = round(count / step) * step
            count += 0 if style < 0.5 else (1 if style < 0.6 else -1)
        return min(max(count, low), max(high, low))

    def plane(self, largest: int = 512) -> tuple[int, int]:
        """Height and width, mostly square."""
        height = self.log(1, largest)
        ratio = self.unit()
        width = height if ratio < 0.7 else max(1, min(largest, round(height * 4 ** (2 * (ratio - 0.7) / 0.3 - 1))))
        return height, width

    def tensor(self, low: int = 1) -> Sizes:
        """A feature map of at most the largest size: half of them as networks have them, wide where small."""
        height, width = self.plane()
        room = self.largest.tensor // (height * width)
        typical = self.unit() < 0.5
        usual = min(room, max(24, 12000 // max(height, width)))
        return 1, self.channels(min(4096, usual if typical else room), low), height, width

    def rows(self) -> Sizes:
        """A sequence or a vector of features."""
        rows = self.log(1, 1024) if self.unit() < 0.6 else 1
        return (1, rows, self.channels(4096)) if rows > 1 else (1, self.channels(25088))

    def kernel(self) -> tuple[int, int]:
        size = self.pick(_KERNELS)
        other = self.unit()
        if other < 0.92:
            return size, size
        return ((1, size), (size, 1), (size, 3))[int((other - 0.92) / 0.08 * 3)]


def _window(point: _Point, height: int, width: int) -> tuple[Pair, Pair, Pair, Pair, Pair]:
    """Kernel, stride, dilation, and padding before and after along both axes; the window always fits."""
    kernel = point.kernel()
    stride = point.pick(_STRIDES)
    strides = (stride, stride) if point.unit() < 0.95 else (stride, 1)
    dilation = point.pick(((1, 0.91), (2, 0.05), (4, 0.015), (6, 0.01), (12, 0.01), (18, 0.005)))
    style = point.unit()
    if style > 0.97:
        patch = 2 ** (1 + int((style - 0.97) / 0.03 * 4))
        kernel, strides, dilation = (patch, patch), (patch, patch), 1
    reach = [dilation * (size - 1) for size in kernel]
    padded = style > 0.1 or reach[0] >= height or reach[1] >= width
    pads = [total if padded else 0 for total in reach]
    before = (pads[0] // 2, pads[1] // 2)
    return kernel, strides, (dilation, dilation), before, (pads[0] - before[0], pads[1] - before[1])


def _conv(point: _Point) -> Drawn:
    style = point.unit()
    if style < 0.1:
        height, width = point.plane()
        shape = (1, point.pick(((1, 0.3), (3, 0.6), (2, 0.05), (4, 0.05))), height, width)
    elif style < 0.2:
        shape = (1, point.channels(4096), 1, 1)
        point.unit()
    else:
        shape = point.tensor()
    kernel, stride, dilation, before, after = _window(point, shape[2], shape[3])
    if style < 0.2 and shape[2] == shape[3] == 1:
        kernel, stride, dilation, before, after = (1, 1), (1, 1), (1, 1), (0, 0), (0, 0)
    room = point.largest.tensor * stride[0] * stride[1] // (shape[2] * shape[3])
    out = point.channels(max(1, min(4096, room, point.largest.weights // (shape[1] * prod(kernel)))))
    groups = 1
    if point.unit() < 0.12:
        groups = gcd(gcd(shape[1], out), 2 ** int(point.unit() * 6) * (1 if point.unit() < 0.7 else 3))
    groups = 1 if groups == shape[1] else groups
    return Conv2d(out, kernel, stride, (*before, *after), dilation, groups, point.unit() < 0.9), [shape], 0


def _depthwise(point: _Point) -> Drawn:
    shape = point.tensor(low=2)
    kernel, stride, dilation, before, after = _window(point, shape[2], shape[3])
    if kernel == (1, 1) and point.unit() < 0.85:
        kernel, before, after = (3, 3), (dilation[0], dilation[0]), (dilation[0], dilation[0])
    multiplier = point.pick(((1, 0.95), (2, 0.05)))
    bias = point.unit() < 0.9
    return Conv2d(shape[1] * multiplier, kernel, stride, (*before, *after), dilation, shape[1], bias), [shape], 0


def _transposed_conv(point: _Point) -> Drawn:
    shape = point.tensor()
    kernel = point.pick(((2, 0.33), (3, 0.25), (4, 0.3), (1, 0.02), (5, 0.03), (8, 0.04), (16, 0.03)))
    stride = min(point.pick(((2, 0.73), (1, 0.12), (4, 0.07), (3, 0.04), (8, 0.04))), kernel)
    room = point.largest.tensor // (shape[2] * shape[3] * stride * stride)
    separate = point.unit() < 0.1
    room = min(4096, room, point.largest.weights // (shape[1] * kernel * kernel))
    out = shape[1] if separate else point.channels(max(1, room))
    cut = (kernel - stride) // 2 if min(shape[2:]) > kernel else 0
    groups = shape[1] if separate else 1
    op = ConvTranspose2d(out, (kernel, kernel), (stride, stride), sides(cut), groups=groups, bias=point.unit() < 0.9)
    return op, [shape], 0


def _linear(point: _Point) -> Drawn:
    shape = point.rows()
    out = point.channels(max(1, min(4096, point.largest.weights // shape[-1])))
    if point.unit() < 0.1:
        out = 1000 if point.unit() < 0.5 else 1001
    return Linear(out, point.unit() < 0.9), [shape], 0


def _matmul(point: _Point) -> Drawn:
    heads, rows, inner, columns = point.log(1, 16), point.log(1, 2048), point.channels(2048), point.channels(2048)
    lead = (1, heads) if point.unit() < 0.7 else (1,)
    constant = point.unit() < 0.15
    return MatMul(), [(*lead, rows, inner), (*lead, inner, columns)], prod(lead) * inner * columns if constant else 0


def _pool(point: _Point) -> Drawn:
    shape = point.tensor()
    if point.unit() < 0.35:
        return GlobalPool("average" if point.unit() < 0.9 else "max"), [shape], 0
    kernel = min(point.pick(((2, 0.35), (3, 0.35), (5, 0.1), (7, 0.1), (4, 0.05), (13, 0.05))), *shape[2:])
    stride = min(kernel, point.pick(((2, 0.6), (1, 0.25), (3, 0.1), (7, 0.05))))
    pad = (kernel - 1) // 2 if point.unit() < 0.6 else 0
    function = "max" if point.unit() < 0.5 else "average"
    return Pool2d(function, (kernel, kernel), (stride, stride), sides(pad)), [shape], 0


def _elementwise(point: _Point) -> Drawn:
    shape = _any(point)
    other = shape
    style = point.unit()
    if style < 0.25 and len(shape) == 4:
        other = (*shape[:2], 1, 1)
    elif style < 0.3 and len(shape) == 4:
        other = (1, 1, *shape[2:])
    elif style < 0.35:
        other = (1,) * len(shape)
    constant = style < 0.05 or (style > 0.3 and point.unit() < 0.1)
    return Elementwise("add" if point.unit() < 0.5 else "mul"), [shape, other], prod(other) if constant else 0


def _activation(point: _Point) -> Drawn:
    functions = ("silu", "silu", "silu", "hard_swish", "sigmoid", "relu", "relu6", "leaky_relu", "tanh", "prelu")
    return Activation(functions[int(point.unit() * len(functions))]), [_any(point)], 0


def _normalisation(point: _Point) -> Drawn:
    return (BatchNorm(), [point.tensor()], 0) if point.unit() < 0.5 else (LayerNorm(), [_any(point)], 0)


def _softmax(point: _Point) -> Drawn:
    return Softmax(), [_any(point)], 0


def _resize(point: _Point) -> Drawn:
    shape = point.tensor()
    if point.unit() < 0.6:
        factor = point.pick(((2, 0.6), (4, 0.25), (8, 0.1), (3, 0.05)))
        factor = factor if prod(shape) * factor * factor <= 4 * point.largest.tensor else 1
        return Resize("nearest", scale=(float(factor), float(factor))), [shape], 0
    if point.unit() < 0.6:
        factor = point.pick(((2, 0.8), (4, 0.2)))
        factor = factor if prod(shape) * factor * factor <= 4 * point.largest.tensor else 1
        return Resize("bilinear", scale=(float(factor), float(factor))), [shape], 0
    room = int((4 * point.largest.tensor / shape[1]) ** 0.5)
    return Resize("bilinear", size=(point.log(1, min(512, room)), point.log(1, min(512, room)))), [shape], 0


def _copy(point: _Point) -> Drawn:
    style, shape = point.unit(), point.tensor()
    if style < 0.45:
        count = point.pick(((2, 0.7), (3, 0.15), (4, 0.15)))
        return Concat(), [shape, *((1, point.channels(shape[1] * 2), *shape[2:]) for _ in range(count - 1))], 0
    if style < 0.65:
        start = int(point.unit() * shape[1])
        return Slice(1, start, start + point.log(1, shape[1] - start)), [shape], 0
    if style < 0.8:
        return Pad(sides(point.pick(((0, 0.3), (1, 0.5), (3, 0.2))))), [shape], 0
    return Transpose((0, 2, 3, 1)), [shape], 0


def _any(point: _Point) -> Sizes:
    """A feature map, or (1, heads, rows, columns), or a sequence, or a vector."""
    return point.tensor() if point.unit() < 0.75 else point.rows()


_DRAW: Mapping[str, Callable[[_Point], Drawn]] = {
    "conv": _conv,
    "depthwise": _depthwise,
    "transposed_conv": _transposed_conv,
    "linear": _linear,
    "matmul": _matmul,
    "pool": _pool,
    "elementwise": _elementwise,
    "activation": _activation,
    "normalisation": _normalisation,
    "softmax": _softmax,
    "resize": _resize,
    "copy": _copy,
}
SAMPLED_KINDS = tuple(_DRAW)
"""Workload kinds that can be sampled: all but "opaque"."""


def sample(
    kind: str,
    count: int,
    generator: np.random.Generator,
    fuses: Mapping[str, frozenset[str]] = FOLDED,
    largest: Largest = Largest(),  # noqa: B008 (frozen)
) -> list[Specimen]:
    """`count` subgraphs of one kind that fill the range which networks reach, up to `largest`.

    `fuses` says what the target runs together with an operator: only that is drawn. Raises `InvalidInput` for a kind
    that cannot be sampled.
    """
    if kind not in _DRAW:
        raise InvalidInput(f"no subgraphs of kind {kind!r} can be drawn; take one of {', '.join(SAMPLED_KINDS)}")
    fused = fuses.get(kind, frozenset())
    return [_specimen(kind, _Point(row, largest), fused) for row in _hypercube(count, generator)]


def _specimen(kind: str, point: _Point, fused: frozenset[str]) -> Specimen:
    activation, add, sigma = point.unit(), point.unit(), point.unit()
    op, inputs, constants = _DRAW[kind](point)
    behind = [each for each, followers in _BEHIND if not followers or followers & fused]
    level = min(int(activation * len(behind)), len(behind) - 1)
    return Specimen(
        op,
        tuple(inputs),
        tuple(place > 0 and constants > 0 for place in range(len(inputs))),
        behind[level],
        "add" in fused and add < 0.2,
        float(6 * 8**sigma),
    )


_CLAMPED, _TABLED = frozenset({"clamp", "activation"}), frozenset({"activation"})
_BEHIND = (
    *[("", frozenset[str]())] * 3, *[("relu", _CLAMPED), ("relu6", _CLAMPED)] * 2,
    ("hard_swish", _TABLED), ("sigmoid", _TABLED), ("silu", frozenset({"composite"})),
)  # fmt: skip
"""What is drawn behind an operator, where the target fuses one of these."""


def _hypercube(count: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """A Latin hypercube (count, coordinates) in [0, 1): each coordinate hits each of `count` slices once."""
    slices = np.stack([generator.permutation(count) for _ in range(_COORDINATES)], axis=1)
    return (slices + generator.random((count, _COORDINATES))) / max(count, 1)

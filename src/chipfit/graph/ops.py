"""Operators: one frozen dataclass per kind, with its shape rule, its MACs and the shapes of its weights.

Shapes are PyTorch's and ONNX's (batch, channels, height, width), with batch 1. The rules are plain arithmetic, so that
every field may be a number or a `Choice`. MACs are per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chipfit.errors import InvalidGraph
from chipfit.graph.shapes import broadcast, need, product, window
from chipfit.graph.values import (
    Shape,
    Value,
    always,
    ceil_div,
    equal,
    floor,
    maximum,
    where,
)

CLAMPS = ("relu", "relu6")
TABLES = ("hard_swish", "hard_sigmoid", "silu", "gelu", "gelu_tanh", "sigmoid", "tanh", "exp", "sqrt")
ACTIVATIONS = (*CLAMPS, "leaky_relu", "prelu", *TABLES, "abs", "neg")
"""Names of activation functions: clamps, slopes, and those that hardware does by table."""

ELEMENTWISE = ("add", "sub", "mul", "div", "max", "min")
POOLS = ("average", "max")


@dataclass(frozen=True, slots=True)
class Op:
    """What every operator answers. `inputs` are the shapes of its inputs, in order."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Shape of the output. Raises `InvalidGraph` where the inputs do not fit."""
        return inputs[0]

    def macs(self, inputs: Sequence[Shape]) -> Value:
        """Multiply-accumulates for one image."""
        return 0

    def weights(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Shape of each weight by its name."""
        return {}


@dataclass(frozen=True, slots=True)
class Conv2d(Op):
    """2-D convolution; depthwise when `groups` equals the input channels. `padding` is top, left, bottom, right."""

    out: Value
    kernel: tuple[Value, Value]
    stride: tuple[Value, Value] = (1, 1)
    padding: tuple[Value, Value, Value, Value] = (0, 0, 0, 0)
    dilation: tuple[Value, Value] = (1, 1)
    groups: Value = 1
    bias: bool = True

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        need(self, inputs, 1, 4)
        out_height, out_width = self._size(inputs[0])
        for total in (inputs[0][1], self.out):
            if not always(equal(total % self.groups, 0)):
                raise InvalidGraph(f"{self.groups} groups do not divide {total} channels")
        if not always(maximum(out_height, 1) == out_height) or not always(maximum(out_width, 1) == out_width):
            raise InvalidGraph(f"a {self.kernel} kernel does not fit into {inputs[0][2]}x{inputs[0][3]}")
        return inputs[0][0], self.out, out_height, out_width

    def _size(self, image: Shape) -> tuple[Value, Value]:
        top, left, bottom, right = self.padding
        height = window(image[2], self.kernel[0], self.stride[0], top + bottom, self.dilation[0])
        return height, window(image[3], self.kernel[1], self.stride[1], left + right, self.dilation[1])

    def macs(self, inputs: Sequence[Shape]) -> Value:
        height, width = self._size(inputs[0])
        return height * width * self.out * (inputs[0][1] // self.groups) * self.kernel[0] * self.kernel[1]

    def weights(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        weights: dict[str, Shape] = {"weight": (self.out, inputs[0][1] // self.groups, *self.kernel)}
        return weights | {"bias": (self.out,)} if self.bias else weights


@dataclass(frozen=True, slots=True)
class ConvTranspose2d(Op):
    """2-D transposed convolution. `padding` is top, left, bottom, right of the output that is cut off."""

    out: Value
    kernel: tuple[Value, Value]
    stride: tuple[Value, Value] = (1, 1)
    padding: tuple[Value, Value, Value, Value] = (0, 0, 0, 0)
    output_padding: tuple[Value, Value] = (0, 0)
    dilation: tuple[Value, Value] = (1, 1)
    groups: Value = 1
    bias: bool = True

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        need(self, inputs, 1, 4)
        sizes: list[Value] = []
        for axis in (0, 1):
            pads = self.padding[axis] + self.padding[axis + 2]
            reach = self.dilation[axis] * (self.kernel[axis] - 1)
            sizes.append((inputs[0][2 + axis] - 1) * self.stride[axis] - pads + reach + self.output_padding[axis] + 1)
        return inputs[0][0], self.out, sizes[0], sizes[1]

    def macs(self, inputs: Sequence[Shape]) -> Value:
        _, channels, height, width = inputs[0]
        return height * width * channels * (self.out // self.groups) * self.kernel[0] * self.kernel[1]

    def weights(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        weights: dict[str, Shape] = {"weight": (inputs[0][1], self.out // self.groups, *self.kernel)}
        return weights | {"bias": (self.out,)} if self.bias else weights


@dataclass(frozen=True, slots=True)
class Linear(Op):
    """Fully connected layer over the last axis."""

    out: Value
    bias: bool = True

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        need(self, inputs, 1)
        return *inputs[0][:-1], self.out

    def macs(self, inputs: Sequence[Shape]) -> Value:
        return product(inputs[0]) * self.out

    def weights(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        weights: dict[str, Shape] = {"weight": (self.out, inputs[0][-1])}
        return weights | {"bias": (self.out,)} if self.bias else weights


@dataclass(frozen=True, slots=True)
class MatMul(Op):
    """Product of two tensors over their last two axes."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        need(self, inputs, 2)
        a, b = inputs
        if len(a) < 2 or len(b) < 2 or not always(equal(a[-1], b[-2])):
            raise InvalidGraph(f"matrices of shapes {a} and {b} do not fit")
        return *broadcast([a[:-2], b[:-2]]), a[-2], b[-1]

    def macs(self, inputs: Sequence[Shape]) -> Value:
        return product(self.shape(inputs)) * inputs[0][-1]


@dataclass(frozen=True, slots=True)
class BatchNorm(Op):
    """Batch normalisation over axis 1, with running statistics; folds into a convolution before it."""

    eps: float = 1e-5

    def weights(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        channels = (inputs[0][1],)
        return {"weight": channels, "bias": channels, "running_mean": channels, "running_var": channels}


@dataclass(frozen=True, slots=True)
class LayerNorm(Op):
    """Layer normalisation over the last `axes` axes."""

    axes: int = 1
    eps: float = 1e-5

    def weights(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        return {"weight": inputs[0][-self.axes :], "bias": inputs[0][-self.axes :]}


@dataclass(frozen=True, slots=True)
class Activation(Op):
    """An element-wise non-linearity from `ACTIVATIONS`; `slope` is that of leaky_relu."""

    function: str
    slope: float = 0.01

    def __post_init__(self) -> None:
        if self.function not in ACTIVATIONS:
            raise InvalidGraph(f"activation {self.function!r} is not one of {', '.join(ACTIVATIONS)}")

    def weights(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        return {"weight": (inputs[0][1],)} if self.function == "prelu" else {}


@dataclass(frozen=True, slots=True)
class Softmax(Op):
    """Softmax along one axis."""

    axis: int = -1


@dataclass(frozen=True, slots=True)
class Elementwise(Op):
    """Two tensors element by element, with broadcasting; `function` is one of `ELEMENTWISE`."""

    function: str

    def __post_init__(self) -> None:
        if self.function not in ELEMENTWISE:
            raise InvalidGraph(f"element-wise {self.function!r} is not one of {', '.join(ELEMENTWISE)}")

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        need(self, inputs, 2)
        return broadcast(inputs)


@dataclass(frozen=True, slots=True)
class Concat(Op):
    """Inputs side by side along one axis."""

    axis: int = 1

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        axis = self.axis % len(inputs[0])
        total: Value = 0
        for shape in inputs:
            total = total + shape[axis]
            rest = zip((*shape[:axis], *shape[axis + 1 :]), (*inputs[0][:axis], *inputs[0][axis + 1 :]), strict=False)
            if len(shape) != len(inputs[0]) or not all(always(equal(a, b)) for a, b in rest):
                raise InvalidGraph(f"shapes {list(inputs)} cannot be put side by side along axis {axis}")
        return *inputs[0][:axis], total, *inputs[0][axis + 1 :]


@dataclass(frozen=True, slots=True)
class Slice(Op):
    """Part of a tensor along one axis, `start` up to and without `stop`."""

    axis: int
    start: Value
    stop: Value
    step: int = 1

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        need(self, inputs, 1)
        axis = self.axis % len(inputs[0])
        if not always(equal(maximum(inputs[0][axis], self.stop), inputs[0][axis])):
            raise InvalidGraph(f"a slice to {self.stop} does not fit into shape {inputs[0]}")
        return *inputs[0][:axis], ceil_div(self.stop - self.start, self.step), *inputs[0][axis + 1 :]


@dataclass(frozen=True, slots=True)
class Pool2d(Op):
    """Pooling; `function` is one of `POOLS`, `padding` is top, left, bottom, right."""

    function: str
    kernel: tuple[Value, Value]
    stride: tuple[Value, Value]
    padding: tuple[Value, Value, Value, Value] = (0, 0, 0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = True

    def __post_init__(self) -> None:
        if self.function not in POOLS:
            raise InvalidGraph(f"pooling {self.function!r} is not one of {', '.join(POOLS)}")

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        need(self, inputs, 1, 4)
        sizes: list[Value] = []
        for axis in (0, 1):
            size, before = inputs[0][2 + axis], self.padding[axis]
            pads = before + self.padding[axis + 2]
            if self.ceil_mode:
                count = ceil_div(size + pads - self.kernel[axis], self.stride[axis]) + 1
                # As PyTorch does: a last window that would start in the padding is dropped.
                outside = (count - 1) * self.stride[axis] >= size + before
                count = where(outside, count - 1, count)
            else:
                count = window(size, self.kernel[axis], self.stride[axis], pads)
            sizes.append(count)
        return inputs[0][0], inputs[0][1], sizes[0], sizes[1]


@dataclass(frozen=True, slots=True)
class GlobalPool(Op):
    """Pooling over height and width, which stay as axes of size 1; `function` is one of `POOLS`."""

    function: str = "average"

    def __post_init__(self) -> None:
        if self.function not in POOLS:
            raise InvalidGraph(f"pooling {self.function!r} is not one of {', '.join(POOLS)}")

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        need(self, inputs, 1, 4)
        return *inputs[0][:2], 1, 1


@dataclass(frozen=True, slots=True)
class Resize(Op):
    """Change of height and width by a factor, or to a size; `mode` is nearest or bilinear."""

    mode: str
    scale: tuple[float, float] | None = None
    size: tuple[Value, Value] | None = None
    align_corners: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("nearest", "bilinear") or (self.scale is None) == (self.size is None):
            raise InvalidGraph(f"a resize is nearest or bilinear and has a scale or a size, got {self}")

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        need(self, inputs, 1, 4)
        if self.size is not None:
            return *inputs[0][:2], *self.size
        assert self.scale is not None
        height, width = (floor(size * factor) for size, factor in zip(inputs[0][2:], self.scale, strict=True))
        return *inputs[0][:2], height, width


@dataclass(frozen=True, slots=True)
class Pad(Op):
    """Constant padding of height and width: top, left, bottom, right."""

    padding: tuple[Value, Value, Value, Value]
    value: float = 0.0

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        need(self, inputs, 1, 4)
        top, left, bottom, right = self.padding
        return *inputs[0][:2], inputs[0][2] + top + bottom, inputs[0][3] + left + right


@dataclass(frozen=True, slots=True)
class Reshape(Op):
    """The same numbers in another shape. `sizes` are the axes after the batch; one may be -1."""

    sizes: tuple[Value, ...]

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        need(self, inputs, 1)
        total = product(inputs[0][1:])
        known = product([size for size in self.sizes if not always(equal(size, -1))])
        if not always(equal(total % known, 0)) or (-1 not in self.sizes and not always(equal(total, known))):
            raise InvalidGraph(f"shape {inputs[0]} cannot become {self.sizes}")
        return inputs[0][0], *(total // known if always(equal(size, -1)) else size for size in self.sizes)


@dataclass(frozen=True, slots=True)
class Transpose(Op):
    """Axes in another order; the batch stays first."""

    order: tuple[int, ...]

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        if sorted(self.order) != list(range(len(inputs[0]))) or self.order[0] != 0:
            raise InvalidGraph(f"axes {self.order} are no order of shape {inputs[0]} that keeps the batch first")
        return tuple(inputs[0][axis] for axis in self.order)


@dataclass(frozen=True, slots=True)
class Constant(Op):
    """A learned or fixed tensor, kept among the weights as `value`."""

    size: Shape

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return self.size

    def weights(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        return {"value": self.size}


@dataclass(frozen=True, slots=True)
class Opaque(Op):
    """Something chipfit does not know: its name and the shape that it gives. It is reported, never counted as zero."""

    operator: str
    size: Shape

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        return self.size


@dataclass(frozen=True, slots=True)
class Select(Op):
    """One of its inputs survives: the one at `index`, a value that depends on decisions."""

    index: Value

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        if len({len(shape) for shape in inputs}) != 1:
            raise InvalidGraph(f"alternatives of different rank: {list(inputs)}")
        result = list(inputs[0])
        for option, shape in enumerate(inputs[1:], start=1):
            chosen = equal(self.index, option)
            result = [where(chosen, new, old) for new, old in zip(shape, result, strict=True)]
        return tuple(result)


ALIASES: tuple[type[Op], ...] = (Reshape,)
"""Operators that move nothing: their output is their input's memory."""

KINDS: tuple[type[Op], ...] = (
    Conv2d, ConvTranspose2d, Linear, MatMul, BatchNorm, LayerNorm, Activation, Softmax, Elementwise, Concat, Slice,
    Pool2d, GlobalPool, Resize, Pad, Reshape, Transpose, Constant, Opaque, Select,
)  # fmt: skip

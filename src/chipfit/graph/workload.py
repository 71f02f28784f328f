"""What one operator, with all that is fused into it, asks of the hardware.

A workload is numbers only, each of which may still depend on open decisions, so that tables of measurements and the
features of a regression are columns of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chipfit.graph.graph import Node
from chipfit.graph.ops import (
    ACTIVATIONS,
    CLAMPS,
    ELEMENTWISE,
    POOLS,
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
    Opaque,
    Pad,
    Pool2d,
    Resize,
    Slice,
    Softmax,
    Transpose,
)
from chipfit.graph.shapes import product
from chipfit.graph.values import Shape, Value, always, either, equal, maximum, negate, where

WORKLOAD_KINDS = (
    "conv", "depthwise", "transposed_conv", "linear", "matmul", "pool", "elementwise", "activation",
    "normalisation", "softmax", "resize", "copy", "opaque",
)  # fmt: skip


class Workload(NamedTuple):
    """What one subgraph asks of the hardware, per image: sizes in elements, never bytes.

    `activation` is 0 for none, else as `activation_level` counts; `adds` the number of
    fused residual operands; `parameters` the weights that are read (for a Constant operand, its elements), `biases` the
    accumulator biases. A linear layer over rows has `in_height` rows. `function` says which of its kind's functions it
    is, as `function_number` counts them; `plain_input` and `plain_output` whether a tensor lies in memory without
    blocks of channels, as the network's own do and parts that fill no whole blocks; `stored_share` what weights take
    after compression, as a share of their plain size. `far_input` says whether it is read from outside of the chip's
    memory, `far_output` how often its output is written there, `striped` whether the input (1) or the output (2) is
    only there in stripes, `stripe_height` the rows of the output that are worked on at a time (0: all), `beside` the
    elements that wait in memory meanwhile, `streamed` whether its weights find no room beside stripes: all 0 unless
    the target's memory makes them count
    (`graph.neighbours`). Every field but `kind` is a `Value`.
    """

    kind: str
    in_height: Value = 1
    in_width: Value = 1
    in_channels: Value = 1
    out_height: Value = 1
    out_width: Value = 1
    out_channels: Value = 1
    kernel_height: Value = 1
    kernel_width: Value = 1
    stride_height: Value = 1
    stride_width: Value = 1
    dilation_height: Value = 1
    dilation_width: Value = 1
    groups: Value = 1
    activation: Value = 0
    adds: Value = 0
    macs: Value = 0
    parameters: Value = 0
    biases: Value = 0
    in_elements: Value = 0
    out_elements: Value = 0
    function: Value = 0
    plain_input: Value = 0
    plain_output: Value = 0
    stored_share: Value = 1.0
    far_input: Value = 0
    far_output: Value = 0
    striped: Value = 0
    stripe_height: Value = 0
    beside: Value = 0
    streamed: Value = 0


WORKLOAD_FIELDS = Workload._fields[1:]
"""The numeric fields of a workload, in the order of feature columns."""


def activation_level(op: Activation) -> int:
    """1 for a clamp, which costs nothing in an accumulator's output stage; 2 for one table; 3 for what many runtimes
    compute in several steps."""
    return CLAMP if op.function in CLAMPS else COMPOSITE if op.function in STEPS else 2


CLAMP = 1
"""Level of activations that only limit."""

COMPOSITE = 3
"""Level of activations that many runtimes compute in several steps."""

STEPS = ("silu", "gelu", "gelu_tanh", "hard_sigmoid", "prelu")
"""Activations that many runtimes compute in several steps."""


def function_number(op: Op) -> int:
    """Which of the functions that share a workload kind an operator is: they may cost different times."""
    match op:
        case Pool2d() | GlobalPool():
            return POOLS.index(op.function)
        case Elementwise():
            return ELEMENTWISE.index(op.function)
        case Activation():
            return ACTIVATIONS.index(op.function)
        case Resize():
            return RESIZES.index(f"{op.mode}_aligned" if op.align_corners and op.mode == "bilinear" else op.mode)
        case _:
            return _PLACE.get(type(op), 0)


RESIZES = ("nearest", "bilinear", "bilinear_aligned")
"""Functions of a resize: bilinear ones differ by whether corners of input and output lie on each other."""

CONCATENATION = 0
"""The function of a copy that puts side by side."""

_PLACE: Mapping[type[Op], int] = {BatchNorm: 0, LayerNorm: 1, Concat: CONCATENATION, Slice: 1, Pad: 2, Transpose: 3}


def workload_kind(node: Node, inputs: Sequence[Shape]) -> str:
    """Which of `WORKLOAD_KINDS` an operator is."""
    op = node.op
    if isinstance(op, Conv2d):
        channels = inputs[0][1]
        separate = always(equal(op.groups, channels)) and not always(equal(channels, 1))
        return "depthwise" if separate else "conv"
    if type(op) not in _KIND_OF:
        raise TypeError(f"no workload kind for {type(op).__name__}")
    return _KIND_OF[type(op)]


_KIND_OF: Mapping[type[Op], str] = {
    ConvTranspose2d: "transposed_conv",
    Linear: "linear",
    MatMul: "matmul",
    Pool2d: "pool",
    GlobalPool: "pool",
    Elementwise: "elementwise",
    Activation: "activation",
    BatchNorm: "normalisation",
    LayerNorm: "normalisation",
    Softmax: "softmax",
    Resize: "resize",
    Concat: "copy",
    Slice: "copy",
    Pad: "copy",
    Transpose: "copy",
    Opaque: "opaque",
}


CHANNEL_BLOCK = 16
"""Channels of a block in the layouts that accelerators keep tensors in."""


def uneven(node: Node, inputs: Sequence[Shape]) -> Value:
    """Whether parts that are put side by side, or cut out, begin inside a block of channels."""
    op = node.op
    starts: list[Value] = []
    if isinstance(op, Concat) and len(inputs[0]) == 4 and op.axis % 4 == 1:
        starts = [shape[1] for shape in inputs[:-1]]
    elif isinstance(op, Slice) and len(inputs[0]) == 4 and op.axis % 4 == 1:
        starts = [op.start]
    found: Value = False
    for start in starts:
        found = either(found, negate(equal(start % CHANNEL_BLOCK, 0)))
    return found


def plane(shape: Shape) -> tuple[Value, Value, Value]:
    """Height, width and channels of a tensor of any rank; sequences are (batch, rows, channels)."""
    if len(shape) == 4:
        return shape[2], shape[3], shape[1]
    return product(shape[1:-1]), 1, shape[-1] if shape else 1


def describe(
    kind: str,
    node: Node,
    inputs: Sequence[Shape],
    output: Shape,
    *,
    constants: Value = 0,
    activation: Value = 0,
    adds: Value = 0,
    normalised: Value = False,
    plain_input: Value = False,
    plain_output: Value = False,
) -> Workload:
    """The workload of an operator and of what is fused into it. `constants` are elements of Constant operands."""
    op = node.op
    # A number beside a tensor, as in 1 - x, says nothing of the size.
    in_height, in_width, in_channels = plane(next((shape for shape in inputs if shape), ()))
    out_height, out_width, out_channels = plane(output)
    kernel: tuple[Value, Value] = (1, 1)
    stride: tuple[Value, Value] = (1, 1)
    if isinstance(op, (Conv2d, ConvTranspose2d, Pool2d)):
        kernel, stride = op.kernel, op.stride
    elif isinstance(op, GlobalPool):
        kernel = stride = (in_height, in_width)
    dilation = op.dilation if isinstance(op, (Conv2d, ConvTranspose2d)) else (1, 1)
    groups = op.groups if isinstance(op, (Conv2d, ConvTranspose2d)) else 1
    weights = op.weights(inputs)
    parameters = constants + (product(weights["weight"]) if "weight" in weights else 0)
    biased = normalised if isinstance(op, (Conv2d, ConvTranspose2d, Linear)) else False
    out_elements = product(output)
    if isinstance(op, Activation):
        activation = maximum(activation, activation_level(op))
    return Workload(
        kind, in_height, in_width, in_channels, out_height, out_width, out_channels,
        *kernel, *stride, *dilation, groups,
        activation=activation,
        adds=adds,
        macs=op.macs(inputs),
        parameters=parameters,
        biases=where(either("bias" in weights, biased), out_channels, 0),
        in_elements=sum(map(product, inputs), start=0) - constants + adds * out_elements,
        out_elements=out_elements,
        function=function_number(op),
        plain_input=plain_input,
        plain_output=plain_output,
    )  # fmt: skip

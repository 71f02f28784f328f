"""Every operator as a PyTorch function: what is known once is worked out here, before the first forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from chipfit.errors import InvalidInput, UnsupportedOperator
from chipfit.graph.graph import Node
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Concat,
    Constant,
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
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
)
from chipfit.graph.values import Choice, Shape, Value

Run = Callable[[Sequence[Tensor], Sequence[Tensor], float | None], Tensor]
"""An operator at work: inputs, weights in the order of `Op.weights`, and the momentum of running statistics in training
(None in evaluation)."""

Shapes = Sequence[Shape]


def lower(node: Node, inputs: Shapes) -> Run:
    """The function that computes a node of a closed graph, for inputs of these shapes and any batch size.

    Raises `UnsupportedOperator` for an operator that chipfit does not know.
    """
    if isinstance(node.op, Opaque):
        raise UnsupportedOperator(
            f"node {node.key!r} is the operator {node.op.operator!r}, which chipfit cannot run; "
            "replace it with operators that chipfit knows, or cut the network before it"
        )
    return LOWERINGS[type(node.op)](node.op, inputs)


def _int(value: Value) -> int:
    if isinstance(value, Choice):
        raise InvalidInput(f"{value} is still open; close the graph first")
    return int(value)


def _ints(values: Sequence[Value]) -> tuple[int, ...]:
    return tuple(_int(value) for value in values)


def _conv2d(op: Conv2d, inputs: Shapes) -> Run:
    stride, dilation, groups = _ints(op.stride), _ints(op.dilation), _int(op.groups)
    top, left, bottom, right = _ints(op.padding)
    symmetric = (top, left) == (bottom, right)
    padding = (top, left) if symmetric else (0, 0)

    def run(tensors: Sequence[Tensor], weights: Sequence[Tensor], _: float | None) -> Tensor:
        tensor = tensors[0] if symmetric else F.pad(tensors[0], (left, right, top, bottom))
        return F.conv2d(tensor, *weights, stride=stride, padding=padding, dilation=dilation, groups=groups)

    return run


def _conv_transpose2d(op: ConvTranspose2d, inputs: Shapes) -> Run:
    stride, dilation, extra, groups = _ints(op.stride), _ints(op.dilation), _ints(op.output_padding), _int(op.groups)
    top, left, bottom, right = _ints(op.padding)
    symmetric = (top, left) == (bottom, right)
    padding = (top, left) if symmetric else (0, 0)

    def run(tensors: Sequence[Tensor], weights: Sequence[Tensor], _: float | None) -> Tensor:
        result = F.conv_transpose2d(
            tensors[0],
            *weights,
            stride=stride,
            padding=padding,
            output_padding=extra,
            groups=groups,
            dilation=dilation,
        )
        return result if symmetric else F.pad(result, (-left, -right, -top, -bottom))

    return run


def _linear(op: Linear, inputs: Shapes) -> Run:
    return lambda tensors, weights, _: F.linear(tensors[0], *weights)


def _matmul(op: MatMul, inputs: Shapes) -> Run:
    return lambda tensors, weights, _: torch.matmul(tensors[0], tensors[1])


def _batch_norm(op: BatchNorm, inputs: Shapes) -> Run:
    eps = op.eps

    def run(tensors: Sequence[Tensor], weights: Sequence[Tensor], momentum: float | None) -> Tensor:
        weight, bias, mean, variance = weights
        training = momentum is not None
        return F.batch_norm(tensors[0], mean, variance, weight, bias, training, momentum if training else 0.0, eps)

    return run


def _layer_norm(op: LayerNorm, inputs: Shapes) -> Run:
    shape, eps = list(_ints(inputs[0][-op.axes :])), op.eps
    return lambda tensors, weights, _: F.layer_norm(tensors[0], shape, weights[0], weights[1], eps)


FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hard_swish": F.hardswish,
    "hard_sigmoid": F.hardsigmoid,
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu_tanh": lambda tensor: F.gelu(tensor, approximate="tanh"),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "neg": torch.neg,
}


def _activation(op: Activation, inputs: Shapes) -> Run:
    if op.function == "prelu":
        return lambda tensors, weights, _: F.prelu(tensors[0], weights[0])
    if op.function == "leaky_relu":
        slope = op.slope
        return lambda tensors, weights, _: F.leaky_relu(tensors[0], slope)
    function = FUNCTIONS[op.function]
    return lambda tensors, weights, _: function(tensors[0])


def _softmax(op: Softmax, inputs: Shapes) -> Run:
    axis = op.axis
    return lambda tensors, weights, _: F.softmax(tensors[0], axis)


PAIRS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "max": torch.maximum,
    "min": torch.minimum,
}


def _elementwise(op: Elementwise, inputs: Shapes) -> Run:
    function = PAIRS[op.function]
    return lambda tensors, weights, _: function(tensors[0], tensors[1])


def _concat(op: Concat, inputs: Shapes) -> Run:
    axis = op.axis % len(inputs[0])

    def run(tensors: Sequence[Tensor], weights: Sequence[Tensor], _: float | None) -> Tensor:
        # A constant beside images has batch 1, the images any batch.
        batch = max(tensor.shape[0] for tensor in tensors)
        return torch.cat([t if t.shape[0] == batch else t.expand(batch, *t.shape[1:]) for t in tensors], axis)

    return run


def _slice(op: Slice, inputs: Shapes) -> Run:
    axis = op.axis % len(inputs[0])
    index = (*[slice(None)] * axis, slice(_int(op.start), _int(op.stop), op.step))
    return lambda tensors, weights, _: tensors[0][index]


def _pool2d(op: Pool2d, inputs: Shapes) -> Run:
    kernel, stride, (top, left, bottom, right) = _ints(op.kernel), _ints(op.stride), _ints(op.padding)
    average, ceil_mode, count_include_pad = op.function == "average", op.ceil_mode, op.count_include_pad
    # PyTorch pads both sides alike, by half a window at most.
    if (top, left) == (bottom, right) and 2 * top <= kernel[0] and 2 * left <= kernel[1]:
        padding = (top, left)
        if average:
            return lambda tensors, weights, _: F.avg_pool2d(
                tensors[0], kernel, stride, padding, ceil_mode, count_include_pad
            )
        return lambda tensors, weights, _: F.max_pool2d(tensors[0], kernel, stride, padding, 1, ceil_mode)

    counts: list[list[int]] = []
    after: list[int] = []
    for axis, (size, count) in enumerate(zip(_ints(inputs[0][2:]), _ints(op.shape(inputs)[2:]), strict=True)):
        before, behind = (top, bottom) if axis == 0 else (left, right)
        first, last = (-before, size + behind) if count_include_pad else (0, size)
        starts = [position * stride[axis] - before for position in range(count)]
        counts.append([min(start + kernel[axis], last) - max(start, first) for start in starts])
        after.append(starts[-1] + kernel[axis] - size)

    def run(tensors: Sequence[Tensor], weights: Sequence[Tensor], _: float | None) -> Tensor:
        fill = 0.0 if average else float("-inf")
        padded = F.pad(tensors[0], (left, after[1], top, after[0]), value=fill)
        if not average:
            return F.max_pool2d(padded, kernel, stride)
        rows, columns = (padded.new_tensor(axis) for axis in counts)
        return F.avg_pool2d(padded, kernel, stride, divisor_override=1) / (rows[:, None] * columns)

    return run


def _global_pool(op: GlobalPool, inputs: Shapes) -> Run:
    if op.function == "average":
        return lambda tensors, weights, _: tensors[0].mean((2, 3), keepdim=True)
    return lambda tensors, weights, _: tensors[0].amax((2, 3), keepdim=True)


def _resize(op: Resize, inputs: Shapes) -> Run:
    size = None if op.size is None else list(_ints(op.size))
    scale = None if op.scale is None else list(op.scale)
    mode, align_corners = op.mode, op.align_corners if op.mode == "bilinear" else None

    def run(tensors: Sequence[Tensor], weights: Sequence[Tensor], _: float | None) -> Tensor:
        return F.interpolate(tensors[0], size=size, scale_factor=scale, mode=mode, align_corners=align_corners)

    return run


def _pad(op: Pad, inputs: Shapes) -> Run:
    (top, left, bottom, right), value = _ints(op.padding), op.value
    return lambda tensors, weights, _: F.pad(tensors[0], (left, right, top, bottom), value=value)


def _reshape(op: Reshape, inputs: Shapes) -> Run:
    sizes = _ints(op.sizes)
    return lambda tensors, weights, _: tensors[0].reshape(tensors[0].shape[0], *sizes)


def _transpose(op: Transpose, inputs: Shapes) -> Run:
    order = op.order
    return lambda tensors, weights, _: tensors[0].permute(order)


def _constant(op: Constant, inputs: Shapes) -> Run:
    return lambda tensors, weights, _: weights[0]


LOWERINGS: Mapping[type[Op], Callable[[Any, Shapes], Run]] = {
    Conv2d: _conv2d,
    ConvTranspose2d: _conv_transpose2d,
    Linear: _linear,
    MatMul: _matmul,
    BatchNorm: _batch_norm,
    LayerNorm: _layer_norm,
    Activation: _activation,
    Softmax: _softmax,
    Elementwise: _elementwise,
    Concat: _concat,
    Slice: _slice,
    Pool2d: _pool2d,
    GlobalPool: _global_pool,
    Resize: _resize,
    Pad: _pad,
    Reshape: _reshape,
    Transpose: _transpose,
    Constant: _constant,
}
"""One for every kind in `ops.KINDS`, without `Opaque` (nothing to run) and `Select` (gone from a closed graph)."""

"""A network under construction: what reading ONNX files and reading torch modules have in common."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidGraph
from chipfit.graph.graph import Graph, Input, Node, resolve
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Constant,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    GlobalPool,
    LayerNorm,
    Linear,
    Op,
    Pad,
    Pool2d,
    Reshape,
    Slice,
    Transpose,
)
from chipfit.nets.network import Network
from chipfit.nets.patterns import fuse, merge_reshapes

Array = NDArray[Any]


LARGEST_TENSOR = 2**31
"""Elements beyond which a tensor is taken for a damaged file."""


class Unrepresentable(Exception):
    """No node of a graph says this. Internal: the importers then write an `Opaque`."""


class Draft:
    """Nodes so far, with unique keys, their shapes and their weights."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self.inputs = tuple(inputs)
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, tuple[int, ...]] = {item.key: _static(item.shape) for item in inputs}
        self.weights: dict[str, NDArray[np.float32]] = {}

    def unique(self, wanted: str) -> str:
        """`wanted`, or the first of wanted_1, wanted_2, … that names no tensor yet."""
        key, number = wanted, 0
        while key in self.shapes:
            number += 1
            key = f"{wanted}_{number}"
        return key

    def add(self, wanted: str, op: Op, inputs: Sequence[str], weights: Mapping[str, Array] | None = None) -> str:
        """Appends a node and gives its key. Raises `InvalidGraph` where the operator does not fit its inputs."""
        shape = _static(op.shape([self.shapes[name] for name in inputs]))
        if math.prod(shape) > LARGEST_TENSOR:
            raise InvalidGraph(f"a tensor of shape {shape} has more than {LARGEST_TENSOR} elements")
        key = self.unique(wanted)
        self.nodes[key] = Node(key, op, tuple(inputs))
        self.shapes[key] = shape
        for name, array in (weights or {}).items():
            self.weights[f"{key}.{name}"] = np.array(array, np.float32, order="C")
        return key

    def constant(self, wanted: str, array: Array) -> str:
        """Appends a constant."""
        return self.add(wanted, Constant(array.shape), (), {"value": array})

    def add_bias(self, key: str, bias: Array) -> None:
        """Gives a linear layer without bias this one."""
        node = self.nodes[key]
        assert isinstance(node.op, Linear)
        self.nodes[key] = replace(node, op=replace(node.op, bias=True))
        self.weights[f"{key}.bias"] = np.array(bias, np.float32, order="C")

    def finish(self, name: str, outputs: Sequence[str], merge: bool = False) -> Network:
        """The network that gives `outputs`; what they do not need is left out, spelled-out activations are named.

        With `merge`, of several shapes in a row only the last stays.
        """
        nodes, weights = fuse(tuple(self.nodes.values()), tuple(outputs), self.shapes, self.weights)
        if merge:
            nodes, outputs = merge_reshapes(nodes, outputs, self.shapes)
        graph = resolve(Graph(self.inputs, nodes, tuple(outputs)))
        return Network(name, graph, {key: weights[key] for key, _ in graph.weights()})


def _static(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in shape)


def reshape(draft: Draft, key: str, source: str, target: Sequence[int], literal: bool = False) -> str:
    """Another shape, batch included; one size may be -1.

    Unless the sizes are meant literally, the channels become -1 where they can: the graph then keeps fitting when its
    widths change. Raises `Unrepresentable` where the batch does not stay first.
    """
    given = draft.shapes[source]
    total = math.prod(given)
    known = math.prod([size for size in target if size != -1])
    full = [total // max(known, 1) if size == -1 else size for size in target]
    if not full or not given or full[0] != given[0] or math.prod(full) != total:
        raise Unrepresentable("the batch does not stay first")
    sizes = list(target[1:])
    wide = [axis for axis, size in enumerate(sizes) if size != 1]
    if (
        not literal
        and -1 not in sizes
        and (len(sizes) == 1 or (wide and _without_ones(given[1:]) == _without_ones(sizes)))
    ):
        sizes[wide[0] if len(sizes) > 1 else 0] = -1
    return draft.add(key, Reshape(tuple(sizes)), [source])


def _without_ones(sizes: Sequence[int]) -> list[int]:
    return [size for size in sizes if size != 1]


def transpose(draft: Draft, key: str, source: str, order: Sequence[int]) -> str:
    """Axes in another order. Raises `Unrepresentable` where the batch does not stay first."""
    order = tuple(axis % len(order) for axis in order)
    if not order or order[0] != 0:
        raise Unrepresentable("the batch does not stay first")
    return draft.add(key, Transpose(order), [source])


def cut(draft: Draft, key: str, source: str, axis: int, start: int, stop: int, step: int = 1) -> str:
    """A slice with Python's rules for bounds. Raises `Unrepresentable` if it is empty, reversed or cuts the batch."""
    shape = draft.shapes[source]
    if step < 1 or not -len(shape) <= axis < len(shape):
        raise Unrepresentable("a reversed slice")
    start, stop, _ = slice(start, stop).indices(shape[axis])
    if axis % len(shape) == 0:
        if (start, stop, step) == (0, shape[0], 1):
            return source
        raise Unrepresentable("the batch is cut")
    if start >= stop:
        raise Unrepresentable("an empty slice")
    return draft.add(key, Slice(axis, start, stop, step), [source])


def select(draft: Draft, key: str, source: str, axis: int, index: int) -> str:
    """The entry at one index; the axis goes. Raises `Unrepresentable` along the batch."""
    shape = draft.shapes[source]
    axis %= len(shape)
    index %= shape[axis]
    if axis == 0:
        raise Unrepresentable("the batch is cut")
    part = cut(draft, key, source, axis, index, index + 1)
    return reshape(draft, f"{key}.squeeze", part, (*shape[:axis], *shape[axis + 1 :]))


def reduce(draft: Draft, key: str, source: str, axes: Sequence[int], keep: bool, function: str) -> str:
    """Average or max over axes, as a global pool. Raises `Unrepresentable` over the batch."""
    shape = draft.shapes[source]
    over = sorted({axis % len(shape) for axis in axes})
    if 0 in over or not over:
        raise Unrepresentable("over the batch, or over nothing")
    result = [1 if axis in over else size for axis, size in enumerate(shape) if keep or axis not in over]
    if len(shape) == 4 and over == [2, 3]:
        pooled = draft.add(key, GlobalPool(function), [source])
        return pooled if keep else draft.add(f"{key}.flatten", Reshape((-1,)), [pooled])
    kept = [axis for axis in range(1, len(shape)) if axis not in over]
    if kept + over != list(range(1, len(shape))):
        source = draft.add(f"{key}.transpose", Transpose((0, *kept, *over)), [source])
    sizes = (math.prod([shape[axis] for axis in kept]), math.prod([shape[axis] for axis in over]), 1)
    plane = draft.add(f"{key}.plane", Reshape(sizes), [source])
    pooled = draft.add(key, GlobalPool(function), [plane])
    return draft.add(f"{key}.squeeze", Reshape((-1,) if len(result) == 2 else tuple(result[1:])), [pooled])


def clamp(draft: Draft, key: str, source: str, low: float | None, high: float | None) -> str:
    """Limits, as relu or relu6 where they are those."""
    if (low, high) in ((0.0, None), (0.0, 6.0)):
        return draft.add(key, Activation("relu" if high is None else "relu6"), [source])
    for function, bound in (("max", low), ("min", high)):
        if bound is not None:
            limit = draft.constant(f"{key}.{'low' if function == 'max' else 'high'}", np.array(bound, np.float32))
            source = draft.add(key, Elementwise(function), [source, limit])
    return source


def pad(draft: Draft, key: str, source: str, before: Sequence[int], after: Sequence[int], value: float) -> str:
    """Constant padding, given per axis. Raises `Unrepresentable` other than along the last axes of an image or row."""
    shape = draft.shapes[source]
    if min((*before, *after), default=0) < 0 or any((*before[:2], *after[:2])) or len(shape) not in (3, 4):
        raise Unrepresentable("padding of batch or channels, or a negative one")
    image, back = as_image(draft, key, source)
    top, bottom = (before[2], after[2]) if len(shape) == 4 else (0, 0)
    return back(draft.add(key, Pad((top, before[-1], bottom, after[-1]), value), [image]))


def as_image(draft: Draft, key: str, source: str) -> tuple[str, Any]:
    """(batch, channels, length) as images of height 1, and the way back; images stay as they are."""
    shape = draft.shapes[source]
    if len(shape) == 4:
        return source, lambda result: result  # type: ignore[reportUnknownVariableType]
    if len(shape) != 3:
        raise Unrepresentable(f"{len(shape)} axes")

    def back(result: str) -> str:
        return draft.add(f"{key}.row", Reshape((-1, draft.shapes[result][3])), [result])

    return draft.add(f"{key}.image", Reshape((-1, 1, shape[2])), [source]), back


def flat(values: Sequence[int], neutral: int) -> tuple[int, int]:
    """Settings of a 1-D operator as those of a 2-D one; 2-D settings stay as they are."""
    return (neutral, values[0]) if len(values) == 1 else (values[0], values[1])


def sides(values: Sequence[int]) -> tuple[int, int, int, int]:
    """Padding (all begins, then all ends) of one or two axes as top, left, bottom, right."""
    return (0, values[0], 0, values[1]) if len(values) == 2 else (values[0], values[1], values[2], values[3])


def convolution(
    draft: Draft,
    key: str,
    source: str,
    weight: Array,
    bias: Array | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    output_padding: Sequence[int] | None = None,
) -> str:
    """A 1-D or 2-D convolution; a transposed one where `output_padding` is given. `padding`: begins, then ends."""
    if weight.ndim not in (3, 4):
        raise Unrepresentable(f"a convolution over {weight.ndim - 2} axes")
    image, back = as_image(draft, key, source)
    weight = weight[:, :, None] if weight.ndim == 3 else weight
    kernel = (weight.shape[2], weight.shape[3])
    window = flat(stride, 1), sides(padding)
    op: Op
    if output_padding is None:
        op = Conv2d(weight.shape[0], kernel, *window, flat(dilation, 1), groups, bias is not None)
    else:
        extra = flat(output_padding, 0)
        op = ConvTranspose2d(
            weight.shape[1] * groups, kernel, *window, extra, flat(dilation, 1), groups, bias is not None
        )
    return back(draft.add(key, op, [image], {"weight": weight} | ({} if bias is None else {"bias": bias})))


def pool(
    draft: Draft,
    key: str,
    source: str,
    function: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
) -> str:
    """1-D or 2-D pooling. `padding`: begins, then ends."""
    if len(kernel) > 2:
        raise Unrepresentable(f"pooling over {len(kernel)} axes")
    image, back = as_image(draft, key, source)
    op = Pool2d(function, flat(kernel, 1), flat(stride, 1), sides(padding), ceil_mode, count_include_pad)
    return back(draft.add(key, op, [image]))


def linear(draft: Draft, key: str, source: str, weight: Array, bias: Array | None) -> str:
    """A fully connected layer; `weight` is (out, in)."""
    weights = {"weight": weight} | ({} if bias is None else {"bias": bias})
    return draft.add(key, Linear(weight.shape[0], bias is not None), [source], weights)


def batch_norm(
    draft: Draft,
    key: str,
    source: str,
    weight: Array | None,
    bias: Array | None,
    mean: Array,
    variance: Array,
    eps: float,
) -> str:
    """Batch normalisation; without scale or shift they are 1 and 0."""
    scale = np.ones_like(mean) if weight is None else weight
    shift = np.zeros_like(mean) if bias is None else bias
    weights = {"weight": scale, "bias": shift, "running_mean": mean, "running_var": variance}
    return draft.add(key, BatchNorm(eps), [source], weights)


def layer_norm(
    draft: Draft, key: str, source: str, axes: int, weight: Array | None, bias: Array | None, eps: float
) -> str:
    """Layer normalisation over the last `axes` axes; without scale or shift they are 1 and 0."""
    shape = draft.shapes[source][-axes:]
    scale = np.ones(shape, np.float32) if weight is None else np.broadcast_to(weight, shape)
    shift = np.zeros(shape, np.float32) if bias is None else np.broadcast_to(bias, shape)
    return draft.add(key, LayerNorm(axes, eps), [source], {"weight": scale, "bias": shift})


def prelu(draft: Draft, key: str, source: str, slope: Array) -> str:
    """PReLU with one slope per channel, or one for all. Raises `Unrepresentable` for slopes along other axes."""
    channels = draft.shapes[source][1]
    rank = len(draft.shapes[source])
    full = slope.reshape((1,) * (rank - slope.ndim) + slope.shape) if slope.ndim <= rank else slope
    if slope.size != 1 and (full.shape[1] != slope.size or slope.size != channels):
        raise Unrepresentable("slopes along other axes than the channels")
    return draft.add(key, Activation("prelu"), [source], {"weight": np.broadcast_to(slope.reshape(-1), (channels,))})


def depth_to_space(draft: Draft, key: str, source: str, block: int, channels_outside: bool) -> str:
    """Channels moved into blocks of pixels; `channels_outside`: those of a block lie together, as PyTorch has it."""
    batch, channels, height, width = draft.shapes[source]
    depth = channels // block**2
    outside = (batch, depth, block, block, height, width), (0, 1, 4, 2, 5, 3)
    inside = (batch, block, block, depth, height, width), (0, 3, 4, 1, 5, 2)
    sizes, order = outside if channels_outside else inside
    moved = transpose(draft, key, reshape(draft, f"{key}.blocks", source, sizes), order)
    return reshape(draft, f"{key}.image", moved, (batch, depth, height * block, width * block))

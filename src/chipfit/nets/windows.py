"""Which part of the largest weights of a space each of its networks takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.graph.channels import is_depthwise
from chipfit.graph.graph import Graph, Node
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
    Op,
    Pad,
    Pool2d,
    Reshape,
    Resize,
    Select,
    Slice,
    Softmax,
    Transpose,
)
from chipfit.graph.values import Choice, Shape, Value, always, bounds, equal, map_choices

Sizes = tuple[int, ...]
Index = NDArray[np.int64]
Window = tuple[Index, ...]
"""For each axis of a weight, which entries of the largest one are taken, in order."""


@dataclass(frozen=True, eq=False)
class Largest:
    """How large the operators, tensors and weights of a space become, by key; weights by their name in the graph.

    No single network need be as large everywhere: alternatives exclude each other, and each has weights of its own.
    """

    space: Graph
    ops: Mapping[str, Op]
    tensors: Mapping[str, Sizes]
    weights: Mapping[str, Sizes]


def largest(space: Graph) -> Largest:
    """The sizes that hold every network of a space. Raises `InvalidGraph` as `Graph.shapes` does."""
    tensors: dict[str, Sizes] = {item.key: _most(item.shape) for item in space.inputs}
    ops: dict[str, Op] = {}
    weights: dict[str, Sizes] = {}
    for node in space.nodes:
        inputs = [tensors[name] for name in node.inputs]
        ops[node.key] = op = _grown(space, node, inputs)
        tensors[node.key] = _extent(space, node, op, inputs)
        for name, shape in op.weights(inputs).items():
            weights[f"{node.key}.{name}"] = _most(shape)
    return Largest(space, ops, tensors, weights)


def _most(shape: Shape) -> Sizes:
    return tuple(int(bounds(size)[1]) for size in shape)


def _grown(space: Graph, node: Node, inputs: Sequence[Sizes]) -> Op:
    """The operator with the largest number in the place of every choice."""
    op = map_choices(node.op, lambda choice: choice.values.max().item())
    if isinstance(op, Conv2d) and isinstance(node.op, Conv2d):
        if is_depthwise(node.op, space.input_shapes(node)[0][1]):
            width = inputs[0][1]
            return replace(op, out=width * int(bounds(node.op.out // node.op.groups)[1]), groups=width)
        return replace(op, groups=int(bounds(node.op.groups)[0]))
    return op


def _extent(space: Graph, node: Node, op: Op, inputs: Sequence[Sizes]) -> Sizes:
    """How large the output of a node becomes, with room for all channels of what it puts together."""
    plain = _most(space.shapes[node.key])
    match op:
        case Conv2d(out=out):
            return 1, int(out), *plain[2:]  # type: ignore[arg-type]
        case Linear(out=out):
            return *inputs[0][:-1], int(out)  # type: ignore[arg-type]
        case BatchNorm() | LayerNorm() | Activation() | Softmax():
            return inputs[0]
        case Pool2d() | GlobalPool() | Resize() | Pad():
            return 1, inputs[0][1], *plain[2:]
        case Elementwise() | Select():
            rank = len(plain)
            aligned = [(1,) * (rank - len(sizes)) + sizes for sizes in inputs]
            return tuple(max(sizes) for sizes in zip(*aligned, strict=True))
        case Concat(axis=axis):
            axis %= len(plain)
            wide = [max(sizes) for sizes in zip(*inputs, strict=True)]
            return *wide[:axis], sum(sizes[axis] for sizes in inputs), *wide[axis + 1 :]
        case Slice(axis=axis):
            axis %= len(plain)
            return *inputs[0][:axis], plain[axis], *inputs[0][axis + 1 :]
        case Transpose(order=order):
            return tuple(inputs[0][axis] for axis in order)
        case Reshape():
            shape, made = space.input_shapes(node)[0], space.shapes[node.key]
            if flattens(shape, made):
                return 1, int(np.prod(inputs[0][1:]))
            return (1, inputs[0][1], *plain[2:]) if keeps_channels(shape, made) else plain
        case _:
            return plain


def flattens(shape: Shape, made: Shape) -> bool:
    """Whether a reshape puts all axes behind the batch into one."""
    return len(made) == 2 and len(shape) > 2


def keeps_channels(shape: Shape, made: Shape) -> bool:
    """Whether a reshape leaves axis 1 as it is."""
    return min(len(shape), len(made)) > 1 and always(equal(shape[1], made[1]))


def windows(whole: Largest, graph: Graph) -> dict[str, Window]:
    """For every weight of one network of the space, the part of the largest that it takes.

    The first channels of each convolution and linear layer (of each group where there are groups), the centre of its
    window, and those input channels that are left: beside a narrowed tensor a concatenated one keeps its own. Elsewhere
    the first entries. Raises `InvalidInput` for a graph that is not of the space.
    """
    entries: dict[str, tuple[Index, ...]] = {
        item.key: tuple(np.arange(_int(size)) for size in item.shape) for item in graph.inputs
    }
    found: dict[str, Window] = {}
    for node in graph.nodes:
        if node.key not in whole.ops:
            raise InvalidInput(f"node {node.key!r} is not of this space; close the space itself with a code")
        reads = [entries[name] for name in node.inputs]
        entries[node.key] = made = _entries(whole, graph, node, reads)
        for name, shape in node.op.weights(graph.input_shapes(node)).items():
            sizes = whole.weights[f"{node.key}.{name}"]
            taken = tuple(_int(size) for size in shape)
            found[f"{node.key}.{name}"] = _window(node.op, name, sizes, taken, reads, made)
    return found


def _entries(whole: Largest, graph: Graph, node: Node, reads: Sequence[tuple[Index, ...]]) -> tuple[Index, ...]:
    """Along each axis of what a node gives, the places of its entries in the largest tensor."""
    shape = tuple(_int(size) for size in graph.shapes[node.key])
    first = tuple(np.arange(size) for size in shape)
    source = whole.space.by_key[node.key]
    extents = [whole.tensors[name] for name in source.inputs]
    match node.op:
        case Conv2d(groups=groups):
            op = whole.ops[node.key]
            assert isinstance(op, Conv2d)
            if op.groups == extents[0][1] and op.groups != 1:
                channels = _repeated(reads[0][1], shape[1] // _int(groups))
            else:
                channels = _of_groups(shape[1], whole.tensors[node.key][1], _int(groups), _int(op.groups))
            return first[0], channels, *first[2:]
        case Linear():
            return *reads[0][:-1], first[-1]
        case BatchNorm() | LayerNorm() | Activation() | Softmax():
            return reads[0]
        case Pool2d() | GlobalPool() | Resize() | Pad():
            return first[0], reads[0][1], *first[2:]
        case Elementwise():
            return tuple(_wide(reads, axis - len(shape), size) for axis, size in enumerate(shape))
        case Concat(axis=axis):
            axis %= len(shape)
            starts = np.cumsum([0, *(sizes[axis] for sizes in extents)])[:-1]
            parts = [read[axis] + start for read, start in zip(reads, starts, strict=True)]
            return *reads[0][:axis], np.concatenate(parts), *reads[0][axis + 1 :]
        case Slice(axis=axis):
            axis %= len(shape)
            return *reads[0][:axis], _sliced(source.op, node.op, reads[0][axis]), *reads[0][axis + 1 :]
        case Transpose(order=order):
            return tuple(reads[0][axis] for axis in order)
        case Reshape():
            before = whole.space.input_shapes(source)[0]
            made = whole.space.shapes[node.key]
            if flattens(before, made):
                flat = np.ravel_multi_index(np.ix_(*reads[0][1:]), extents[0][1:])
                return first[0], flat.reshape(-1)
            return (first[0], reads[0][1], *first[2:]) if keeps_channels(before, made) else first
        case _:
            return first


def _repeated(index: Index, times: int) -> Index:
    return (index[:, None] * times + np.arange(times)).reshape(-1)


def _of_groups(width: int, most: int, groups: int, least_groups: int) -> Index:
    """The first channels of each group; of all channels where the number of groups itself is open."""
    if groups != least_groups or most % groups or width % groups:
        return np.arange(width)
    return (np.arange(groups)[:, None] * (most // groups) + np.arange(width // groups)).reshape(-1)


def _wide(reads: Sequence[tuple[Index, ...]], axis: int, size: int) -> Index:
    """The places along an axis of the first tensor that is not spread over it."""
    return next((read[axis] for read in reads if len(read) >= -axis and len(read[axis]) == size), np.arange(size))


def _sliced(open_op: Op, op: Slice, index: Index) -> Index:
    """What is left of an axis, counted from where the slice begins; first entries where its place is open."""
    start, stop = _int(op.start), _int(op.stop)
    kept = index[start : stop : op.step]
    assert isinstance(open_op, Slice)
    if isinstance(open_op.start, Choice) or isinstance(open_op.stop, Choice) or ((kept - start) % op.step).any():
        return np.arange(len(kept))
    places = (kept - start) // op.step
    return places if ((places >= 0) & (places < -(-(stop - start) // op.step))).all() else np.arange(len(kept))


def _window(
    op: Op, name: str, sizes: Sizes, taken: Sizes, reads: Sequence[tuple[Index, ...]], made: tuple[Index, ...]
) -> Window:
    first = [np.arange(size) for size in taken]
    match op:
        case Conv2d(groups=groups):
            if name == "bias":
                return (made[1],)
            read = reads[0][1] if groups == 1 else first[1]
            return made[1], read, *_centre(sizes[2:], taken[2:])
        case ConvTranspose2d(groups=groups):
            if name == "bias":
                return (made[1],)
            return reads[0][1], first[1], *_centre(sizes[2:], taken[2:])
        case Linear():
            return (made[-1],) if name == "bias" else (made[-1], reads[0][-1])
        case BatchNorm() | Activation():
            return (reads[0][1],)
        case LayerNorm(axes=axes):
            return reads[0][-axes:]
        case _:
            return tuple(first)


def _centre(sizes: Sizes, taken: Sizes) -> list[Index]:
    return [(most - size) // 2 + np.arange(size) for most, size in zip(sizes, taken, strict=True)]


def _int(value: Value) -> int:
    if isinstance(value, Choice):
        raise InvalidInput(f"{value} is still open; close the graph first")
    return int(value)

"""Channel groups: which tensors must have the same number of channels, and which widths can change at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph, Node
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
from chipfit.graph.shapes import product
from chipfit.graph.values import Shape, TableTooLarge, Value, always, equal


@dataclass(frozen=True, slots=True)
class ChannelGroup:
    """Tensors that share one width.

    `producers` are the keys of the convolutions and linear layers whose `out` sets it, in execution order, `members`
    all tensors that have it. `fixed` says why the width cannot change, None where it can. `name` is the key of the
    first producer.
    """

    name: str
    width: Value
    producers: tuple[str, ...]
    members: tuple[str, ...]
    fixed: str | None


@dataclass(frozen=True, slots=True)
class Segment:
    """Part of an axis: the channels of a group (an index into `Channels.groups`), each `repeat` times in a row."""

    group: int
    repeat: Value = 1


Axis = tuple[Segment, ...] | None
"""What an axis of a tensor consists of, in order; None for one that holds no channels of a group."""


@dataclass(frozen=True, slots=True)
class Channels:
    """The groups of a graph, with those that have no producer (inputs beside features), and the axes of all tensors."""

    groups: tuple[ChannelGroup, ...]
    axes: Mapping[str, tuple[Axis, ...]]


def is_depthwise(op: Op, channels: Value) -> bool:
    """Whether a convolution of this many input channels has its own filters for each of them, under every code."""
    if not isinstance(op, Conv2d):
        return False
    return always(equal(op.groups, channels)) and not always(equal(channels, 1))


def channel_groups(graph: Graph) -> tuple[ChannelGroup, ...]:
    """The groups of an open or closed graph that have a producer, in execution order.

    Raises `InvalidInput` where so many open widths meet in one tensor that its channels make no table.
    """
    return tuple(group for group in channels(graph).groups if group.producers)


def channels(graph: Graph) -> Channels:
    """Which channels each axis of each tensor consists of. Raises `InvalidInput` as `channel_groups` does."""
    try:
        return _Tracer(graph).trace()
    except TableTooLarge as error:
        raise InvalidInput(f"too many open widths meet in one tensor ({error}); open those of fewer groups") from None


def with_widths(graph: Graph, widths: Mapping[str, Value]) -> Graph:
    """The graph with other widths, by group name; depthwise convolutions and flattening reshapes follow.

    The decisions that the widths depend on must be in the graph.
    """
    found = channels(graph)
    changed = [group.name in widths for group in found.groups]
    width = [widths.get(group.name, group.width) for group in found.groups]
    outs = {key: value for group, value in zip(found.groups, width, strict=True) for key in group.producers}

    def size(axis: Axis) -> Value | None:
        if axis is None or not any(changed[part.group] for part in axis):
            return None
        return sum((width[part.group] * part.repeat for part in axis), start=0)  # type: ignore[return-value]

    nodes: list[Node] = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, (Conv2d, ConvTranspose2d, Linear)) and node.key in outs:
            op = replace(op, out=outs[node.key])
        elif isinstance(op, Conv2d) and (new := size(found.axes[node.inputs[0]][1])) is not None:
            op = replace(op, out=new * (op.out // op.groups), groups=new)
        elif isinstance(op, Reshape) and (new := size(found.axes[node.key][1])) is not None and op.sizes[0] != -1:
            op = replace(op, sizes=(new, *op.sizes[1:]))
        nodes.append(node if op == node.op else replace(node, op=op))
    return replace(graph, nodes=tuple(nodes))


class _Tracer:
    """One walk over a graph that joins channel axes; groups are sets of numbers until the end (union-find)."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.parents: list[int] = []
        self.widths: list[Value] = []
        self.makers: list[str] = []
        self.produced: list[bool] = []
        self.reasons: dict[int, str] = {}
        self.axes: dict[str, tuple[Axis, ...]] = {item.key: (None,) * len(item.shape) for item in graph.inputs}

    def trace(self) -> Channels:
        for node in self.graph.nodes:
            self.axes[node.key] = self._axes(node)
        for key in self.graph.outputs:
            for axis in self.axes[key]:
                self._fix(axis, f"{key!r} is an output of the network")
        return self._channels()

    def _axes(self, node: Node) -> tuple[Axis, ...]:
        op, shapes = node.op, self.graph.input_shapes(node)
        inputs = [self.axes[name] for name in node.inputs]
        match op:
            case Conv2d() if is_depthwise(op, shapes[0][1]):
                return None, _repeated(inputs[0][1], op.out // op.groups), None, None
            case Conv2d() | ConvTranspose2d():
                made = self._new(node.key, op.out)
                if not always(equal(op.groups, 1)):
                    for axis in (inputs[0][1], made):
                        self._fix(axis, f"{node.key!r} is a grouped convolution")
                return None, made, None, None
            case Linear():
                return *inputs[0][:-1], self._new(node.key, op.out)
            case Elementwise():
                return self._broadcast(node.key, inputs, shapes)
            case Select():
                result = inputs[0]
                for other in inputs[1:]:
                    result = tuple(self._join(a, b, node.key) for a, b in zip(result, other, strict=True))
                return result
            case Concat():
                return self._concat(node, inputs, shapes, op.axis % len(shapes[0]))
            case Slice():
                cut = op.axis % len(shapes[0])
                self._fix(inputs[0][cut], f"{node.key!r} slices it")
                return *inputs[0][:cut], None, *inputs[0][cut + 1 :]
            case Reshape():
                return self._reshape(node.key, inputs[0], shapes[0])
            case Transpose():
                return tuple(inputs[0][axis] for axis in op.order)
            case Constant():
                return (None,) * len(op.size)
            case BatchNorm() | LayerNorm() | Activation() | Softmax() | Pool2d() | GlobalPool() | Resize() | Pad():
                return inputs[0]
            case _:
                for axis in (axis for axes in inputs for axis in axes):
                    self._fix(axis, f"{node.key!r} ({type(op).__name__}) reads it")
                return (None,) * len(self.graph.shapes[node.key])

    def _broadcast(self, key: str, inputs: Sequence[tuple[Axis, ...]], shapes: Sequence[Shape]) -> tuple[Axis, ...]:
        rank = max(len(shape) for shape in shapes)
        result: list[Axis] = []
        for position in range(-rank, 0):
            parts = [
                (axes[position], shape[position])
                for axes, shape in zip(inputs, shapes, strict=True)
                if len(shape) >= -position
            ]
            wide = [axis for axis, size in parts if not always(equal(size, 1))]
            for axis, size in parts:
                if wide and always(equal(size, 1)):
                    self._fix(axis, f"{key!r} spreads its one channel over many")
            joined, *others = wide or [axis for axis, _ in parts]
            for axis in others:
                joined = self._join(joined, axis, key)
            result.append(joined)
        return tuple(result)

    def _concat(
        self, node: Node, inputs: Sequence[tuple[Axis, ...]], shapes: Sequence[Shape], along: int
    ) -> tuple[Axis, ...]:
        result = list(inputs[0])
        for position in range(len(result)):
            parts = [axes[position] for axes in inputs]
            if position != along:
                for other in parts[1:]:
                    result[position] = self._join(result[position], other, node.key)
            elif all(part is None for part in parts):
                result[position] = None
            else:
                whole: tuple[Segment, ...] = ()
                for name, part, shape in zip(node.inputs, parts, shapes, strict=True):
                    whole += part or self._given(name, shape[position])
                result[position] = whole
        return tuple(result)

    def _reshape(self, key: str, axes: tuple[Axis, ...], shape: Shape) -> tuple[Axis, ...]:
        """Channels stay where axis 1 stays, or where it is flattened together with all behind it."""
        result = self.graph.shapes[key]
        free: tuple[Axis, ...] = (None,) * len(result)
        if min(len(shape), len(result)) > 1 and all(axis is None for axis in (axes[0], *axes[2:])):
            if always(equal(shape[1], result[1])):
                return None, axes[1], *free[2:]
            if len(result) == 2:
                return None, _repeated(axes[1], product(shape[2:]))
        for axis in axes:
            self._fix(axis, f"{key!r} reshapes it")
        return free

    def _new(self, key: str, width: Value, produced: bool = True) -> tuple[Segment, ...]:
        self.parents.append(len(self.parents))
        self.widths.append(width)
        self.makers.append(key)
        self.produced.append(produced)
        return (Segment(len(self.parents) - 1),)

    def _given(self, key: str, width: Value) -> tuple[Segment, ...]:
        """A group for channels that come from no convolution or linear layer."""
        axis = self._new(key, width, produced=False)
        self._fix(axis, f"{key!r} has a fixed size")
        return axis

    def _root(self, number: int) -> int:
        while self.parents[number] != number:
            number = self.parents[number]
        return number

    def _fix(self, axis: Axis, reason: str) -> None:
        for part in axis or ():
            self.reasons.setdefault(self._root(part.group), reason)

    def _join(self, a: Axis, b: Axis, key: str) -> Axis:
        if a is None or b is None:
            self._fix(a or b, f"{key!r} joins it with a tensor of fixed size")
            return None
        same = len(a) == len(b) and all(
            always(equal(p.repeat, q.repeat)) and always(equal(self.widths[p.group], self.widths[q.group]))
            for p, q in zip(a, b, strict=False)
        )
        for part in zip(a, b, strict=True) if same else ():
            first, second = sorted(self._root(item.group) for item in part)
            self.parents[second] = first
            if second in self.reasons:
                self.reasons.setdefault(first, self.reasons[second])
        if not same:
            for axis in (a, b):
                self._fix(axis, f"{key!r} joins channels that are put together in different ways")
        return a

    def _channels(self) -> Channels:
        roots = [self._root(number) for number in range(len(self.parents))]
        index = {root: position for position, root in enumerate(dict.fromkeys(roots))}
        members: dict[int, dict[str, None]] = {root: {} for root in index}
        axes: dict[str, tuple[Axis, ...]] = {}
        for key, found in self.axes.items():
            for part in (part for axis in found for part in axis or ()):
                members[roots[part.group]][key] = None
            axes[key] = tuple(
                None if axis is None else tuple(replace(part, group=index[roots[part.group]]) for part in axis)
                for axis in found
            )
        groups: list[ChannelGroup] = []
        for root in index:
            numbers = [number for number, other in enumerate(roots) if other == root]
            producers = tuple(self.makers[number] for number in numbers if self.produced[number])
            own = (key for key in producers if self.graph.by_key[key].origin is None)
            name = next(own, self.makers[root])
            groups.append(
                ChannelGroup(name, self.widths[root], producers, tuple(members[root]), self.reasons.get(root))
            )
        return Channels(tuple(groups), axes)


def _repeated(axis: Axis, times: Value) -> Axis:
    return None if axis is None else tuple(replace(part, repeat=part.repeat * times) for part in axis)

"""Tensors that are equal to earlier ones, because changes of layout undo each other or change nothing."""

from __future__ import annotations

from collections.abc import Sequence

from chipfit.graph.graph import Graph, Node
from chipfit.graph.ops import Concat, Pad, Pool2d, Reshape, Resize, Slice, Transpose
from chipfit.graph.values import Shape, always, equal


def undone(graph: Graph, node: Node) -> str | None:
    """The tensor that a node gives back unchanged under every code, None where it changes something.

    Transposes and reshapes that undo the one before, slices of what was joined and joined slices, and whatever works
    on nothing: a slice of all, padding by 0, a resize to the same size, a window of one pixel.
    """
    before = graph.by_key.get(node.inputs[0]) if node.inputs else None
    match node.op:
        case Transpose(order=order):
            if order == tuple(sorted(order)):
                return node.inputs[0]
            if before is not None and isinstance(before.op, Transpose):
                back = tuple(before.op.order[axis] for axis in order)
                return before.inputs[0] if back == tuple(sorted(back)) else None
        case Reshape():
            return _before_reshapes(graph, node)
        case Slice():
            return _cut_out(graph, node, before, node.op)
        case Concat():
            return node.inputs[0] if len(node.inputs) == 1 else _joined(graph, node, node.op)
        case Pad(padding=padding):
            return node.inputs[0] if all(always(equal(pad, 0)) for pad in padding) else None
        case Resize() | Pool2d(kernel=(1, 1), stride=(1, 1), padding=(0, 0, 0, 0)):
            return node.inputs[0] if _alike(graph.shapes[node.key], graph.shapes[node.inputs[0]]) else None
        case _:
            pass
    return None


def _before_reshapes(graph: Graph, node: Node) -> str | None:
    """The tensor of the same shape that reshapes in a row began with, None where none has it."""
    key = node.key
    while (found := graph.by_key.get(key)) is not None and isinstance(found.op, Reshape):
        key = found.inputs[0]
        if _alike(graph.shapes[key], graph.shapes[node.key]):
            return key
    return None


def _cut_out(graph: Graph, node: Node, before: Node | None, op: Slice) -> str | None:
    """What a slice takes whole: its input, or one of the inputs of what was joined along the same axis."""
    shape = graph.shapes[node.inputs[0]]
    axis = op.axis % len(shape)
    if op.step != 1:
        return None
    if _is_part(graph, node, op, 0, shape):
        return node.inputs[0]
    if before is None or not isinstance(before.op, Concat) or before.op.axis % len(shape) != axis:
        return None
    start = 0
    for name in before.inputs:
        if _is_part(graph, node, op, start, graph.shapes[name]):
            return name
        start = start + graph.shapes[name][axis]
    return None


def _is_part(graph: Graph, node: Node, op: Slice, start: object, shape: Shape) -> bool:
    """Whether a slice begins at `start` and is as large as a part of `shape`."""
    return always(equal(op.start, start)) and _alike(graph.shapes[node.key], shape)  # type: ignore[arg-type]


def _joined(graph: Graph, node: Node, op: Concat) -> str | None:
    """The tensor that was sliced along an axis and is joined again, all parts in order."""
    parts = [graph.by_key.get(name) for name in node.inputs]
    if any(part is None or not isinstance(part.op, Slice) for part in parts):
        return None
    source = parts[0].inputs[0]  # type: ignore[union-attr]
    rank = len(graph.shapes[source])
    end = 0
    for part in parts:
        cut = part.op  # type: ignore[union-attr]
        assert isinstance(cut, Slice)
        along = part.inputs[0] == source and cut.axis % rank == op.axis % rank and cut.step == 1  # type: ignore[union-attr]
        if not along or not always(equal(cut.start, end)):
            return None
        end = end + graph.shapes[part.key][op.axis % rank]  # type: ignore[union-attr]
    return source if _alike(graph.shapes[source], graph.shapes[node.key]) else None


def _alike(a: Sequence[object], b: Sequence[object]) -> bool:
    return len(a) == len(b) and all(always(equal(x, y)) for x, y in zip(a, b, strict=True))  # type: ignore[arg-type]

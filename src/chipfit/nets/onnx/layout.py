"""ONNX operators that only move numbers, as nodes of a graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from chipfit.graph.ops import Concat
from chipfit.nets import composed
from chipfit.nets import draft as to
from chipfit.nets.draft import Unrepresentable
from chipfit.nets.onnx.call import Call

FLOATS = (1, 10, 11, 16)
"""ONNX numbers of the types that are floating-point numbers: float, float16, double, bfloat16."""


def _same(call: Call) -> str:
    return call.tensor()


def _dropout(call: Call) -> str:
    training = call.optional(2)
    if any(call.outputs[1:]) or (training is not None and training.any()):
        raise Unrepresentable("dropout in training mode")
    return call.tensor()


def _cast(call: Call) -> str:
    if call.attributes.get("to") not in FLOATS:
        raise Unrepresentable("a cast to whole numbers")
    return call.tensor()


def _reshape(call: Call) -> str:
    target = [int(size) for size in call.array(1).reshape(-1)]
    given = call.shape()
    # Sizes after a copied batch were written by hand, others follow from shapes that were worked out.
    literal = target[:1] == [0]
    if 0 in target:
        call.only(allowzero=0)
        if any(size == 0 and axis >= len(given) for axis, size in enumerate(target)):
            raise Unrepresentable(f"shape {target}")
        target = [given[axis] if size == 0 else size for axis, size in enumerate(target)]
    if target[:1] == [-1]:
        rest = math.prod(target[1:])
        target[0] = math.prod(given) // rest if rest else 0
    return to.reshape(call.draft, call.key, call.tensor(), target, literal)


def _flatten(call: Call) -> str:
    if int(call.attributes.get("axis", 1)) % len(call.shape()) != 1:
        raise Unrepresentable("the batch does not stay first")
    return to.reshape(call.draft, call.key, call.tensor(), (call.shape()[0], -1))


def _squeeze(call: Call) -> str:
    shape = call.shape()
    listed = call.listed("axes", 1)
    axes = {axis % len(shape) for axis in listed} if listed else {axis for axis, size in enumerate(shape) if size == 1}
    if 0 in axes:
        raise Unrepresentable("the batch is dropped")
    target = [size for axis, size in enumerate(shape) if axis not in axes]
    return to.reshape(call.draft, call.key, call.tensor(), target)


def _unsqueeze(call: Call) -> str:
    shape, listed = call.shape(), call.listed("axes", 1) or []
    rank = len(shape) + len(listed)
    axes = {axis % rank for axis in listed}
    if 0 in axes or len(axes) != len(listed):
        raise Unrepresentable("an axis before the batch, or one twice")
    sizes = iter(shape)
    target = [1 if axis in axes else next(sizes) for axis in range(rank)]
    return to.reshape(call.draft, call.key, call.tensor(), target)


def _transpose(call: Call) -> str:
    order = call.ints("perm", range(len(call.shape()) - 1, -1, -1))
    return to.transpose(call.draft, call.key, call.tensor(), order)


def _expand(call: Call) -> str:
    target = tuple(int(size) for size in call.array(1).reshape(-1))
    full = np.broadcast_shapes(target, call.shape())
    return call.tensor() if full == call.shape() else composed.spread(call.draft, call.key, call.tensor(), full)


def _concat(call: Call) -> str:
    axis = int(call.attributes["axis"])
    tensors = [call.tensor(index) for index in range(len(call.inputs))]
    if axis % len(call.shape()) == 0:
        raise Unrepresentable("along the batch")
    return call.draft.add(call.key, Concat(axis), tensors)


def _split(call: Call) -> list[str]:
    axis = int(call.attributes.get("axis", 0))
    size, count = call.shape()[axis], len(call.outputs)
    parts = call.listed("split", 1)
    if parts is None:
        chunk = -(-size // int(call.attributes.get("num_outputs", count)))
        parts = [min(chunk, size - start) for start in range(0, size, chunk)]
    if len(parts) != count or sum(parts) != size:
        raise Unrepresentable(f"{count} parts of {size}")
    source, bounds = call.tensor(), np.cumsum([0, *parts]).tolist()
    return [
        to.cut(call.draft, f"{call.key}.{index}", source, axis, bounds[index], bounds[index + 1])
        for index in range(count)
    ]


def _slice(call: Call) -> str:
    starts, stops = call.array(1).tolist(), call.array(2).tolist()
    axes, steps = call.optional(3), call.optional(4)
    along = range(len(starts)) if axes is None else axes.tolist()
    strides = [1] * len(starts) if steps is None else steps.tolist()
    parts = list(zip(along, starts, stops, strides, strict=True))
    result = call.tensor()
    for index, (axis, start, stop, step) in enumerate(parts):
        key = call.key if index == len(parts) - 1 else f"{call.key}.{index}"
        result = to.cut(call.draft, key, result, int(axis), int(start), int(stop), int(step))
    return result


def _gather(call: Call) -> str:
    axis, index = int(call.attributes.get("axis", 0)), call.array(1)
    if index.ndim == 0:
        return to.select(call.draft, call.key, call.tensor(), axis, int(index))
    if index.ndim != 1 or axis % len(call.shape()) == 0:
        raise Unrepresentable("a gather of parts of several axes, or of the batch")
    return composed.gather(call.draft, call.key, call.tensor(), axis, [int(entry) for entry in index])


def _pad(call: Call) -> str:
    call.only(mode="constant")
    rank, pads = len(call.shape()), call.listed("pads", 1) or []
    listed = call.optional(3)
    axes = list(range(rank)) if listed is None else [int(axis) % rank for axis in listed.tolist()]
    before, after = [0] * rank, [0] * rank
    for position, axis in enumerate(axes):
        before[axis], after[axis] = pads[position], pads[position + len(axes)]
    return composed.pad(call.draft, call.key, call.tensor(), before, after, call.scalar(2) or 0.0)


def _depth_to_space(call: Call) -> str:
    if len(call.shape()) != 4:
        raise Unrepresentable("no image")
    outside = call.text("mode", "DCR") == "CRD"
    return to.depth_to_space(call.draft, call.key, call.tensor(), int(call.attributes["blocksize"]), outside)


LAYOUT: Mapping[str, Callable[[Call], str | list[str]]] = {
    "Identity": _same,
    "Dropout": _dropout,
    "Cast": _cast,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Expand": _expand,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _pad,
    "DepthToSpace": _depth_to_space,
}

"""Arithmetic on shapes that the operators' rules share."""

from __future__ import annotations

import math
from collections.abc import Sequence

from chipfit.errors import InvalidGraph
from chipfit.graph.values import Shape, Value, always, either, equal, maximum


def product(values: Sequence[Value]) -> Value:
    """Product of values; 1 for none."""
    return math.prod(values)  # type: ignore[arg-type]


def window(size: Value, kernel: Value, stride: Value, pads: Value, dilation: Value = 1) -> Value:
    """Output size of a sliding window along one axis; `pads` is the padding of both ends together."""
    return (size + pads - dilation * (kernel - 1) - 1) // stride + 1


def broadcast(shapes: Sequence[Shape]) -> Shape:
    """Shape of an element-wise result (NumPy's rule). Raises `InvalidGraph` where sizes disagree."""
    if all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    rank = max(len(shape) for shape in shapes)
    result: list[Value] = []
    for axis in range(-rank, 0):
        sizes = [shape[axis] for shape in shapes if len(shape) >= -axis]
        size = sizes[0]
        for other in sizes[1:]:
            if not always(either(equal(size, other), either(equal(size, 1), equal(other, 1)))):
                raise InvalidGraph(f"shapes {list(shapes)} do not fit element by element")
            size = maximum(size, other)
        result.append(size)
    return tuple(result)


def need(op: object, inputs: Sequence[Shape], count: int, rank: int | None = None) -> None:
    """Raises `InvalidGraph` unless an operator has this many inputs, of this rank."""
    if len(inputs) != count:
        raise InvalidGraph(f"{type(op).__name__} needs {count} input(s), got {len(inputs)}")
    if rank is not None and any(len(shape) != rank for shape in inputs):
        raise InvalidGraph(f"{type(op).__name__} needs {rank}-dimensional input, got shape {inputs[0]}")

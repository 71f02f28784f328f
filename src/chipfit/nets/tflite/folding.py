"""Arithmetic on shapes and constants that a file leaves to run time, worked out when it is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from chipfit.nets.draft import Unrepresentable
from chipfit.nets.tflite.call import Array, Call
from chipfit.nets.tflite.layout_in import strides, target_shape
from chipfit.nets.tflite.reader import DTYPES, TYPES, Damaged
from chipfit.nets.tflite.views import Known

LARGEST_FOLDED = 2**22
"""Elements up to which a result is worked out."""


def fold(call: Call) -> list[Array] | None:
    """The results of an operator whose inputs are all known; None for what has to be computed at run time."""
    name = call.stored.name
    if name == "SHAPE":
        return [np.array(call.shape(), np.int64)]
    rule = RULES.get(name)
    if rule is None or not all(item is None or isinstance(item, Known) for item in call.inputs):
        return None
    with np.errstate(all="raise"):
        results = rule(call)
    return results if isinstance(results, list) else [results]


def _pair(function: Callable[[Array, Array], Array]) -> Callable[[Call], Array]:
    def rule(call: Call) -> Array:
        left, right = call.known(0), call.known(1)
        _limit(np.broadcast_shapes(left.shape, right.shape))
        return np.asarray(function(left, right))

    return rule


def _limit(shape: tuple[int, ...]) -> tuple[int, ...]:
    if min(shape, default=0) < 0 or math.prod(shape) > LARGEST_FOLDED:
        raise Unrepresentable(f"a constant of shape {shape}")
    return shape


def _same(call: Call) -> Array:
    return call.known(0)


def _cast(call: Call) -> Array:
    kind = TYPES.get(call.option("OutDataType"), "")
    if kind not in DTYPES:
        raise Unrepresentable(f"a cast to {kind}")
    return call.known(0).astype(DTYPES[kind])


def _reshape(call: Call) -> Array:
    array = call.known(0)
    wanted = call.integers(1) if call.has(1) else call.listed("NewShape")
    return array.reshape(target_shape(array.size, wanted))


def _squeeze(call: Call) -> Array:
    return np.squeeze(call.known(0), tuple(call.listed("SqueezeDims")) or None)


def _expand_dims(call: Call) -> Array:
    return np.expand_dims(call.known(0), call.integers(1)[0])


def _joined(call: Call, arrays: list[Array]) -> Array:
    if sum(array.size for array in arrays) > LARGEST_FOLDED:
        raise Unrepresentable("a constant that is too large")
    return np.concatenate(arrays, call.option("Axis"))


def _concat(call: Call) -> Array:
    return _joined(call, [call.known(index) for index in range(len(call.inputs))])


def _pack(call: Call) -> Array:
    axis = call.option("Axis")
    return _joined(call, [np.expand_dims(call.known(index), axis) for index in range(len(call.inputs))])


def _unpack(call: Call) -> list[Array]:
    array, axis = call.known(0), call.option("Axis")
    if array.shape[axis] != len(call.shapes):
        raise Damaged(f"{len(call.shapes)} parts of shape {array.shape}")
    return list(np.moveaxis(array, axis, 0))


def _strided_slice(call: Call) -> Array:
    array = call.known(0)
    cuts, single = strides(call, array.shape)
    return np.squeeze(array[tuple(cuts)], tuple(single)) if single else array[tuple(cuts)]


def _slice(call: Call) -> Array:
    array = call.known(0)
    pairs = zip(call.integers(1), call.integers(2), strict=True)
    return array[tuple(slice(start, None if size == -1 else start + size) for start, size in pairs)]


def _gather(call: Call) -> Array:
    if call.option("BatchDims"):
        raise Unrepresentable("a gather by batch")
    array, index, axis = call.known(0), call.known(1), call.option("Axis")
    _limit((array.size // max(array.shape[axis], 1), index.size))
    return np.take(array, index, axis)


def _product(call: Call) -> Array:
    return np.prod(call.known(0), tuple(call.integers(1)), keepdims=bool(call.option("KeepDims", False)))


def _fill(call: Call) -> Array:
    return np.full(_limit(tuple(call.integers(0))), call.known(1).reshape(()))


def _range(call: Call) -> Array:
    start, stop, step = (call.known(index).reshape(-1)[0] for index in (0, 1, 2))
    _limit((math.ceil((float(stop) - float(start)) / float(step)),))
    return np.arange(start, stop, step)


def _transpose(call: Call) -> Array:
    return np.transpose(call.known(0), call.integers(1))


RULES: Mapping[str, Callable[[Call], Array | list[Array]]] = {
    "QUANTIZE": _same,
    "DEQUANTIZE": _same,
    "CAST": _cast,
    "RESHAPE": _reshape,
    "SQUEEZE": _squeeze,
    "EXPAND_DIMS": _expand_dims,
    "CONCATENATION": _concat,
    "PACK": _pack,
    "UNPACK": _unpack,
    "STRIDED_SLICE": _strided_slice,
    "SLICE": _slice,
    "GATHER": _gather,
    "REDUCE_PROD": _product,
    "FILL": _fill,
    "RANGE": _range,
    "TRANSPOSE": _transpose,
    "ADD": _pair(np.add),
    "SUB": _pair(np.subtract),
    "MUL": _pair(np.multiply),
    "DIV": _pair(lambda a, b: a // b if a.dtype.kind in "iu" else a / b),
    "FLOOR_DIV": _pair(np.floor_divide),
    "FLOOR_MOD": _pair(np.mod),
    "MAXIMUM": _pair(np.maximum),
    "MINIMUM": _pair(np.minimum),
}
"""What is worked out, by operator. None of them makes more of little than `LARGEST_FOLDED` allows."""

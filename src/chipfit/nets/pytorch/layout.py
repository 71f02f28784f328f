"""PyTorch's operators (ATen) that only move numbers, as nodes of a graph."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping

import numpy as np
import torch

from chipfit.graph.ops import Concat
from chipfit.nets import composed
from chipfit.nets import draft as to
from chipfit.nets.draft import Unrepresentable
from chipfit.nets.pytorch.call import Call


def _pad(call: Call) -> str:
    pairs, rank = call.ints("pad"), len(call.shape("self"))
    before, after = [0] * rank, [0] * rank
    for position in range(len(pairs) // 2):
        before[-1 - position], after[-1 - position] = pairs[2 * position : 2 * position + 2]
    mode = call.arguments.get("mode", "constant")
    if mode != "constant":
        return composed.mirror(call.draft, call.key, call.tensor("self"), before, after, mode)
    return composed.pad(call.draft, call.key, call.tensor("self"), before, after, float(call.arguments["value"] or 0))


def _view(target: str) -> Callable[[Call], str]:
    return lambda call: to.reshape(call.draft, call.key, call.tensor("self"), call.ints(target))


def _squeeze(call: Call) -> str:
    shape = call.shape("self")
    listed = call.ints("dim") if "dim" in call.arguments else list(range(len(shape)))
    axes = {axis % len(shape) for axis in listed if shape[axis] == 1}
    target = [size for axis, size in enumerate(shape) if axis not in axes]
    return to.reshape(call.draft, call.key, call.tensor("self"), target)


def _unsqueeze(call: Call) -> str:
    shape = list(call.shape("self"))
    axis = int(call.arguments["dim"]) % (len(shape) + 1)
    return to.reshape(call.draft, call.key, call.tensor("self"), [*shape[:axis], 1, *shape[axis:]])


def _permute(call: Call) -> str:
    return _moved(call, call.ints("dims"))


def _moved(call: Call, order: list[int]) -> str:
    if call.lifted:
        return composed.transpose_without_ones(call.draft, call.key, call.tensor("self"), order)
    return to.transpose(call.draft, call.key, call.tensor("self"), order)


def _transpose(call: Call) -> str:
    order = list(range(len(call.shape("self"))))
    a, b = int(call.arguments["dim0"]), int(call.arguments["dim1"])
    order[a], order[b] = order[b], order[a]
    return _moved(call, order)


def _expand(call: Call) -> str:
    shape, target = call.shape("self"), call.ints("size")
    if len(target) != len(shape):
        raise Unrepresentable(f"repetition to {target}")
    wanted = [given if size == -1 else size for given, size in zip(shape, target, strict=True)]
    if call.broadcasts or tuple(wanted) == shape:
        return call.tensor("self")
    return composed.spread(call.draft, call.key, call.tensor("self"), wanted)


def _repeat(call: Call) -> str:
    return composed.repeat(call.draft, call.key, call.tensor("self"), call.ints("repeats"))


def _roll(call: Call) -> str:
    source = call.tensor("self")
    for axis, shift in zip(call.ints("dims"), call.ints("shifts"), strict=True):
        if axis % len(call.shape("self")) == 0:
            raise Unrepresentable("along the batch")
        source = composed.roll(call.draft, call.key, source, axis, shift)
    return source


def _index_select(call: Call) -> str:
    return _gathered(call, int(call.arguments["dim"]), call.arguments["index"])


def _index(call: Call) -> str:
    given = [(axis, index) for axis, index in enumerate(call.arguments["indices"]) if index is not None]
    if len(given) != 1:
        raise Unrepresentable("entries by several indices")
    return _gathered(call, *given[0])


def _gathered(call: Call, axis: int, index: object) -> str:
    if not isinstance(index, torch.Tensor) or index.ndim != 1 or axis % len(call.shape("self")) == 0:
        raise Unrepresentable("entries that are known at run time only, or of the batch")
    wanted = index.nonzero().flatten() if index.dtype == torch.bool else index
    return composed.gather(call.draft, call.key, call.tensor("self"), axis, wanted.tolist())


def _cat(call: Call) -> str:
    tensors, axis = call.arguments["tensors"], int(call.arguments["dim"])
    keys = [call.key_of(value, f"tensors.{index}") for index, value in enumerate(tensors)]
    if axis % len(call.draft.shapes[keys[0]]) == 0:
        raise Unrepresentable("along the batch")
    return call.draft.add(call.key, Concat(axis), keys)


def _split(call: Call) -> list[str]:
    axis = int(call.arguments["dim"])
    size = call.shape("self")[axis]
    if "split_sizes" in call.arguments:
        bounds = np.cumsum([0, *call.ints("split_sizes")]).tolist()
    else:
        bounds = [*range(0, size, int(call.arguments["split_size"])), size]
    source = call.tensor("self")
    return [
        to.cut(call.draft, f"{call.key}.{index}", source, axis, start, stop)
        for index, (start, stop) in enumerate(itertools.pairwise(bounds))
    ]


def _slice(call: Call) -> str:
    given, source, axis = call.arguments, call.tensor("self"), int(call.arguments["dim"])
    size = call.shape("self")[axis]
    start = 0 if given["start"] is None else int(given["start"])
    stop = size if given["end"] is None else int(given["end"])
    step = int(given["step"])
    if slice(start, stop, step).indices(size) == (0, size, 1):
        return source
    return to.cut(call.draft, call.key, source, axis, start, stop, step)


def _select(call: Call) -> str:
    return to.select(
        call.draft, call.key, call.tensor("self"), int(call.arguments["dim"]), int(call.arguments["index"])
    )


def _unbind(call: Call) -> list[str]:
    axis = int(call.arguments["dim"])
    count, source = call.shape("self")[axis], call.tensor("self")
    return [to.select(call.draft, f"{call.key}.{index}", source, axis, index) for index in range(count)]


def _pixel_shuffle(call: Call) -> str:
    return to.depth_to_space(call.draft, call.key, call.tensor("self"), int(call.arguments["upscale_factor"]), True)


def _same(call: Call) -> str:
    return call.tensor(next(iter(call.arguments)))


def _to(call: Call) -> str:
    kind = call.arguments.get("dtype")
    if kind is not None and not kind.is_floating_point:
        raise Unrepresentable("a cast to whole numbers")
    return call.tensor("self")


LAYOUT: Mapping[str, Callable[[Call], str | list[str]]] = {
    "pad": _pad,
    "constant_pad_nd": _pad,
    **dict.fromkeys(("view", "_unsafe_view"), _view("size")),
    "reshape": _view("shape"),
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "permute": _permute,
    "transpose": _transpose,
    "expand": _expand,
    "repeat": _repeat,
    "roll": _roll,
    "index_select": _index_select,
    "index": _index,
    "cat": _cat,
    "split": _split,
    "split_with_sizes": _split,
    "slice": _slice,
    "select": _select,
    "unbind": _unbind,
    "pixel_shuffle": _pixel_shuffle,
    **dict.fromkeys(("clone", "contiguous", "dropout", "alias", "detach", "lift_fresh_copy"), _same),
    **dict.fromkeys(("to", "_to_copy"), _to),
}

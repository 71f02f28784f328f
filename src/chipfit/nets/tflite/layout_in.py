"""TFLite operators that only move numbers, as nodes of a graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from chipfit.graph.ops import Concat, Pad, Resize
from chipfit.nets import draft as to
from chipfit.nets.draft import Unrepresentable
from chipfit.nets.tflite.call import Array, Call
from chipfit.nets.tflite.reader import Damaged
from chipfit.nets.tflite.views import IMAGE, Known, Operand, View

FLOATS = (0, 1, 10, 18)
"""Numbers of the types that are floating-point numbers: float32, float16, float64, bfloat16."""

LONGEST_RESIZE = 2**16
"""Pixels of a side beyond which a resize is not worked out."""


def target_shape(total: int, wanted: Sequence[int]) -> tuple[int, ...]:
    """The shape of `total` numbers that is meant by sizes of which one may be -1. Raises `Damaged` for other sizes."""
    if min(wanted, default=1) < -1 or list(wanted).count(-1) > 1:
        raise Damaged(f"a reshape to {list(wanted)}")
    rest = math.prod(size for size in wanted if size != -1)
    return tuple(total // max(rest, 1) if size == -1 else size for size in wanted)


def _same(call: Call) -> Operand:
    return call.given(0)


def _cast(call: Call) -> Operand:
    if call.option("OutDataType") not in FLOATS:
        raise Unrepresentable("a cast to whole numbers")
    return call.given(0)


def _reshape(call: Call) -> Operand:
    total = math.prod(call.shape())
    if call.has(1):
        wanted = call.integers(1)
    else:
        wanted = call.listed("NewShape") or list(call.shapes[0])
    return call.views.reshaped(call.key, call.view(), target_shape(total, wanted))


def _squeeze(call: Call) -> Operand:
    shape, listed = call.shape(), call.listed("SqueezeDims")
    axes = {axis % len(shape) for axis in listed} if listed else {axis for axis, size in enumerate(shape) if size == 1}
    return _without(call, call.key, call.view(), axes)


def _without(call: Call, key: str, view: View, axes: set[int]) -> View:
    """A tensor without these axes of size 1."""
    shape = call.views.shape(view)
    found = call.views.reshaped(key, view, [size for axis, size in enumerate(shape) if axis not in axes])
    assert isinstance(found, View)
    return found


def _expand(call: Call, key: str, view: View, axis: int) -> View:
    """A tensor with an axis of size 1 more."""
    shape = list(call.views.shape(view))
    if not -len(shape) - 1 <= axis <= len(shape):
        raise Damaged(f"a new axis {axis} in {len(shape)}")
    shape.insert(axis % (len(shape) + 1), 1)
    found = call.views.reshaped(key, view, shape)
    assert isinstance(found, View)
    return found


def _expand_dims(call: Call) -> Operand:
    return _expand(call, call.key, call.view(), call.integers(1)[0])


def _transpose(call: Call) -> Operand:
    view, axes = call.view(), call.integers(1)
    if sorted(axes) != list(range(len(view.order))):
        raise Damaged(f"axes {axes} of {len(view.order)}")
    if call.views.batched(view) and axes[0] != 0:
        view = call.views.unbatched(f"{call.key}.axes", view)
    moved = View(view.key, tuple(view.order[axis] for axis in axes))
    shape = call.views.shape(moved)
    if not call.views.batched(moved) and shape[:1] == (1,):
        return call.views.reshaped(f"{call.key}.axes", moved, shape)
    return moved


def _concat(call: Call) -> Operand:
    views = call.aligned(range(len(call.inputs)))
    return call.activated(_joined(call, call.inner("concat"), views, call.option("Axis")))


def _joined(call: Call, key: str, views: Sequence[View], axis: int) -> View:
    if call.axis(views[0], axis) == 0:
        views = [call.views.plain(call.views.unbatched(f"{key}.axes", view)) for view in views]
    along = call.axis(views[0], axis)
    return View(call.draft.add(key, Concat(along), [view.key for view in views]), views[0].order)


def _pack(call: Call) -> Operand:
    axis, count = call.option("Axis"), len(call.inputs)
    parts = [_expand(call, f"{call.key}.{index}", call.view(index), axis) for index in range(count)]
    orders = {(part.order, call.views.batched(part)) for part in parts}
    if len(orders) > 1:
        parts = [call.views.plain(part) for part in parts]
    return _joined(call, call.key, parts, axis)


def _unpack(call: Call) -> Sequence[View]:
    view, axis = call.view(), call.option("Axis")
    along, count = call.axis(view, axis), call.option("Num")
    if count != call.shape()[axis] or count != len(call.shapes):
        raise Damaged(f"{count} parts of shape {call.shape()}")
    parts = [_cut(call, f"{call.key}.{index}", view, along, index, index + 1) for index in range(count)]
    where = {axis % len(view.order)}
    return [_without(call, f"{call.key}.{index}.squeeze", part, where) for index, part in enumerate(parts)]


def _cut(call: Call, key: str, view: View, along: int, start: int, stop: int, step: int = 1) -> View:
    """A slice along an axis of the graph; nothing where it is the whole axis."""
    size = call.draft.shapes[view.key][along]
    if slice(start, stop).indices(size)[:2] == (0, size) and step == 1:
        return view
    return View(to.cut(call.draft, key, view.key, along, start, stop, step), view.order)


def _parts(call: Call, view: View, axis: int, sizes: Sequence[int]) -> Sequence[View]:
    along, bounds = call.axis(view, axis), np.cumsum([0, *sizes]).tolist()
    if min(sizes, default=0) < 1 or bounds[-1] != call.draft.shapes[view.key][along] or len(sizes) != len(call.shapes):
        raise Damaged(f"parts of {list(sizes)} along axis {axis} of shape {call.views.shape(view)}")
    return [
        _cut(call, f"{call.key}.{index}", view, along, bounds[index], bounds[index + 1]) for index in range(len(sizes))
    ]


def _split(call: Call) -> Sequence[View]:
    view, axis, count = call.view(1), call.integers(0)[0], len(call.shapes)
    size = call.draft.shapes[view.key][call.axis(view, axis)]
    return _parts(call, view, axis, [size // count] * count)


def _split_v(call: Call) -> Sequence[View]:
    view, sizes, axis = call.view(), call.integers(1), call.integers(2)[0]
    size = call.draft.shapes[view.key][call.axis(view, axis)]
    return _parts(call, view, axis, target_sum(size, sizes))


def target_sum(size: int, parts: Sequence[int]) -> list[int]:
    """Parts of which one may be -1: what the others leave."""
    rest = size - sum(part for part in parts if part != -1)
    return [rest if part == -1 else part for part in parts]


def _slice(call: Call) -> Operand:
    view, starts, sizes = call.view(), call.integers(1), call.integers(2)
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        along = call.axis(view, axis)
        stop = call.draft.shapes[view.key][along] if size == -1 else start + size
        if start < 0 or stop > call.draft.shapes[view.key][along]:
            raise Damaged(f"a slice from {start} to {stop} of shape {call.views.shape(view)}")
        view = _cut(call, call.key, view, along, start, stop)
    return view


def strides(call: Call, shape: Sequence[int]) -> tuple[list[slice], set[int]]:
    """The slices of a strided slice, one for each of the first axes, and the axes of which one entry is taken."""
    if call.option("EllipsisMask") or call.option("NewAxisMask"):
        raise Unrepresentable("a slice with an ellipsis or a new axis")
    starts, stops, steps = call.integers(1), call.integers(2), call.integers(3)
    if len(starts) > len(shape):
        raise Damaged(f"a slice along {len(starts)} axes of shape {tuple(shape)}")
    cuts: list[slice] = []
    single: set[int] = set()
    for axis, (start, stop, step) in enumerate(zip(starts, stops, steps, strict=True)):
        if call.option("ShrinkAxisMask") >> axis & 1:
            if not -shape[axis] <= start < shape[axis]:
                raise Damaged(f"entry {start} of shape {tuple(shape)}")
            cuts.append(slice(start % shape[axis], start % shape[axis] + 1))
            single.add(axis)
            continue
        if step < 1:
            raise Unrepresentable("a reversed slice")
        low = 0 if call.option("BeginMask") >> axis & 1 else start
        high = shape[axis] if call.option("EndMask") >> axis & 1 else stop
        cuts.append(slice(*slice(low, high).indices(shape[axis])[:2], step))
    return cuts, single


def _strided_slice(call: Call) -> Operand:
    view = call.view()
    cuts, single = strides(call, call.shape())
    for axis, cut in enumerate(cuts):
        view = _cut(call, call.key, view, call.axis(view, axis), cut.start, cut.stop, cut.step or 1)
    return _without(call, f"{call.key}.squeeze", view, single) if single else view


def _gather(call: Call) -> Operand:
    view, index, axis = call.view(), call.known(1), call.option("Axis")
    along, size = call.axis(view, axis), call.shape()[axis]
    wanted = [int(entry) for entry in index.reshape(-1)]
    if call.option("BatchDims") or index.ndim > 1 or not wanted:
        raise Unrepresentable("a gather along several axes")
    if min(wanted) < 0 or max(wanted) >= size:
        raise Damaged(f"entries {min(wanted)} to {max(wanted)} of {size}")
    if wanted != list(range(wanted[0], wanted[0] + len(wanted))):
        raise Unrepresentable("a gather that is no slice")
    part = _cut(call, call.key, view, along, wanted[0], wanted[-1] + 1)
    return part if index.ndim else _without(call, f"{call.key}.squeeze", part, {axis % len(view.order)})


def _pad(call: Call) -> Operand:
    view, pads = call.view(), call.known(1)
    value = call.scalar(2) if call.has(2) else 0.0
    if pads.shape != (len(view.order), 2) or pads.min() < 0:
        raise Damaged(f"padding of shape {pads.shape} for {len(view.order)} axes")
    padded = {axis: (int(low), int(high)) for axis, (low, high) in enumerate(pads) if low or high}
    if any(view.order[axis] == 0 for axis in padded):
        raise Unrepresentable("padding of the batch")
    # Two axes at a time, as height and width.
    axes = list(padded)
    for start in range(0, len(axes), 2):
        key = call.key if start + 2 >= len(axes) else f"{call.key}.{start}"
        view = _padded(call, key, view, {axis: padded[axis] for axis in axes[start : start + 2]}, value)
    return view


def _padded(call: Call, key: str, view: View, pads: Mapping[int, tuple[int, int]], value: float) -> View:
    """Padding along one or two axes of the file."""
    by_place = {view.order[axis]: sides for axis, sides in pads.items()}
    shape, places = call.draft.shapes[view.key], sorted(by_place)
    if len(shape) == 4 and places[0] >= 2:
        (top, bottom), (left, right) = by_place.get(2, (0, 0)), by_place.get(3, (0, 0))
        result = call.draft.add(key, Pad((top, left, bottom, right), value), [view.key])
        if value <= _lowest(call, 2):
            call.views.lowest.add(result)
        return View(result, view.order)
    # The axes that are padded become height and width for as long as it takes.
    rest = [place for place in range(1, len(shape)) if place not in places]
    moved = [0, *rest, *places]
    turned = call.views.arranged(view, [moved.index(place) for place in view.order])
    kept, last = [shape[place] for place in rest], [shape[place] for place in places]
    sizes = [1, math.prod(kept), *[1] * (2 - len(last)), *last]
    plane = to.reshape(call.draft, f"{key}.plane", turned.key, sizes)
    (top, bottom), (left, right) = [(0, 0)] * (2 - len(places)) + [by_place[place] for place in places]
    result = call.draft.add(key, Pad((top, left, bottom, right), value), [plane])
    wider = [size + sum(by_place[place]) for size, place in zip(last, places, strict=True)]
    return View(to.reshape(call.draft, f"{key}.axes", result, [1, *kept, *wider]), turned.order)


def _lowest(call: Call, index: int) -> float:
    """The least number that the type of an input holds; for one that is left out, less than any."""
    item = call.given(index) if call.has(index) else None
    if not isinstance(item, Known):
        return -math.inf
    if item.quantisation is None:
        return float(np.finfo(np.float32).min)
    return item.quantisation.scales[0] * (item.quantisation.range[0] + 0.5 - item.quantisation.zero_points[0])


def _depth_to_space(call: Call) -> Operand:
    image, block = call.image(), call.option("BlockSize")
    if block < 1 or call.draft.shapes[image][1] % block**2:
        raise Damaged(f"blocks of {block} in {call.draft.shapes[image][1]} channels")
    return View(to.depth_to_space(call.draft, call.key, image, block, channels_outside=False), IMAGE)


def _space_to_depth(call: Call) -> Operand:
    image, block = call.image(), call.option("BlockSize")
    _, channels, height, width = call.draft.shapes[image]
    if block < 1 or height % block or width % block:
        raise Damaged(f"blocks of {block} in {height}x{width}")
    sizes = (1, channels, height // block, block, width // block, block)
    blocks = to.reshape(call.draft, f"{call.key}.blocks", image, sizes)
    moved = to.transpose(call.draft, f"{call.key}.transpose", blocks, (0, 3, 5, 1, 2, 4))
    shape = (1, block**2 * channels, height // block, width // block)
    return View(to.reshape(call.draft, call.key, moved, shape), IMAGE)


def _resize(mode: str) -> Callable[[Call], Operand]:
    def build(call: Call) -> Operand:
        image, target = call.image(), call.integers(1)
        given = call.draft.shapes[image][2:]
        if len(target) != 2 or min(target) < 1:
            raise Damaged(f"a resize to {target}")
        if max(*target, *given) > LONGEST_RESIZE:
            raise Unrepresentable(f"a resize to {target}")
        align, half = bool(call.option("AlignCorners")), bool(call.option("HalfPixelCenters"))
        read = [_positions(size, to_size, align, half) for size, to_size in zip(given, target, strict=True)]
        if mode == "nearest":
            read = [np.floor(axis + 0.5) if align else np.floor(axis + 0.5 * half) for axis in read]
        corners = _convention(mode, given, target, read)
        op = Resize(mode, None, (target[0], target[1]), corners)
        if all(wide % size == 0 for size, wide in zip(given, target, strict=True)) and not corners:
            # A factor still holds when the size of the input changes.
            op = Resize(mode, (float(target[0] // given[0]), float(target[1] // given[1])))
        return View(call.draft.add(call.key, op, [image]), IMAGE)

    return build


def _positions(size: int, target: int, align: bool, half: bool) -> Array:
    """Where each pixel of the result lies in the image."""
    index = np.arange(target, dtype=np.float64)
    step = (size - 1) / (target - 1) if align and target > 1 else size / target
    return (index + 0.5) * step - 0.5 if half else index * step


def _convention(mode: str, given: Sequence[int], target: Sequence[int], read: Sequence[Array]) -> bool:
    """Whether the corners are aligned, as the graph says it. Raises `Unrepresentable` for other conventions."""
    for corners in (False, True) if mode == "bilinear" else (False,):
        same = [
            np.allclose(np.clip(a, 0, size - 1), np.clip(b, 0, size - 1))
            for a, b, size in zip(read, _wanted(mode, given, target, corners), given, strict=True)
        ]
        if all(same):
            return corners
    raise Unrepresentable("pixels are read at other places")


def _wanted(mode: str, given: Sequence[int], target: Sequence[int], corners: bool) -> list[Array]:
    sizes = zip(given, target, strict=True)
    if mode == "nearest":
        return [np.floor(np.round(_positions(size, wide, False, False), 5)) for size, wide in sizes]
    return [_positions(size, wide, corners, not corners) for size, wide in sizes]


LAYOUT: Mapping[str, Callable[[Call], Operand | Sequence[View]]] = {
    "QUANTIZE": _same,
    "DEQUANTIZE": _same,
    "CAST": _cast,
    "RESHAPE": _reshape,
    "SQUEEZE": _squeeze,
    "EXPAND_DIMS": _expand_dims,
    "TRANSPOSE": _transpose,
    "CONCATENATION": _concat,
    "PACK": _pack,
    "UNPACK": _unpack,
    "SPLIT": _split,
    "SPLIT_V": _split_v,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "GATHER": _gather,
    "PAD": _pad,
    "PADV2": _pad,
    "DEPTH_TO_SPACE": _depth_to_space,
    "SPACE_TO_DEPTH": _space_to_depth,
    "RESIZE_BILINEAR": _resize("bilinear"),
    "RESIZE_NEAREST_NEIGHBOR": _resize("nearest"),
}
"""How each operator that moves numbers is said in a graph."""

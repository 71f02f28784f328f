"""What no single node says, in several: statistics, normalisations, powers, repetition, windows of uneven size."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.graph.ops import Activation, Concat, Elementwise, Pad, Reshape, Resize, Transpose
from chipfit.nets import draft as to
from chipfit.nets.draft import Draft, Unrepresentable

Array = NDArray[Any]

MOST_PARTS = 32
"""Slices into which one operator is taken apart at most; what needs more stays unknown and is named."""


def number(draft: Draft, key: str, value: float) -> str:
    """A constant without axes."""
    return draft.constant(key, np.array(value, np.float32))


def pair(draft: Draft, key: str, function: str, a: str, b: str | float) -> str:
    """Two tensors element by element, or a tensor and a number."""
    second = b if isinstance(b, str) else number(draft, f"{key}.value", b)
    return draft.add(key, Elementwise(function), [a, second])


def inverse(draft: Draft, key: str, source: str) -> str:
    """1 / x."""
    return draft.add(key, Elementwise("div"), [number(draft, f"{key}.one", 1.0), source])


def average(draft: Draft, key: str, source: str, axes: Sequence[int], keep: bool) -> str:
    """Mean over axes. Raises `Unrepresentable` over the batch."""
    return to.reduce(draft, key, source, axes, keep, "average")


def total(draft: Draft, key: str, source: str, axes: Sequence[int], keep: bool) -> str:
    """Sum over axes, as the mean times their size. Raises `Unrepresentable` over the batch."""
    count = _count(draft, source, axes)
    mean = average(draft, f"{key}.mean", source, axes, keep)
    return pair(draft, key, "mul", mean, float(count))


def least(draft: Draft, key: str, source: str, axes: Sequence[int], keep: bool) -> str:
    """Minimum over axes. Raises `Unrepresentable` over the batch."""
    turned = draft.add(f"{key}.turned", Activation("neg"), [source])
    largest = to.reduce(draft, f"{key}.max", turned, axes, keep, "max")
    return draft.add(key, Activation("neg"), [largest])


def length(draft: Draft, key: str, source: str, axes: Sequence[int], keep: bool, order: float) -> str:
    """Norm of order 1 or 2 over axes. Raises `Unrepresentable` for other orders, and over the batch."""
    if order == 1:
        return total(draft, key, draft.add(f"{key}.abs", Activation("abs"), [source]), axes, keep)
    if order != 2:
        raise Unrepresentable(f"a norm of order {order}")
    squares = total(draft, f"{key}.sum", pair(draft, f"{key}.square", "mul", source, source), axes, keep)
    return draft.add(key, Activation("sqrt"), [squares])


def variance(draft: Draft, key: str, source: str, axes: Sequence[int], keep: bool, correction: float) -> str:
    """Variance over axes, divided by their size less `correction`. Raises `Unrepresentable` over the batch."""
    count = _count(draft, source, axes)
    if count <= correction:
        raise Unrepresentable(f"the variance of {count} numbers")
    centred = _centred(draft, key, source, axes)
    square = pair(draft, f"{key}.square", "mul", centred, centred)
    if not correction:
        return average(draft, key, square, axes, keep)
    return pair(draft, key, "mul", average(draft, f"{key}.mean", square, axes, keep), count / (count - correction))


def _centred(draft: Draft, key: str, source: str, axes: Sequence[int]) -> str:
    return pair(draft, f"{key}.centred", "sub", source, average(draft, f"{key}.centre", source, axes, True))


def _count(draft: Draft, source: str, axes: Sequence[int]) -> int:
    return math.prod(draft.shapes[source][axis] for axis in axes)


def group_norm(
    draft: Draft, key: str, source: str, groups: int, weight: Array | None, bias: Array | None, eps: float
) -> str:
    """Normalisation of each group of channels by its own statistics, then scale and shift per channel."""
    shape = draft.shapes[source]
    if len(shape) == 4 and groups == shape[1]:
        grouped, axes = source, [2, 3]
    else:
        sizes = (shape[0], groups, math.prod(shape[1:]) // groups)
        grouped, axes = to.reshape(draft, f"{key}.groups", source, sizes, literal=True), [2]
    centred = _centred(draft, key, grouped, axes)
    spread = average(draft, f"{key}.variance", pair(draft, f"{key}.square", "mul", centred, centred), axes, True)
    root = draft.add(f"{key}.deviation", Activation("sqrt"), [pair(draft, f"{key}.eps", "add", spread, eps)])
    result = draft.add(f"{key}.div", Elementwise("div"), [centred, root])
    if grouped is not source:
        result = to.reshape(draft, f"{key}.channels", result, shape)
    for function, name, values in (("mul", "weight", weight), ("add", "bias", bias)):
        if values is not None:
            # The last node carries the key of the module.
            wanted = key if name == "bias" or bias is None else f"{key}.scaled"
            operand = draft.constant(f"{key}.{name}", values.reshape(-1, *[1] * (len(shape) - 2)))
            result = draft.add(wanted, Elementwise(function), [result, operand])
    return result


def rms_norm(draft: Draft, key: str, source: str, axes: int, weight: Array | None, eps: float) -> str:
    """Division by the root of the mean square over the last `axes` axes, then scale."""
    rank = len(draft.shapes[source])
    square = pair(draft, f"{key}.square", "mul", source, source)
    mean = average(draft, f"{key}.mean", square, range(rank - axes, rank), True)
    root = draft.add(f"{key}.root", Activation("sqrt"), [pair(draft, f"{key}.eps", "add", mean, eps)])
    result = draft.add(key if weight is None else f"{key}.div", Elementwise("div"), [source, root])
    return result if weight is None else pair(draft, key, "mul", result, draft.constant(f"{key}.weight", weight))


def power(draft: Draft, key: str, source: str, exponent: float) -> str:
    """A power in quarters up to 8, as products and square roots. Raises `Unrepresentable` for others."""
    if exponent < 0:
        return inverse(draft, key, power(draft, f"{key}.power", source, -exponent))
    if exponent == 0 or exponent > 8 or exponent * 4 % 1:
        raise Unrepresentable(f"power {exponent}")
    if exponent == 1:
        return source
    if exponent == 2:
        return pair(draft, key, "mul", source, source)
    whole, quarters = divmod(int(exponent * 4), 4)
    factors = [source] * whole
    if quarters:
        root = draft.add(key if (whole, quarters) == (0, 2) else f"{key}.root", Activation("sqrt"), [source])
        factors += [root] if quarters >= 2 else []
        if quarters % 2:
            factors.append(draft.add(key if exponent == 0.25 else f"{key}.fourth", Activation("sqrt"), [root]))
    result = factors[0]
    for position, factor in enumerate(factors[1:], start=2):
        name = key if position == len(factors) else f"{key}.{'square' if position == 2 else f'power_{position}'}"
        result = pair(draft, name, "mul", result, factor)
    return result


def elu(draft: Draft, key: str, source: str, alpha: float, scale: float, input_scale: float) -> str:
    """scale · (max(x, 0) + alpha · (exp(input_scale · min(x, 0)) − 1)), as ELU, CELU and SELU are."""
    above = draft.add(f"{key}.above", Activation("relu"), [source])
    below = pair(draft, f"{key}.below", "min", source, 0.0)
    if input_scale != 1:
        below = pair(draft, f"{key}.slower", "mul", below, input_scale)
    curve = pair(draft, f"{key}.curve", "sub", draft.add(f"{key}.exp", Activation("exp"), [below]), 1.0)
    bent = pair(draft, f"{key}.bent", "mul", curve, alpha * scale) if alpha * scale != 1 else curve
    straight = pair(draft, f"{key}.straight", "mul", above, scale) if scale != 1 else above
    return draft.add(key, Elementwise("add"), [straight, bent])


def mish(draft: Draft, key: str, source: str) -> str:
    """x · tanh(log(1 + exp(x))), without the logarithm: x · n / (n + 2) with n = exp(x) · (exp(x) + 2)."""
    # Beyond 20 the quotient is 1 in float32, and below 40 exp(x)² still fits.
    limited = pair(draft, f"{key}.limited", "min", source, 20.0)
    grown = draft.add(f"{key}.exp", Activation("exp"), [limited])
    product = pair(draft, f"{key}.product", "mul", grown, pair(draft, f"{key}.more", "add", grown, 2.0))
    share = pair(draft, f"{key}.share", "div", product, pair(draft, f"{key}.whole", "add", product, 2.0))
    return pair(draft, key, "mul", source, share)


def spread(draft: Draft, key: str, source: str, target: Sequence[int]) -> str:
    """Axes of size 1 repeated to `target` (as many axes, batch included). Raises `Unrepresentable` along the batch."""
    shape = draft.shapes[source]
    if len(shape) != len(target) or shape[:1] != tuple(target[:1]):
        raise Unrepresentable(f"repetition of {shape} to {tuple(target)}")
    changed = [axis for axis, (size, wanted) in enumerate(zip(shape, target, strict=True)) if size != wanted]
    if changed == [2, 3] and len(shape) == 4:
        return draft.add(key, Resize("nearest", size=(target[2], target[3])), [source])
    for axis in changed:
        sizes = draft.shapes[source]
        before, after = math.prod(sizes[1:axis]), math.prod(sizes[axis + 1 :])
        plane = to.reshape(draft, f"{key}.plane", source, (sizes[0], before, 1, after), literal=True)
        grown = draft.add(key, Resize("nearest", size=(target[axis], after)), [plane])
        wanted = (*sizes[:axis], target[axis], *sizes[axis + 1 :])
        source = to.reshape(draft, f"{key}.spread", grown, wanted, literal=True)
    return source


def repeat(draft: Draft, key: str, source: str, times: Sequence[int]) -> str:
    """A tensor several times in a row along each axis. Raises `Unrepresentable` along the batch."""
    shape = draft.shapes[source]
    if len(times) != len(shape) or times[0] != 1:
        raise Unrepresentable(f"repetition of {shape} {tuple(times)} times")
    ones = [count if size == 1 else 1 for size, count in zip(shape, times, strict=True)]
    source = spread(draft, key, source, [size * count for size, count in zip(shape, ones, strict=True)])
    for axis, (size, count) in enumerate(zip(shape, times, strict=True)):
        if count > 1 and size != 1:
            if count > MOST_PARTS:
                raise Unrepresentable(f"{count} repetitions")
            source = draft.add(key, Concat(axis), [source] * count)
    return source


def gather(draft: Draft, key: str, source: str, axis: int, indices: Sequence[int]) -> str:
    """Entries along one axis in a given order. Raises `Unrepresentable` for an order of more than `MOST_PARTS` runs."""
    size = draft.shapes[source][axis]
    wanted = [index % size for index in indices]
    runs: list[list[int]] = []
    for index in wanted:
        run = runs[-1] if runs else None
        if run is not None and index > run[-1] and (len(run) == 1 or index - run[-1] == run[1] - run[0]):
            run.append(index)
        else:
            runs.append([index])
    if not runs or len(runs) > MOST_PARTS:
        raise Unrepresentable(f"an order of {len(runs)} pieces")
    parts: list[str] = []
    for run in runs:
        step = run[1] - run[0] if len(run) > 1 else 1
        whole = len(runs) == 1 and len(run) == size
        name = key if len(runs) == 1 else f"{key}.{len(parts)}"
        parts.append(source if whole else to.cut(draft, name, source, axis, run[0], run[-1] + 1, step))
    return parts[0] if len(parts) == 1 else draft.add(key, Concat(axis), parts)


def roll(draft: Draft, key: str, source: str, axis: int, shift: int) -> str:
    """Entries moved along one axis; what leaves at one end comes in at the other."""
    size = draft.shapes[source][axis]
    return gather(draft, key, source, axis, np.roll(np.arange(size), shift).tolist())


def pad(draft: Draft, key: str, source: str, before: Sequence[int], after: Sequence[int], value: float) -> str:
    """Constant padding per axis; a negative one cuts. Raises `Unrepresentable` along the batch."""
    if before[0] or after[0]:
        raise Unrepresentable("padding of the batch")
    rank = len(draft.shapes[source])
    for axis in range(1, rank):
        size = draft.shapes[source][axis]
        start, stop = max(-before[axis], 0), size - max(-after[axis], 0)
        if (start, stop) != (0, size):
            source = to.cut(draft, f"{key}.cut", source, axis, start, stop)
    front, back = [max(0, item) for item in before], [max(0, item) for item in after]
    inner = rank - 2 if rank == 4 else rank - 1 if rank == 3 else rank
    for axis in (axis for axis in range(1, inner) if front[axis] or back[axis]):
        sizes = draft.shapes[source]
        flat = (sizes[0], math.prod(sizes[1:axis]), sizes[axis], math.prod(sizes[axis + 1 :]))
        plane = to.reshape(draft, f"{key}.plane", source, flat, literal=True)
        grown = draft.add(key, Pad((front[axis], 0, back[axis], 0), value), [plane])
        wanted = (*sizes[:axis], front[axis] + sizes[axis] + back[axis], *sizes[axis + 1 :])
        source = to.reshape(draft, f"{key}.shape", grown, wanted, literal=True)
    if not any((*front[inner:], *back[inner:])):
        return source
    blank = [0] * inner
    return to.pad(draft, key, source, [*blank, *front[inner:]], [*blank, *back[inner:]], value)


MIRRORS: dict[str, Callable[[int, int, int], list[int]]] = {
    "reflect": lambda size, before, after: np.pad(np.arange(size), (before, after), mode="reflect").tolist(),
    "replicate": lambda size, before, after: np.pad(np.arange(size), (before, after), mode="edge").tolist(),
    "circular": lambda size, before, after: np.pad(np.arange(size), (before, after), mode="wrap").tolist(),
}
"""Which entries stand where after padding with a tensor's own: by size, before and after."""


def mirror(draft: Draft, key: str, source: str, before: Sequence[int], after: Sequence[int], mode: str) -> str:
    """Padding with the tensor's own entries, per axis."""
    if mode not in MIRRORS or min((*before, *after)) < 0 or before[0] or after[0]:
        raise Unrepresentable(f"padding with mode={mode}")
    for axis in range(1, len(before)):
        if before[axis] or after[axis]:
            order = MIRRORS[mode](draft.shapes[source][axis], before[axis], after[axis])
            source = gather(draft, key, source, axis, order)
    return source


def adaptive_pool(draft: Draft, key: str, source: str, function: str, target: Sequence[int]) -> str:
    """Pooling of an image to a size, with PyTorch's windows: alike where they are, else each on its own."""
    shape = draft.shapes[source]
    if len(shape) != 2 + len(target) or len(target) > 2:
        raise Unrepresentable(f"pooling of {shape} to {tuple(target)}")
    source, back = to.as_image(draft, key, source)
    wanted = (1, target[0]) if len(target) == 1 else (target[0], target[1])
    windows = [_windows(size, count) for size, count in zip(draft.shapes[source][2:], wanted, strict=True)]
    kernels, strides = zip(*(_even(axis) or (1, 1) for axis in windows), strict=True)
    if kernels != (1, 1) or not any(_even(axis) is None for axis in windows):
        source = to.pool(draft, key, source, function, kernels, strides, [0] * 4, False, True)
    for axis, listed in enumerate(windows):
        if _even(listed) is None:
            if len(listed) > MOST_PARTS:
                raise Unrepresentable(f"{len(listed)} windows of different sizes")
            parts = [
                to.reduce(draft, f"{key}.{axis}", to.cut(draft, f"{key}.window", source, 2 + axis, *window),
                          [2 + axis], True, function)
                for window in listed
            ]  # fmt: skip
            source = draft.add(key, Concat(2 + axis), parts)
    return back(source)


def _windows(size: int, count: int) -> list[tuple[int, int]]:
    return [(index * size // count, -(-(index + 1) * size // count)) for index in range(count)]


def _even(windows: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """Kernel and stride of windows that are alike and equally far apart."""
    kernels = {stop - start for start, stop in windows}
    strides = {b[0] - a[0] for a, b in itertools.pairwise(windows)}
    if len(kernels) > 1 or len(strides) > 1:
        return None
    kernel = kernels.pop()
    return kernel, strides.pop() if strides else kernel


def flattened(draft: Draft, key: str, source: str) -> tuple[str, Callable[[str], str]]:
    """(batch, channels, depth, height, width) as images (batch, channels, depth, height · width), and the way back."""
    shape = draft.shapes[source]
    height, width = shape[3:]

    def back(result: str) -> str:
        made = draft.shapes[result]
        return to.reshape(draft, f"{key}.volume", result, (*made[:3], height, width), literal=True)

    return to.reshape(draft, f"{key}.image", source, (*shape[:3], height * width), literal=True), back


def transpose_without_ones(draft: Draft, key: str, source: str, order: Sequence[int]) -> str:
    """Axes in another order, where those of size 1 cost nothing: they are only named anew."""
    shape = draft.shapes[source]
    wide = [axis for axis, size in enumerate(shape) if axis == 0 or size != 1]
    moved = [wide.index(axis) for axis in order if axis in wide]
    if not moved or moved[0] != 0:
        raise Unrepresentable("the batch does not stay first")
    if moved != sorted(moved):
        source = draft.add(f"{key}.wide", Reshape(tuple(shape[axis] for axis in wide[1:])), [source])
        source = draft.add(key, Transpose(tuple(moved)), [source])
    return to.reshape(draft, f"{key}.axes", source, [shape[axis] for axis in order], literal=True)

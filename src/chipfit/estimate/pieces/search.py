"""Which piece of an output a compiler takes, by the two rules that compilers of such accelerators go by.

`least_read` takes, of all pieces that the buffers hold, the one for which least is read per output; `in_proportion`
takes the largest one that has the proportions of the output. Both work on n operators without a loop over them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.targets.target import Tiles

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_SUBKERNEL = 8
"""Rows and columns of a kernel that are worked on at a time."""
_BANK_BYTES = 1024
_ACCUMULATOR_BYTES = 4
_SMALL = 4
"""Rows and columns up to which equal pieces are told apart by what they cover of the input."""


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """n operators as far as pieces depend on them, every field (n,).

    `depthwise` are those whose output channels depend on one input channel each; among them, `pool` have no weights.
    """

    in_height: Ints
    in_width: Ints
    in_channels: Ints
    out_height: Ints
    out_width: Ints
    out_channels: Ints
    kernel_height: Ints
    kernel_width: Ints
    dilation: Ints
    stride: Ints
    depthwise: Bools
    pool: Bools

    def take(self, part: slice | Bools) -> Work:
        """The operators in a slice or where a mask is set."""
        return Work(*(getattr(self, name)[part] for name in self.__slots__))

    def __len__(self) -> int:
        return len(self.stride)

    @property
    def taps(self) -> Ints:
        """Weights (n,) of a kernel per input channel."""
        return self.kernel_height * self.kernel_width

    @property
    def flat(self) -> Bools:
        """Where the output is a single row and so is the kernel."""
        return (self.out_height == 1) & (self.kernel_height == 1)


def packs_taps(tiles: Tiles, work: Work) -> Bools:
    """Whether taps side by side fill the array at least as well as channels do."""
    channels, taps = work.in_channels, work.taps
    rest = taps % tiles.tap_step
    if tiles.least_taps is None:
        padded = up(taps, tiles.tap_step)
    else:
        padded = taps - rest + np.maximum(rest, tiles.least_taps)
    by_taps = up(channels, tiles.input_channels) * padded <= up(channels, tiles.deep_channels) * taps
    return ~work.depthwise & ((channels <= 8) | by_taps)


def granules(tiles: Tiles, work: Work) -> Ints:
    """For each operator the smallest piece (n, 3) that leaves least of the array empty."""
    found = np.empty((len(work), 3), np.int64)
    for options, chosen in ((tiles.granules, ~work.depthwise), (tiles.depthwise_granules, work.depthwise)):
        padded = [up(work.out_height, h) * up(work.out_width, w) * up(work.out_channels, c) for h, w, c in options]
        best = np.array(options)[np.argmin(np.stack(padded, axis=1), axis=1)]
        found[chosen] = best[chosen]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What pieces of n operators need of their inputs; sizes of pieces may have further axes behind the first."""

    tiles: Tiles
    work: Work
    granule: Ints

    def pixels(self, height: Ints, width: Ints, channels: Ints) -> tuple[Ints, Ints]:
        """Rows and columns of the input, `channels` deep, that pieces of a height and width need."""
        row_step, column_step, _ = self._steps(channels)
        work, like = self.work, np.broadcast_arrays(height, width)[0]
        reach = [
            np.minimum(work.dilation * (size - 1) + 1, _SUBKERNEL) for size in (work.kernel_height, work.kernel_width)
        ]
        stride = along(work.stride, like)
        rows = up((height - 1) * stride + along(reach[0], like), row_step)
        return rows, up((width - 1) * stride + along(reach[1], like), column_step)

    def bytes(self, height: Ints, width: Ints, channels: Ints) -> Ints:
        """Bytes of the buffer that they take."""
        rows, columns = self.pixels(height, width, channels)
        return rows * columns * up(channels, self.depth_step(channels))

    def whole(self, channels: Ints) -> Ints:
        """Bytes (n, …) of the whole input, held as it is for pieces so deep."""
        rows, columns, step = self._steps(channels)
        sizes = (self.work.in_height, self.work.in_width, self.work.in_channels)
        height, width, depth = (along(size, channels) for size in sizes)
        return up(height, rows) * up(width, columns) * up(depth, step)

    def depth_step(self, channels: Ints) -> Ints:
        """Channels (n, …) for multiples of which inputs so deep are held."""
        return self._steps(channels)[2]

    def _steps(self, channels: Ints) -> tuple[Ints, Ints, Ints]:
        """The unit in which inputs so deep are held: one of as many pixels as the granule has its shape."""
        high, wide = (along(self.granule[:, axis], channels) for axis in (0, 1))
        if not self.tiles.input_steps:
            return high, wide, np.full_like(channels, self.tiles.input_channels)
        steps = np.array(self.tiles.input_steps)
        rows, columns, depth = steps[np.minimum(np.searchsorted(steps[:, 2], channels), len(steps) - 1)].T
        rows, columns, depth = rows.T, columns.T, depth.T
        alike = rows * columns == high * wide
        return np.where(alike, high, rows), np.where(alike, wide, columns), depth


def least_read(tiles: Tiles, work: Work, granule: Ints, held: Ints) -> tuple[Ints, Ints, Ints]:
    """Height, width and channels (n,) of the piece for which least is read, `held` (n,) input channels at a time.

    Inputs are read again for each piece of channels, weights for each piece of pixels. For each height and depth only
    widths around the widest are looked at: a wider piece reads no more, but for what rounding adds, and where kernels
    do not overlap the narrowest one with as many pieces is taken.
    """
    depth, height = _candidates(tiles, work, granule)
    inputs, like = Inputs(tiles, work, granule), depth
    channels = np.where(along(work.depthwise, like), depth, along(held, like))
    step = along(granule[:, 1], like)
    widest = _widest(inputs, height, depth, channels)
    across = along(work.out_width, like)
    even = up(ceil(across, ceil(across, np.maximum(widest, 1))), step)
    widths = np.stack([np.minimum(even, widest), widest - step, widest], axis=2)
    widths = np.sort(np.maximum(widths, step[:, :, None]), axis=2)
    cost, covered = _cost(inputs, height[:, :, None], widths, depth[:, :, None], channels[:, :, None])
    cost[np.broadcast_to((widest == 0)[:, :, None], cost.shape)] = np.inf
    small = (height <= _SMALL)[:, :, None] & (widths <= _SMALL)
    flat = (len(work), depth.shape[1] * widths.shape[2])
    chosen = _first_of_least(cost.reshape(flat), np.where(small, covered, -1).reshape(flat))
    n, place = np.arange(len(work)), chosen // widths.shape[2]
    found = height[n, place], widths.reshape(flat)[n, chosen], depth[n, place]
    nothing = widest.max(axis=1) == 0
    smallest = np.maximum(granule, [1, 1, tiles.accumulator_channels])
    return tuple(np.where(nothing, smallest[:, axis], found[axis]) for axis in range(3))  # type: ignore[return-value]


def _candidates(tiles: Tiles, work: Work, granule: Ints) -> tuple[Ints, Ints]:
    """Depths and heights (n, pairs) in the order of the search, as far as accumulators may hold them."""
    tallest, deepest = tiles.largest[0], tiles.largest[2]
    step = np.maximum(tiles.channel_step, granule[:, 2])
    # Accumulators with a buffer of their own are never kept for fewer channels.
    fewest = tiles.accumulator_channels if tiles.shared_bytes is None else 1
    out = np.minimum(np.maximum(work.out_channels, fewest), deepest)
    rest = out % step
    # Depths grow by a granule and are rounded up to a step: a remainder between the two is not met.
    missed = (out > step) & (rest > granule[:, 2]) & (up(rest, granule[:, 2]) < step)
    limits = (
        np.where(missed, out - rest, up(out, granule[:, 2])),
        up(np.minimum(work.out_height, tallest), granule[:, 0]),
    )
    counts = [
        np.arange(1, int(ceil(limit, unit).max(initial=1)) + 1)
        for limit, unit in zip(limits, (step, granule[:, 0]), strict=True)
    ]
    depth, height = (each.ravel() for each in np.meshgrid(*counts, indexing="ij"))
    if tiles.shared_bytes is None:
        room = tiles.accumulator_bytes // _ACCUMULATOR_BYTES
    else:
        room = tiles.shared_bytes // (2 * _ACCUMULATOR_BYTES)
    least = (granule[:, 0] * granule[:, 1]).min(initial=room)
    held = height * ((depth - 1) * step.min(initial=deepest) + tiles.accumulator_channels) * least <= room
    held |= (height == 1) & (depth == 1)
    depth, height = depth[held], height[held]
    return (
        np.minimum(depth * step[:, None], limits[0][:, None]),
        np.minimum(height * granule[:, :1], limits[1][:, None]),
    )


def _widest(inputs: Inputs, height: Ints, depth: Ints, channels: Ints) -> Ints:
    """For every depth and height the widest piece that the buffers hold, 0 where none does."""
    tiles, work, step = inputs.tiles, inputs.work, along(inputs.granule[:, 1], height)
    low = np.zeros_like(height)
    high = np.broadcast_to(ceil(np.minimum(along(work.out_width, height), tiles.largest[1]), step), height.shape).copy()
    # A single row takes no second one along, where they are kept with the inputs.
    alone = along(work.flat, height) if tiles.shared_bytes is not None else np.zeros_like(height, np.bool_)
    sums = np.where(alone, 1, height) * up(depth, tiles.accumulator_channels) * _ACCUMULATOR_BYTES
    for _ in range(int(high.max(initial=1)).bit_length()):
        middle = (low + high + 1) // 2
        fits = _fits(tiles, inputs.bytes(height, middle * step, channels), sums * middle * step)
        low, high = np.where(fits, middle, low), np.where(fits, high, np.maximum(middle - 1, low))
    return low * step


def _fits(tiles: Tiles, inputs: Ints, sums: Ints) -> Bools:
    """Whether the buffers hold pieces of so many bytes."""
    if tiles.shared_bytes is None:
        return (inputs <= tiles.input_bytes) & (sums <= tiles.accumulator_bytes)
    banks = up(2 * up(inputs, _BANK_BYTES), tiles.input_bytes)
    return banks + up(2 * up(sums, _BANK_BYTES), tiles.accumulator_bytes) <= tiles.shared_bytes


def _cost(inputs: Inputs, height: Ints, width: Ints, depth: Ints, channels: Ints) -> tuple[Floats, Ints]:
    """What is read in elements (n, pairs, widths), halved where two pieces take the whole input, and what one covers.

    In single precision, in which compilers compare.
    """
    work, like = inputs.work, width
    out_height, out_width, out, deep = (
        along(size, like) for size in (work.out_height, work.out_width, work.out_channels, work.in_channels)
    )
    depthwise = along(work.depthwise, like)
    rows, columns = inputs.pixels(height, width, channels)
    pieces = ceil(out_height, height) * ceil(out_width, width)
    weights = along(np.where(work.pool, 0, work.taps), like) * deep * pieces * np.where(depthwise, 1, out)
    kernels = ceil(work.kernel_height, _SUBKERNEL) * ceil(work.kernel_width, _SUBKERNEL)
    images = rows * columns * deep * along(kernels, like) * (out_height / height) * (out_width / width)
    cost = weights + images * np.where(depthwise, 1, ceil(out, depth))
    high, wide = along(work.in_height, like), along(work.in_width, like)
    whole = high * wide * deep < 2 * inputs.bytes(height, width, channels)
    covered = np.minimum(high, rows) * np.minimum(wide, columns)
    return np.where(whole, cost / 2, cost).astype(np.float32).astype(np.float64), covered


def _first_of_least(cost: Floats, covered: Ints) -> Ints:
    """The place (n,) of the first least cost; of equals, the last one that covers most, where that counts (not -1)."""
    least = cost == cost.min(axis=1, keepdims=True)
    first = least.argmax(axis=1)
    place = np.arange(cost.shape[1])
    counts = least & (covered >= 0) & (place > first[:, None])
    score = np.where(counts, covered * cost.shape[1] + place, -1)
    return np.where(counts.any(axis=1), score.argmax(axis=1), first)


def along(values: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    """Values (n,) with as many axes as `like`, the further ones of length 1."""
    return values.reshape(-1, *(1,) * (like.ndim - 1))


def ceil(a: Any, b: Any) -> Any:
    """a / b, rounded up."""
    return -(-a // b)


def up(a: Any, b: Any) -> Any:
    """`a` rounded up to a multiple of `b`."""
    return ceil(a, b) * b

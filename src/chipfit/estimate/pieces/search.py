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
    """n operators as far as pieces depend on them, every field (n,), sizes as whole numbers.

    Sizes are floats, which hold them exactly: arithmetic on them is several times faster than on integers.
    `depthwise` are those whose output channels depend on one input channel each; among them, `pool` have no weights.
    """

    in_height: Floats
    in_width: Floats
    in_channels: Floats
    out_height: Floats
    out_width: Floats
    out_channels: Floats
    kernel_height: Floats
    kernel_width: Floats
    dilation: Floats
    stride: Floats
    depthwise: Bools
    pool: Bools

    def take(self, part: slice | Bools | NDArray[np.int64]) -> Work:
        """The operators in a slice, where a mask is set or at places."""
        return Work(*(getattr(self, name)[part] for name in self.__slots__))

    def __len__(self) -> int:
        return len(self.stride)

    @property
    def taps(self) -> Floats:
        """Weights (n,) of a kernel per input channel."""
        return self.kernel_height * self.kernel_width

    @property
    def flat(self) -> Bools:
        """Where the output is a single row and so is the kernel."""
        return (self.out_height == 1) & (self.kernel_height == 1)

    def distinct(self) -> tuple[Work, NDArray[np.int64]]:
        """The operators without repetition, and for each of the given ones its place among them."""
        first, place = distinct(np.array([getattr(self, name) for name in self.__slots__], dtype=np.float64).T)
        return self.take(first), place


def distinct(rows: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each of the different rows (n, any) stands first, and for every row (n,) its place among those."""
    rows = np.ascontiguousarray(rows)
    packed = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1]))).ravel().tolist()
    known: dict[bytes, int] = {}
    where = np.array([known.setdefault(row, number) for number, row in enumerate(packed)], dtype=np.int64)
    first = np.array(list(known.values()), dtype=np.int64)
    return first, np.searchsorted(first, where)


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


def granules(tiles: Tiles, work: Work) -> Floats:
    """Height, width and channels (3, n) of the smallest piece that leaves least of the array empty."""
    found = np.empty((3, len(work)))
    for options, chosen in ((tiles.granules, ~work.depthwise), (tiles.depthwise_granules, work.depthwise)):
        padded = [up(work.out_height, h) * up(work.out_width, w) * up(work.out_channels, c) for h, w, c in options]
        best = np.array(options, dtype=np.float64).T[:, np.argmin(padded, axis=0)]
        found[:, chosen] = best[:, chosen]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """What pieces of operators need of their inputs, `channels` deep.

    Operators stand along the last axis of every field and of sizes of pieces, which may have further axes before it.
    The input is held in units of so many rows, columns and channels; neighbouring windows share the overlaps.
    """

    work: Work
    row_step: Floats
    column_step: Floats
    depth_step: Floats
    depth: Floats
    row_overlap: Floats
    column_overlap: Floats

    @classmethod
    def of(cls, tiles: Tiles, work: Work, granule: Floats, channels: Floats) -> Inputs:
        """The unit depends on the depth, and is one of as many pixels as the granule has its shape."""
        rows, columns, step = granule[0], granule[1], np.full_like(channels, tiles.input_channels)
        if tiles.input_steps:
            units = np.array(tiles.input_steps, dtype=np.float64).T
            high, wide, step = units[:, np.minimum(units[2].searchsorted(channels), units.shape[1] - 1)]
            alike = high * wide == rows * columns
            rows, columns = np.where(alike, rows, high), np.where(alike, columns, wide)
        overlaps = [
            np.minimum(work.dilation * (size - 1) + 1, _SUBKERNEL) - work.stride
            for size in (work.kernel_height, work.kernel_width)
        ]
        return cls(work, rows, columns, step, up(channels, step), *overlaps)

    def rows(self, height: Floats) -> Floats:
        """Rows of the input that pieces of a height need."""
        return up(height * self.work.stride + self.row_overlap, self.row_step)

    def columns(self, width: Floats) -> Floats:
        """Columns of the input that pieces of a width need."""
        return up(width * self.work.stride + self.column_overlap, self.column_step)

    def whole(self) -> Floats:
        """Bytes of the whole input, held as it is for pieces so deep."""
        rows, columns = up(self.work.in_height, self.row_step), up(self.work.in_width, self.column_step)
        return rows * columns * up(self.work.in_channels, self.depth_step)


def least_read(tiles: Tiles, work: Work, granule: Floats, held: Floats) -> Floats:
    """Height, width and channels (3, n) of the piece for which least is read, `held` (n,) input channels at a time.

    Inputs are read again for each piece of channels, weights for each piece of pixels. For each height and depth only
    widths around the widest are looked at: a wider piece reads no more, but for what rounding adds, and where kernels
    do not overlap the narrowest one with as many pieces is taken.
    """
    owner, height, depth = _candidates(tiles, work, granule)
    each, grain = work.take(owner), granule[:, owner]
    inputs = Inputs.of(tiles, each, grain, np.where(each.depthwise, depth, held[owner]))
    widest = _widest(tiles, inputs, grain[1], height, depth)
    even = up(ceil(each.out_width, ceil(each.out_width, np.maximum(widest, 1))), grain[1])
    even, less = np.minimum(even, widest), widest - grain[1]
    widths = np.maximum([np.minimum(even, less), np.maximum(even, less), widest], grain[1])
    cost, covered = _cost(inputs, height, widths, depth)
    cost[:, widest == 0] = np.inf
    covered[:, height > _SMALL] = -1
    covered[widths > _SMALL] = -1
    pair, which = np.divmod(_first_of_least(cost.T, covered.T, owner), len(widths))
    found = np.stack([height[pair], widths[which, pair], depth[pair]])
    smallest = np.maximum(granule, [[1], [1], [tiles.accumulator_channels]])
    return np.where(np.maximum.reduceat(widest, _starts(owner)) > 0, found, smallest)


def _candidates(tiles: Tiles, work: Work, granule: Floats) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Operators, heights and depths (pairs,) in the order of the search, as far as accumulators may hold them."""
    tallest, deepest = tiles.largest[0], tiles.largest[2]
    step = np.maximum(tiles.channel_step, granule[2])
    # Accumulators with a buffer of their own are never kept for fewer channels.
    fewest = tiles.accumulator_channels if tiles.shared_bytes is None else 1
    out = np.minimum(np.maximum(work.out_channels, fewest), deepest)
    rest = out % step
    # Depths grow by a granule and are rounded up to a step: a remainder between the two is not met.
    missed = (out > step) & (rest > granule[2]) & (up(rest, granule[2]) < step)
    most = np.where(missed, out - rest, up(out, granule[2]))
    heights, depths = ceil(np.minimum(work.out_height, tallest), granule[0]), ceil(most, step)
    counts = (heights * depths).astype(np.int64)
    owner = np.repeat(np.arange(len(work)), counts)
    number = np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
    before = np.floor(number / heights[owner])
    height, step = (number - before * heights[owner] + 1) * granule[0, owner], step[owner]
    if tiles.shared_bytes is None:
        room = tiles.accumulator_bytes // _ACCUMULATOR_BYTES
    else:
        room = tiles.shared_bytes // (2 * _ACCUMULATOR_BYTES)
    kept = height * granule[1, owner] * (before * step + tiles.accumulator_channels) <= room
    kept |= number == 0
    return owner[kept], height[kept], np.minimum((before + 1) * step, most[owner])[kept]


def _widest(tiles: Tiles, inputs: Inputs, step: Floats, height: Floats, depth: Floats) -> Floats:
    """For every height and depth the widest piece that the buffers hold, 0 where none does."""
    most = up(np.minimum(inputs.work.out_width, tiles.largest[1]), step)
    column = inputs.rows(height) * inputs.depth
    # A single row takes no second one along, where they are kept with the inputs.
    alone = inputs.work.flat if tiles.shared_bytes is not None else False
    sums = np.where(alone, 1, height) * up(depth, tiles.accumulator_channels) * _ACCUMULATOR_BYTES
    width = np.zeros_like(height)
    for bit in reversed(range(int((most / step).max(initial=1)).bit_length())):
        wider = width + step * (1 << bit)
        fits = (wider <= most) & _fits(tiles, column * inputs.columns(wider), sums * wider)
        width = np.where(fits, wider, width)
    return width


def _fits(tiles: Tiles, inputs: Floats, sums: Floats) -> Bools:
    """Whether the buffers hold pieces of so many bytes."""
    if tiles.shared_bytes is None:
        return (inputs <= tiles.input_bytes) & (sums <= tiles.accumulator_bytes)
    banks = up(2 * up(inputs, _BANK_BYTES), tiles.input_bytes)
    return banks + up(2 * up(sums, _BANK_BYTES), tiles.accumulator_bytes) <= tiles.shared_bytes


def _cost(inputs: Inputs, height: Floats, width: Floats, depth: Floats) -> tuple[Floats, Floats]:
    """What is read in elements (widths, pairs), halved where two pieces take the whole input, and what one covers.

    In single precision, in which compilers compare.
    """
    work = inputs.work
    rows, columns, deep = inputs.rows(height), inputs.columns(width), work.in_channels
    pieces = ceil(work.out_height, height) * ceil(work.out_width, width)
    weights = np.where(work.pool, 0, work.taps) * deep * np.where(work.depthwise, 1, work.out_channels) * pieces
    kernels = ceil(work.kernel_height, _SUBKERNEL) * ceil(work.kernel_width, _SUBKERNEL)
    images = rows * deep * kernels * columns * (work.out_height / height) * (work.out_width / width)
    cost = weights + images * np.where(work.depthwise, 1, ceil(work.out_channels, depth))
    whole = work.in_height * work.in_width * deep < 2 * rows * inputs.depth * columns
    covered = np.minimum(work.in_height, rows) * np.minimum(work.in_width, columns)
    return np.where(whole, cost / 2, cost).astype(np.float32).astype(np.float64), covered


def _first_of_least(cost: Floats, covered: Floats, owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place (n,) of the first least cost of each operator; of equals, the last one that covers most, where that
    counts (not -1). Places count through `cost` and `covered` (pairs, widths); `owner` (pairs,) are the operators."""
    starts = _starts(owner)
    least = np.minimum.reduceat(cost.min(axis=1), starts)
    place = np.flatnonzero(cost == least[owner][:, None])
    by = owner[place // cost.shape[1]]
    score = covered.ravel()[place]
    score[_starts(by)] = -0.5
    order = np.lexsort((score, by))
    return place[order[np.append(_starts(by)[1:], len(by)) - 1]]


def _starts(owner: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each operator's part begins."""
    return np.flatnonzero(np.diff(owner, prepend=-1))


def ceil(a: Any, b: Any) -> Any:
    """a / b, rounded up, for whole numbers."""
    return np.ceil(a / b)


def up(a: Any, b: Any) -> Any:
    """`a` rounded up to a multiple of `b`."""
    return ceil(a, b) * b

"""Which pieces an accelerator cuts the output of an operator into, and how often it reads what it needs for them.

The piece is chosen as compilers of such accelerators choose it: of all that the buffers hold, the one for which least
is read per output. For the two terms of that (inputs again for each piece of channels, weights again for each piece of
pixels) a larger piece is never worse, so only the widest piece for each height and depth is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.estimate.rows import KIND_CODES, Floats, Rows
from chipfit.targets.target import Target, Tiles

Ints = NDArray[np.int64]

_STEPS = np.array([1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32, 48, 64])
"""Multiples of the smallest piece that are looked at along height and channels."""
_SUBKERNEL = 8
"""Rows and columns of a kernel that are worked on at a time."""
_BANK_BYTES = 1024
_ACCUMULATOR_BYTES = 4
_CHUNK = 2048


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """n operators as far as pieces depend on them, every field (n,)."""

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
    depthwise: NDArray[np.bool_]

    def take(self, part: slice) -> Work:
        """The operators in a slice."""
        return Work(*(getattr(self, name)[part] for name in self.__slots__))

    def __len__(self) -> int:
        return len(self.stride)


@dataclass(frozen=True, slots=True, eq=False)
class Tiling:
    """The chosen pieces of n operators, every field (n,).

    `height`, `width`, `channels` of a piece, `in_height`, `in_width` of the input that it needs, `pieces` along pixels
    and along channels; `piece_cycles` of the array and `out_elements` of one piece, `parts` how many pieces the output
    is, with the last ones as small as they are.
    """

    height: Ints
    width: Ints
    channels: Ints
    in_height: Ints
    in_width: Ints
    pixel_pieces: Ints
    channel_pieces: Ints
    piece_cycles: Floats
    out_elements: Ints
    parts: Floats


def tiling(tiles: Tiles, work: Work) -> Tiling:
    """The pieces of n operators, without a loop over them."""
    parts = [_tiling(tiles, work.take(slice(start, start + _CHUNK))) for start in range(0, max(len(work), 1), _CHUNK)]
    if len(parts) == 1:
        return parts[0]
    return Tiling(*(np.concatenate([getattr(part, name) for part in parts]) for name in Tiling.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """What pieces mean for n rows, every field (n,), `features` (n, any).

    `known` says where an operator is worked on in pieces; elsewhere the rest is 0, and `pixel_pieces` 1. `cycles` are
    those of the array and of what stores its results, one of which waits for the other at the ends; `read_elements`
    those of the input with every repetition.
    """

    known: NDArray[np.bool_]
    cycles: Floats
    read_elements: Floats
    pixel_pieces: Floats
    features: Floats

    @classmethod
    def of(cls, target: Target, tiles: Tiles, rows: Rows) -> Pieces:
        """The pieces of rows on a target that has `tiles`."""
        known = np.isin(rows.kinds, _IN_PIECES)
        found = tiling(tiles, _work(rows, known))
        index = np.flatnonzero(known)
        groups = np.where(rows.kinds == KIND_CODES["depthwise"], 1, rows["groups"])[index]
        vector = target.vector
        rate = np.where(rows["activation"][index] >= 2, vector.table_elements_per_cycle, vector.elements_per_cycle)
        array, store = found.piece_cycles, found.out_elements / rate
        cycles = np.maximum(array * found.parts + store, store * found.parts + array) * groups
        block = target.layout.channel_block
        held = found.in_height * found.in_width * found.pixel_pieces * groups
        channels = _up(rows["in_channels"][index] / groups, block)
        shallow = np.isin(rows.kinds[index], _ONE_TO_ONE)
        read = held * channels * np.where(shallow, 1, found.channel_pieces)
        features = np.stack(
            [getattr(found, name) for name in _FEATURES] + [cycles, read, array / np.maximum(store, 1)], axis=1
        )
        return cls(
            known,
            _spread(known, cycles),
            _spread(known, read),
            np.maximum(_spread(known, found.pixel_pieces), 1),
            _spread(known, np.log2(1 + features)),
        )


_FEATURES = (
    "height", "width", "channels", "in_height", "in_width", "pixel_pieces", "channel_pieces", "piece_cycles", "parts",
)  # fmt: skip
_ONE_TO_ONE = [KIND_CODES[kind] for kind in ("depthwise", "pool")]
_IN_PIECES = [KIND_CODES[kind] for kind in ("conv", "depthwise", "linear", "pool", "transposed_conv")]


def _spread(known: NDArray[np.bool_], values: NDArray[Any]) -> Floats:
    """Values of the known rows at their places among all, zero elsewhere."""
    wide = np.zeros((len(known), *values.shape[1:]))
    wide[known] = values
    return wide


def _work(rows: Rows, known: NDArray[np.bool_]) -> Work:
    """Rows as far as pieces depend on them; of a grouped convolution one group, of a sequence one row of pixels."""
    part = rows.take(known)
    one_to_one = np.isin(part.kinds, _ONE_TO_ONE)
    groups = np.where(one_to_one, 1, part["groups"])
    sequence = part.kinds == KIND_CODES["linear"]
    turned = part.kinds == KIND_CODES["transposed_conv"]

    def whole(values: Floats) -> Ints:
        return np.maximum(values, 1).astype(np.int64)

    return Work(
        whole(np.where(sequence, 1, np.where(turned, part["out_height"], part["in_height"]))),
        whole(np.where(sequence, part["in_height"], np.where(turned, part["out_width"], part["in_width"]))),
        whole(part["in_channels"] / groups),
        whole(np.where(sequence, 1, part["out_height"])),
        whole(np.where(sequence, part["out_height"], part["out_width"])),
        whole(part["out_channels"] / groups),
        whole(part["kernel_height"]),
        whole(part["kernel_width"]),
        whole(part["dilation_height"]),
        whole(np.where(turned, 1, part["stride_height"])),
        one_to_one,
    )


def _tiling(tiles: Tiles, work: Work) -> Tiling:
    taps = work.kernel_height * work.kernel_width
    shallow = _packs_taps(tiles, work, taps)
    granule = _granules(tiles, work)
    held = _up(np.minimum(work.in_channels, np.where(shallow, tiles.shallow_channels, tiles.deep_channels)), 8)
    search = _Search(tiles, work, granule, held, taps)
    height, width, channels = search.best()
    in_height, in_width = search.input_of(height, width)
    pixel_pieces = _ceil(work.out_height, height) * _ceil(work.out_width, width)
    sizes = (work.out_height, work.out_width, work.out_channels)
    pieces = (height, width, channels)
    parts = np.ones(len(work))
    for size, piece, step in zip(sizes, pieces, granule.T, strict=True):
        parts = parts * (_up(size, step) / piece)
    pixels = _ceil(height, granule[:, 0]) * _ceil(width, granule[:, 1])
    packed = _ceil(taps, 4)
    steps = np.where(
        work.depthwise,
        packed,
        np.where(
            shallow,
            packed
            * _ceil(np.minimum(work.in_channels, tiles.shallow_channels), 8)
            * _ceil(work.in_channels, tiles.shallow_channels),
            taps * _ceil(work.in_channels, tiles.deep_channels) * (tiles.deep_channels // 32),
        ),
    )
    cycles = np.maximum(tiles.least_cycles, 4 * pixels) * steps * _ceil(channels, granule[:, 2])
    return Tiling(
        height, width, channels, in_height, in_width, pixel_pieces, _ceil(work.out_channels, channels),
        cycles.astype(np.float64), height * width * channels, parts,
    )  # fmt: skip


def _packs_taps(tiles: Tiles, work: Work, taps: Ints) -> NDArray[np.bool_]:
    """Whether taps side by side fill the array better than channels do."""
    channels = work.in_channels
    by_taps = channels * taps * _up(channels, tiles.deep_channels) > channels * _up(channels, 8) * _up(taps, 4)
    return (channels <= 8) | by_taps


def _granules(tiles: Tiles, work: Work) -> Ints:
    """For each operator the smallest piece (n, 3) that leaves least of the array empty."""
    found = np.empty((len(work), 3), np.int64)
    for options, chosen in ((tiles.granules, ~work.depthwise), (tiles.depthwise_granules, work.depthwise)):
        padded = [_up(work.out_height, h) * _up(work.out_width, w) * _up(work.out_channels, c) for h, w, c in options]
        best = np.array(options)[np.argmin(np.stack(padded, axis=1), axis=1)]
        found[chosen] = best[chosen]
    return found


class _Search:
    """The search for the best pieces: operators by depths by heights, the width being the widest that fits."""

    def __init__(self, tiles: Tiles, work: Work, granule: Ints, held: Ints, taps: Ints) -> None:
        self.tiles, self.work, self.granule = tiles, work, granule
        self.held, self.taps = _wide(held), _wide(taps)
        kernels = (work.kernel_height, work.kernel_width)
        self.reach = [np.minimum(work.dilation * (size - 1) + 1, _SUBKERNEL) for size in kernels]
        sizes = (work.out_height, work.out_width, work.out_channels)
        self.limits = [
            _up(np.minimum(size, largest), step)
            for size, largest, step in zip(sizes, tiles.largest, granule.T, strict=True)
        ]
        depths = _STEPS[_STEPS * tiles.channel_step <= tiles.largest[2]] * tiles.channel_step
        self.depth = np.minimum(depths[None, :, None], _wide(self.limits[2]))
        self.height = np.minimum(_STEPS * _wide(granule[:, 0]), _wide(self.limits[0]))
        self.depthwise = _wide(work.depthwise)

    def best(self) -> tuple[Ints, Ints, Ints]:
        """Height, width and channels (n,) of the piece for which least is read."""
        work, height, depth = self.work, self.height, self.depth
        width = self._widest()
        fits = width > 0
        width = np.where(fits, width, _wide(self.granule[:, 1]))
        out_height, out_width, out_channels = (
            _wide(size) for size in (work.out_height, work.out_width, work.out_channels)
        )
        # With one column of taps width costs nothing more, so that the narrowest with as many pieces is taken.
        even = _up(_ceil(out_width, _ceil(out_width, width)), _wide(self.granule[:, 1]))
        width = np.where(_wide(work.kernel_width) == 1, np.minimum(width, even), width)
        rows, columns = self._input(height, width)
        channels = _wide(work.in_channels)
        weights = self.taps * channels * _ceil(out_height, height) * _ceil(out_width, width)
        weights = weights * np.where(self.depthwise, 1, out_channels)
        repeats = _wide(_ceil(work.kernel_height, _SUBKERNEL) * _ceil(work.kernel_width, _SUBKERNEL))
        inputs = rows * columns * channels * repeats * (out_height / height) * (out_width / width)
        inputs = inputs * np.where(self.depthwise, 1, _ceil(out_channels, depth))
        cost = inputs + weights
        whole = _wide(work.in_height * work.in_width * work.in_channels)
        cost = np.where(whole < rows * columns * np.where(self.depthwise, depth, self.held) * 2, cost / 2, cost)
        # Among equals the shallowest, but for the smallest pieces the deepest.
        small = (height <= 4) & (width <= 4)
        cost = cost * (1 + 1e-9 * np.where(small, -depth, depth / 1024))
        cost = np.where(fits, cost, np.inf).reshape(len(work), fits.shape[1] * fits.shape[2])
        chosen = (np.arange(len(work)), cost.argmin(axis=1))
        shape = np.broadcast_shapes(height.shape, depth.shape)
        return tuple(
            np.broadcast_to(each, shape).reshape(len(work), shape[1] * shape[2])[chosen]
            for each in (height, width, depth)
        )  # type: ignore[return-value]

    def input_of(self, height: Ints, width: Ints) -> tuple[Ints, Ints]:
        """Rows and columns (n,) of the input that a piece needs."""
        rows, columns = self._input(height[:, None, None], width[:, None, None])
        return rows[:, 0, 0], columns[:, 0, 0]

    def _input(self, height: Ints, width: Ints) -> tuple[Ints, Ints]:
        stride = _wide(self.work.stride)
        rows = _up((height - 1) * stride + _wide(self.reach[0]), _wide(self.granule[:, 0]))
        return rows, _up((width - 1) * stride + _wide(self.reach[1]), _wide(self.granule[:, 1]))

    def _widest(self) -> Ints:
        """For every depth and height the widest piece that the buffers hold, 0 where none does."""
        step = _wide(self.granule[:, 1])
        shape = np.broadcast_shapes(self.height.shape, self.depth.shape)
        low = np.zeros(shape, np.int64)
        high = np.broadcast_to(_wide(self.limits[1]) // step, shape).copy()
        for _ in range(int(high.max(initial=1)).bit_length()):
            middle = (low + high + 1) // 2
            fits = self._fits(middle * step)
            low, high = np.where(fits, middle, low), np.where(fits, high, np.maximum(middle - 1, low))
        return low * step

    def _fits(self, width: Ints) -> NDArray[np.bool_]:
        tiles = self.tiles
        rows, columns = self._input(self.height, width)
        inputs = rows * columns * _up(np.where(self.depthwise, self.depth, self.held), 8)
        # A single row takes no second one along.
        flat = _wide((self.work.out_height == 1) & (self.work.kernel_height == 1))
        sums = np.where(flat, 1, self.height) * width * _up(self.depth, 8) * _ACCUMULATOR_BYTES
        if tiles.shared_bytes is None:
            return (inputs <= tiles.input_bytes) & (sums <= tiles.accumulator_bytes)
        banks = _up(2 * _up(inputs, _BANK_BYTES), tiles.input_bytes)
        return banks + _up(2 * _up(sums, _BANK_BYTES), tiles.accumulator_bytes) <= tiles.shared_bytes


def _wide(values: NDArray[Any]) -> NDArray[Any]:
    return values[:, None, None]


def _ceil(a: Ints, b: Ints | int) -> Ints:
    return -(-a // b)


def _up(a: Any, b: Any) -> Any:
    return -(-a // b) * b

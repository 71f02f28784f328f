"""Pieces with the proportions of the output, as some compilers take them for depthwise convolutions and pools.

For each depth the largest such piece is found that the buffers hold, then the depth at which a piece comes nearest to
the whole output; it is made smaller until the buffers hold the next row of inputs beside it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from chipfit.estimate.pieces.search import Bools, Floats, Inputs, Work, ceil, up
from chipfit.targets.target import Tiles

_DEPTH_WEIGHT = 0.1
"""What depth that is missing, or held in vain, counts beside pixels that are missing."""


def in_proportion(tiles: Tiles, work: Work, granule: Floats) -> Floats:
    """Height, width and channels (3, n) of the pieces of operators that map one channel to one."""
    shapes = _Shapes.of(tiles, work, granule)
    step = tiles.accumulator_channels
    deepest = min(int(shapes.depth.max(initial=step)), tiles.proportional_channels or step, tiles.largest[2])
    depth = np.arange(step, max(deepest, step) + 1, step, dtype=np.float64)[:, None].repeat(len(work), axis=1)
    inputs = shapes.inputs(depth)
    height, width, fits = _largest(shapes, inputs, depth)
    fits &= depth <= shapes.depth
    fits[0] = True
    distance = np.where(fits, _distance(shapes, inputs, (height, width, depth)), np.inf)
    chosen = distance.argmin(axis=0), np.arange(len(work))
    return _with_room(shapes, height[chosen], width[chosen], depth[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class _Shapes:
    """n outputs as whole granules (n,), and what the buffers hold of them.

    `most_rows` and `most_columns` (n,) are those of the largest pieces; sizes of pieces have operators along the last
    axis.
    """

    tiles: Tiles
    work: Work
    granule: Floats
    height: Floats
    width: Floats
    depth: Floats
    most_rows: Floats
    most_columns: Floats

    @classmethod
    def of(cls, tiles: Tiles, work: Work, granule: Floats) -> _Shapes:
        """The outputs of n operators with such granules (3, n)."""
        height, width = up(work.out_height, granule[0]), up(work.out_width, granule[1])
        depth = up(work.out_channels, tiles.accumulator_channels)
        rows, columns = np.minimum(height, tiles.largest[0]), np.minimum(width, tiles.largest[1])
        return cls(tiles, work, granule, height, width, depth, rows, columns)

    @property
    def input_room(self) -> int:
        """Bytes of inputs that the buffer holds in all."""
        return 2 * self.tiles.input_bytes

    @property
    def sums(self) -> int:
        """Accumulators that the buffer holds in all, of four bytes each."""
        return 2 * self.tiles.accumulator_bytes // 4

    def inputs(self, depth: Floats) -> Inputs:
        """What pieces so deep need of their inputs."""
        return Inputs.of(self.tiles, self.work, self.granule, depth)

    def of_area(self, area: Floats) -> tuple[Floats, Floats]:
        """Height and width of pieces with about so many pixels and the proportions of the output."""
        high, wide, (rows, columns, _) = self.height, self.width, self.granule
        width = np.sqrt(area * wide / high)
        height = width * high / wide
        # Where less than one row or column would be left, all pixels lie along the other.
        pixels = width * height
        width, height = np.where(height < 1, pixels, width), np.where(width < 1, pixels, height)
        width = np.minimum(_down(width, columns), self.most_columns)
        height = np.minimum(_down(height, rows), self.most_rows)
        # Pieces are as wide as each other, and higher for it.
        even = np.minimum(up(ceil(wide, ceil(wide, width)), columns), width)
        return np.minimum(_down(height * width / even, rows), self.most_rows), even


def _largest(shapes: _Shapes, inputs: Inputs, depth: Floats) -> tuple[Floats, Floats, Bools]:
    """Height and width (depths, n) of the largest pieces that the buffers hold at each depth, and whether any is."""
    unit = shapes.granule[0] * shapes.granule[1] * shapes.tiles.accumulator_channels
    whole = inputs.whole() <= shapes.input_room

    def sizes(units: Floats) -> tuple[Floats, Floats, Bools]:
        height, width = shapes.of_area(np.floor(units * unit / depth))
        fits = whole | (inputs.rows(height) * inputs.columns(width) * inputs.depth <= shapes.input_room)
        return height, width, (height * width * depth <= shapes.sums) & fits

    low, high = np.ones_like(depth), np.floor(shapes.sums / unit)
    for _ in range(int(high.max(initial=1)).bit_length()):
        middle = np.ceil((low + high) / 2)
        fits = sizes(middle)[2]
        low, high = np.where(fits, middle, low), np.where(fits, high, np.maximum(middle - 1, low))
    return sizes(low)


def _distance(shapes: _Shapes, inputs: Inputs, piece: tuple[Floats, Floats, Floats]) -> Floats:
    """How far pieces (depths, n) are from the whole output: in pixels, or in columns and depth with single taps."""
    height, width, depth = piece
    deepest = np.minimum(shapes.depth, shapes.tiles.largest[2])
    part = np.where(shapes.work.taps == 1, depth / shapes.depth, height / shapes.height) * width / shapes.width
    vain = (inputs.depth - depth) / inputs.depth_step
    away = 1 + np.abs(1 - 1 / part)
    return away * (1 + _DEPTH_WEIGHT * np.abs(1 - deepest / depth)) * (1 + _DEPTH_WEIGHT * vain)


def _with_room(shapes: _Shapes, height: Floats, width: Floats, depth: Floats) -> Floats:
    """Pieces (3, n) made smaller until the next row of inputs fits beside them: first what the output has more of.

    Where that is not enough, depth, height and width shrink although one piece takes all of the output along them.
    """
    rows, columns, _ = shapes.granule
    least, force = shapes.tiles.accumulator_channels, np.zeros_like(depth)
    while True:
        inputs = shapes.inputs(depth)
        row, whole = inputs.columns(width) * inputs.depth, inputs.whole()
        used = np.minimum(inputs.rows(height) * row, whole) + np.minimum(inputs.rows(rows) * row, whole)
        lower, thinner, narrower = height < shapes.height, depth < shapes.depth, width < shapes.width
        tight = (lower | narrower | thinner) & (used > shapes.input_room) & (force <= 3)
        if not tight.any():
            return np.stack([height, width, depth])
        lower = tight & (lower | (force >= 2)) & (height > rows)
        thinner = tight & ~lower & ((depth > width) | (force >= 1)) & (depth > least)
        narrower = tight & ~lower & ~thinner & (narrower | (force >= 3)) & (width > columns)
        step = inputs.depth_step
        less = np.where(depth > step, np.maximum(depth - step, least), up(np.floor(depth / 2), least))
        force = np.where(tight & ~lower & ~thinner & ~narrower, force + 1, force)
        height, width = np.where(lower, height - rows, height), np.where(narrower, width - columns, width)
        depth = np.where(thinner, less, depth)


def _down(values: Floats, step: Floats) -> Floats:
    """Values rounded down to multiples of `step`, but not below one."""
    return np.maximum(np.floor(np.floor(values) / step), 1) * step

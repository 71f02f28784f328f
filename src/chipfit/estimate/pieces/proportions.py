"""Pieces with the proportions of the output, as some compilers take them for depthwise convolutions and pools.

For each depth the largest such piece is found that the buffers hold, then the depth at which a piece comes nearest to
the whole output; it is made smaller until the buffers hold the next row of inputs beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chipfit.estimate.pieces.search import Bools, Floats, Inputs, Ints, Work, along, ceil, up
from chipfit.targets.target import Tiles

_DEPTH_WEIGHT = 0.1
"""What depth that is missing, or held in vain, counts beside pixels that are missing."""


def in_proportion(tiles: Tiles, work: Work, granule: Ints) -> tuple[Ints, Ints, Ints]:
    """Height, width and channels (n,) of the pieces of operators that map one channel to one."""
    shapes = _Shapes(tiles, Inputs(tiles, work, granule))
    step = tiles.accumulator_channels
    deepest = min(int(shapes.full[2].max(initial=step)), tiles.proportional_channels or step, tiles.largest[2])
    depth = np.arange(step, max(deepest, step) + 1, step)[None, :].repeat(len(work), axis=0)
    height, width, fits = _largest(shapes, depth)
    fits &= depth <= along(shapes.full[2], depth)
    fits[:, 0] = True
    distance = np.where(fits, _distance(shapes, height, width, depth), np.inf)
    chosen = np.arange(len(work)), distance.argmin(axis=1)
    return _with_room(shapes, height[chosen], width[chosen], depth[chosen])


@dataclass(frozen=True, eq=False)
class _Shapes:
    """n outputs as whole granules, and what the buffers hold of them."""

    tiles: Tiles
    inputs: Inputs

    @cached_property
    def full(self) -> tuple[Ints, Ints, Ints]:
        """Height, width and channels (n,) of the outputs."""
        work, granule = self.inputs.work, self.inputs.granule
        return (
            up(work.out_height, granule[:, 0]),
            up(work.out_width, granule[:, 1]),
            up(work.out_channels, self.tiles.accumulator_channels),
        )

    @property
    def input_room(self) -> int:
        """Bytes of inputs that the buffer holds in all."""
        return 2 * self.tiles.input_bytes

    @property
    def sums(self) -> int:
        """Accumulators that the buffer holds in all, of four bytes each."""
        return 2 * self.tiles.accumulator_bytes // 4

    def need(self, height: Ints, width: Ints, depth: Ints) -> Ints:
        """Bytes of the inputs of pieces; never more than the whole input."""
        return np.minimum(self.inputs.bytes(height, width, depth), self.inputs.whole(depth))

    def of_area(self, area: Ints) -> tuple[Ints, Ints]:
        """Height and width (n, depths) of pieces with about so many pixels and the proportions of the output."""
        high, wide = along(self.full[0], area), along(self.full[1], area)
        rows, columns = (along(self.inputs.granule[:, axis], area) for axis in (0, 1))
        width = np.sqrt(area * wide / high)
        height = width * high / wide
        flat, narrow = height < 1, width < 1
        width, height = (
            np.where(flat, width * height, np.where(narrow, 1, width)),
            np.where(flat, 1, np.where(narrow, height * width, height)),
        )
        width = np.minimum(_down(width, columns), np.minimum(wide, self.tiles.largest[1]))
        height = np.minimum(_down(height, rows), np.minimum(high, self.tiles.largest[0]))
        # Pieces are as wide as each other, and higher for it.
        even = np.minimum(up(ceil(wide, ceil(wide, width)), columns), width)
        return np.minimum(_down(height * width / even, rows), np.minimum(high, self.tiles.largest[0])), even


def _largest(shapes: _Shapes, depth: Ints) -> tuple[Ints, Ints, Bools]:
    """Height and width (n, depths) of the largest pieces that the buffers hold at each depth, and whether any is."""
    granule = shapes.inputs.granule
    unit = granule[:, 0] * granule[:, 1] * shapes.tiles.accumulator_channels
    unit = along(unit, depth)

    def held(units: Ints) -> Bools:
        height, width = shapes.of_area(units * unit // depth)
        return (height * width * depth <= shapes.sums) & (shapes.need(height, width, depth) <= shapes.input_room)

    low, high = np.ones_like(depth), np.broadcast_to(shapes.sums // unit, depth.shape).copy()
    for _ in range(int(high.max(initial=1)).bit_length()):
        middle = (low + high + 1) // 2
        fits = held(middle)
        low, high = np.where(fits, middle, low), np.where(fits, high, np.maximum(middle - 1, low))
    height, width = shapes.of_area(low * unit // depth)
    return height, width, held(low)


def _distance(shapes: _Shapes, height: Ints, width: Ints, depth: Ints) -> Floats:
    """How far pieces (n, depths) are from the whole output: in pixels, or in columns and depth with single taps."""
    full_height, full_width, full_depth = (along(size, depth) for size in shapes.full)
    deepest = np.minimum(full_depth, shapes.tiles.largest[2])
    single = along(shapes.inputs.work.taps == 1, depth)
    part = np.where(single, depth / full_depth, height / full_height) * width / full_width
    step = shapes.inputs.depth_step(depth)
    vain = (up(depth, step) - depth) / step
    away = 1 + np.abs(1 - 1 / part)
    return away * (1 + _DEPTH_WEIGHT * np.abs(1 - deepest / depth)) * (1 + _DEPTH_WEIGHT * vain)


def _with_room(shapes: _Shapes, height: Ints, width: Ints, depth: Ints) -> tuple[Ints, Ints, Ints]:
    """Pieces made smaller until the next row of inputs fits beside them: first what the output has more of.

    Where that is not enough, depth, height and width shrink although one piece takes all of the output along them.
    """
    rows, columns = shapes.inputs.granule[:, 0], shapes.inputs.granule[:, 1]
    least, force = shapes.tiles.accumulator_channels, np.zeros_like(depth)
    while True:
        partial = (height < shapes.full[0]) | (width < shapes.full[1]) | (depth < shapes.full[2])
        used = shapes.need(height, width, depth) + shapes.need(rows, width, depth)
        tight = partial & (used > shapes.input_room) & (force <= 3)
        if not tight.any():
            return height, width, depth
        lower = tight & ((height < shapes.full[0]) | (force >= 2)) & (height > rows)
        thinner = tight & ~lower & ((depth > width) | (force >= 1)) & (depth > least)
        narrower = tight & ~lower & ~thinner & ((width < shapes.full[1]) | (force >= 3)) & (width > columns)
        step = shapes.inputs.depth_step(depth)
        less = np.where(depth > step, np.maximum(depth - step, least), up(depth // 2, least))
        force = np.where(tight & ~lower & ~thinner & ~narrower, force + 1, force)
        height, width = np.where(lower, height - rows, height), np.where(narrower, width - columns, width)
        depth = np.where(thinner, less, depth)


def _down(values: Floats, step: Ints) -> Ints:
    """Values rounded down to multiples of `step`, but not below one."""
    return np.maximum(values.astype(np.int64) // step, 1) * step

"""Which pieces an accelerator cuts the output of an operator into, and how often it reads what it needs for them.

The piece is chosen as compilers of such accelerators choose it: see `tile_search` and `tile_proportions`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.estimate.pieces.proportions import in_proportion
from chipfit.estimate.pieces.search import Bools, Inputs, Work, ceil, granules, least_read, packs_taps, up
from chipfit.estimate.rows import KIND_CODES, Floats, Rows
from chipfit.graph.workload import WORKLOAD_KINDS
from chipfit.targets.target import Target, Tiles

_CHUNK = 512


@dataclass(frozen=True, slots=True, eq=False)
class Tiling:
    """The chosen pieces of n operators, every field (n,).

    `height`, `width`, `channels` of a piece, `in_height`, `in_width` of the input that it needs, `pieces` along pixels
    and along channels; `piece_cycles` of the array and `out_elements` of one piece, `parts` how many pieces the output
    is, with the last ones as small as they are; `held` input channels that a piece takes at a time.
    """

    height: Floats
    width: Floats
    channels: Floats
    in_height: Floats
    in_width: Floats
    pixel_pieces: Floats
    channel_pieces: Floats
    piece_cycles: Floats
    out_elements: Floats
    parts: Floats
    held: Floats


def tiling(tiles: Tiles, work: Work) -> Tiling:
    """The pieces of n operators, without a loop over them. Equal ones are looked at once: blocks repeat in networks."""
    work, place = work.distinct()
    parts = [_tiling(tiles, work.take(slice(start, start + _CHUNK))) for start in range(0, max(len(work), 1), _CHUNK)]
    return Tiling(*(np.concatenate([getattr(part, name) for part in parts])[place] for name in Tiling.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """What pieces mean for n rows, every field (n,), `features` (n, any).

    `known` says where an operator is worked on in pieces; elsewhere the rest is 0, and `pixel_pieces` and `channels`
    (of a piece) are 1. `cycles` are those of the array and of what stores its results, one of which waits for the other
    at the ends; `read_elements` those of the input with every repetition, `plain_read` the same without padding.
    `together` are the elements of the input that lie side by side, `plain_together` the same of one without blocks of
    channels.
    """

    known: NDArray[np.bool_]
    cycles: Floats
    read_elements: Floats
    plain_read: Floats
    together: Floats
    plain_together: Floats
    pixel_pieces: Floats
    channels: Floats
    features: Floats

    @classmethod
    @lru_cache(maxsize=1)
    def of(cls, target: Target, rows: Rows) -> Pieces:
        """The pieces of rows on a target that has `tiles`; latency and memory both ask for those of the same rows."""
        assert target.tiles is not None
        known = _IN_PIECES[rows.kinds]
        index = np.flatnonzero(known)
        heights = stripe_height(rows.take(index))
        work = _work(rows, known, heights)
        found = tiling(target.tiles, work)
        # Of stripes, pieces are those of the whole output: one goes on where the stripe above ended.
        whole = np.where(rows["striped"][index] > 0, rows["out_height"][index], work.out_height)
        pixel_pieces = np.ceil(whole / found.height) * ceil(work.out_width, found.width)
        parts = found.parts * rows["out_height"][index] / heights
        groups = np.where(rows.kinds == KIND_CODES["depthwise"], 1, rows["groups"])[index]
        vector = target.vector
        rate = np.where(rows["activation"][index] >= 2, vector.table_elements_per_cycle, vector.elements_per_cycle)
        array, store = found.piece_cycles, found.out_elements / rate
        cycles = np.maximum(array * parts + store, store * parts + array) * groups
        block = target.layout.channel_block
        held = found.in_height * found.in_width * pixel_pieces * groups
        channels = up(rows["in_channels"][index] / groups, block)
        shallow = _ONE_TO_ONE[rows.kinds[index]]
        read = held * channels * np.where(shallow, 1, found.channel_pieces)
        plain = read / channels * rows["in_channels"][index] / groups
        features = np.stack(
            [getattr(found, name) for name in _FEATURES]
            + [pixel_pieces, parts, cycles, read, array / np.maximum(store, 1)],
            axis=1,
        )
        return cls(
            known,
            _spread(known, cycles),
            _spread(known, read),
            _spread(known, plain),
            np.maximum(_spread(known, found.in_width * block), 1),
            np.maximum(_spread(known, found.held), 1),
            np.maximum(_spread(known, pixel_pieces), 1),
            np.maximum(_spread(known, found.channels), 1),
            _spread(known, np.log2(1 + features)),
        )


def stripe_height(rows: Rows) -> Floats:
    """Rows (n,) of the output that are worked on at a time."""
    return np.where(rows["striped"] > 0, np.maximum(rows["stripe_height"], 1), rows["out_height"])


_FEATURES = ("height", "width", "channels", "in_height", "in_width", "channel_pieces", "piece_cycles")
_ONE_TO_ONE = np.array([kind in ("depthwise", "pool") for kind in WORKLOAD_KINDS])
_IN_PIECES = np.array([kind in ("conv", "depthwise", "linear", "pool", "transposed_conv") for kind in WORKLOAD_KINDS])


def _spread(known: NDArray[np.bool_], values: NDArray[Any]) -> Floats:
    """Values of the known rows at their places among all, zero elsewhere."""
    wide = np.zeros((len(known), *values.shape[1:]))
    wide[known] = values
    return wide


def _work(rows: Rows, known: NDArray[np.bool_], heights: Floats) -> Work:
    """Rows as far as pieces depend on them; of a grouped convolution one group, of a sequence one row of pixels."""
    part = rows.take(known)
    one_to_one = _ONE_TO_ONE[part.kinds]
    groups = np.where(one_to_one, 1, part["groups"])
    sequence = part.kinds == KIND_CODES["linear"]
    turned = part.kinds == KIND_CODES["transposed_conv"]

    reach = part["dilation_height"] * (part["kernel_height"] - 1) + 1
    needed = np.minimum((heights - 1) * part["stride_height"] + reach, part["in_height"])
    in_height = np.where(heights < part["out_height"], needed, part["in_height"])

    def whole(values: Floats) -> Floats:
        return np.floor(np.maximum(values, 1))

    return Work(
        whole(np.where(sequence, 1, np.where(turned, part["out_height"], in_height))),
        whole(np.where(sequence, part["in_height"], np.where(turned, part["out_width"], part["in_width"]))),
        whole(part["in_channels"] / groups),
        whole(np.where(sequence, 1, heights)),
        whole(np.where(sequence, part["out_height"], part["out_width"])),
        whole(part["out_channels"] / groups),
        whole(part["kernel_height"]),
        whole(part["kernel_width"]),
        whole(part["dilation_height"]),
        whole(np.where(turned, 1, part["stride_height"])),
        one_to_one,
        part.kinds == KIND_CODES["pool"],
    )


def _tiling(tiles: Tiles, work: Work) -> Tiling:
    packed, granule = packs_taps(tiles, work), granules(tiles, work)
    piece = height, width, channels = _pieces(tiles, work, granule, packed)
    held = np.where(work.depthwise, channels, _held(tiles, work, packed))
    inputs = Inputs.of(tiles, work, granule, held)
    sizes = np.stack([work.out_height, work.out_width, work.out_channels])
    return Tiling(
        height,
        width,
        channels,
        inputs.rows(height),
        inputs.columns(width),
        ceil(work.out_height, height) * ceil(work.out_width, width),
        ceil(work.out_channels, channels),
        _cycles(tiles, work, granule, packed, piece),
        height * width * channels,
        np.maximum(sizes / piece, 1).prod(axis=0),
        held,
    )


def _pieces(tiles: Tiles, work: Work, granule: Floats, packed: Bools) -> Floats:
    """Height, width and channels (3, n) of the pieces that the compiler takes."""
    found = np.empty((3, len(work)))
    shaped = work.depthwise & (tiles.proportional_channels is not None)
    if shaped.any():
        found[:, shaped] = in_proportion(tiles, work.take(shaped), granule[:, shaped])
    if not shaped.all():
        some, held = work.take(~shaped), _held(tiles, work, packed)[~shaped]
        found[:, ~shaped] = least_read(tiles, some, granule[:, ~shaped], held)
    return found


def _held(tiles: Tiles, work: Work, packed: Bools) -> Floats:
    """Input channels (n,) that a piece takes at a time."""
    most = np.where(packed, tiles.shallow_channels, tiles.deep_channels)
    return up(np.minimum(work.in_channels, most), tiles.input_channels)


def _cycles(tiles: Tiles, work: Work, granule: Floats, packed: Bools, piece: Floats) -> Floats:
    """Cycles (n,) of the array for one piece: a step of it takes four for four taps or four times eight channels."""
    height, width, channels = piece
    channels = np.minimum(channels, work.out_channels)
    pixels = ceil(height, granule[0]) * ceil(width, granule[1])
    # A single row is worked on in pieces of one row instead of two.
    single = work.flat & ~work.depthwise & (work.out_width % 2 == 0) & (granule[0] == 2)
    pixels = np.where(single, ceil(width, 2 * granule[1]), pixels)
    fours, held = ceil(work.taps, 4), np.minimum(work.in_channels, _held(tiles, work, packed))
    shallow = fours * ceil(held, 8) * ceil(work.in_channels, held)
    deep = work.taps * ceil(work.in_channels, held)
    steps = np.where(work.depthwise, fours, np.where(packed, shallow, deep))
    per_pixel = np.where(work.depthwise | packed, 4, tiles.deep_channels // 8)
    least = np.floor(tiles.least_cycles * granule[2] / 8)
    cycles = np.maximum(least, per_pixel * pixels) * steps * ceil(channels, granule[2])
    pooled = tiles.pool_cycles * np.maximum(4, work.taps) * pixels * ceil(channels, granule[2])
    return np.where(work.pool, pooled, cycles) / tiles.cores

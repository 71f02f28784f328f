"""What a subgraph makes the hardware do, from the figures of its description alone: the features of the regression.

Everything is computed for n rows of any kinds in one vectorised pass. `Physics` holds the terms in cycles, from which
`regress` builds a roofline; `feature_matrix` adds what the terms leave out: how full the tiles are, how large the
footprint is against the memories, and the raw sizes in logarithms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.estimate.pieces.search import up
from chipfit.estimate.pieces.tiles import Pieces, stripe_height
from chipfit.estimate.rows import KIND_CODES, Floats, Rows
from chipfit.graph.workload import CONCATENATION, WORKLOAD_KINDS
from chipfit.targets.target import Precision, Target

TERMS = (
    "overhead", "work", "lookup", "on_chip", "reread", "weights", "excess", "reload", "fetch", "plain_fetch", "store",
    "plain_store", "scales", "again",
)  # fmt: skip
"""Cycles that a subgraph would take if there were nothing else to do:

overhead  fixed cycles of every subgraph
work      steps of the array, the depthwise mapping or the vector unit, every lane dimension rounded up to full tiles
lookup    functions by table, at the rate of the table port
on_chip   input, output and weights once between on-chip memory and the lanes
reread    the input again for every further tile of output channels
weights   weights and biases from DRAM
excess    activations that exceed the on-chip memory, once through DRAM
reload    what comes from DRAM again because activations spill: weights for every stripe of rows with the overlapping
          rows, or the excess for every buffer of weights, whichever is less; where pieces are known, weights for
          every piece of pixels if they find no room beside the rest
fetch     an input in blocks of channels that lies outside, with every repetition; plain_fetch one without blocks, of
          which no more is read at a time than the channels that a piece takes
store     an output in blocks of channels that lies outside; plain_store one without blocks, as pieces of few channels
          make it
scales    biases and scales for every piece of pixels
again     weights for every piece of pixels, whether they find room or not: no resource, as it is not known which
"""
PIECES = {
    "compute": ("overhead", "work", "lookup"),
    "table": ("overhead", "lookup"),
    "on_chip": ("overhead", "on_chip", "reread"),
    "dram": ("overhead", "weights", "excess", "reload"),
    "fetch": ("overhead", "fetch", "plain_fetch"),
    "store": ("overhead", "store", "plain_store"),
    "scales": ("overhead", "scales"),
}
"""Resources that work at the same time, with the terms that each one's cycles consist of."""

OUTSIDE = ("dram", "fetch", "store", "scales")
"""Resources that are one where a chip has a single way to its memory outside."""


def described(target: Target) -> Floats:
    """What the description stands for (resources, terms): 1 where a resource takes a term."""
    apart = np.array([[float(term in piece) for term in TERMS] for piece in PIECES.values()])
    if target.memory.dram_takes_turns:
        names = list(PIECES)
        places = [names.index(name) for name in OUTSIDE]
        joint = apart[places].max(axis=0)
        apart[places] = 0
        apart[names.index("dram")] = joint
    return apart


ENERGY_TERMS = ("mac", "idle", "on_chip", "reread", "weights", "excess", "reload", "static")
"""Joules by the description: MACs (vector work counts one per element), lanes clocked for nothing, bytes, leakage."""

_ARRAY = np.array([kind in ("conv", "depthwise", "transposed_conv", "linear", "matmul") for kind in WORKLOAD_KINDS])
_MATRIX = np.array([kind in ("linear", "matmul") for kind in WORKLOAD_KINDS])
_NEVER_ZERO_JOULE = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class Physics:
    """What the hardware does for n rows, by its description.

    `terms` (n, len(TERMS)) are cycles, `energy_terms` (n, len(ENERGY_TERMS)) joules with the static share left at the
    power in watts (to be multiplied by the latency); `fill` (n, 3) how full the tiles of input channels, output
    channels and pixels are, from 0 to 1; `footprint` and `buffer` (n,) activations by on-chip memory and weights by
    the weight buffer; `pieces` (n, any) logarithms of what the pieces of the output are, nothing without a description
    of them.
    """

    terms: Floats
    energy_terms: Floats
    fill: Floats
    footprint: Floats
    buffer: Floats
    pieces: Floats

    def take(self, index: NDArray[np.int64]) -> Physics:
        """The rows at `index`."""
        return Physics(*(getattr(self, name)[index] for name in self.__slots__))


def physics(target: Target, precision: Precision, rows: Rows) -> Physics:
    """The terms of n rows on a target. No loop over rows, nothing but the target's figures."""
    memory = target.memory
    work, tiles, fill = _work(target, precision, rows)
    act, weight = precision.activation_bits / 8, precision.weight_bits / 8
    inputs, output = _stored(target, rows, "in") * act, _stored(target, rows, "out") * act
    biases = rows["biases"] * precision.bias_bits / 8
    weights = rows["parameters"] * weight * rows["stored_share"] + biases
    main = rows["in_height"] * rows["in_width"] * rows["in_channels"] * act
    footprint, buffer = (inputs + output) / memory.activation_bytes, weights / memory.weight_buffer_bytes
    excess = np.maximum(inputs + output - memory.activation_bytes, 0)
    reload = _reload(rows, act, weights, excess, footprint, buffer)
    reread, lookup = main * (tiles - 1), _lookup(target, act, rows)
    again = biases_again = fetch = store = plain_fetch = plain_store = np.zeros(len(rows))
    pieces = np.zeros((len(rows), 0))
    if target.tiles is not None:
        found = Pieces.of(target, rows)
        read, pixel_pieces, cycles = found.read_elements * act, found.pixel_pieces, found.cycles
        work, lookup = np.where(found.known, cycles, work), np.where(found.known, 0, lookup)
        reread = np.where(found.known, np.maximum(read - main, 0), reread)
        read = np.where(found.known, np.maximum(read, inputs), inputs)
        again, biases_again = weights * (pixel_pieces - 1), biases * pixel_pieces
        pieces = np.concatenate([found.features, np.log2(stripe_height(rows))[:, None]], axis=1)
        if target.layout.striped:
            # What does not fit beside the rest lies outside as a whole, which the rows say; weights that find no room
            # are streamed anew for every piece of pixels.
            fetch, plain_fetch, store, plain_store = _outside(target, rows, found, act, read, output)
            reload = again * rows["streamed"]
            excess = np.zeros(len(rows))
        else:
            excess = np.where(inputs > memory.on_chip_bytes / 2, read, 0)
            excess = excess + np.where(output > memory.on_chip_bytes / 2, output, 0)
            reload = np.where(inputs + output + weights > memory.on_chip_bytes, weights + again, 0)
    per_dram = target.dram_bytes_per_cycle
    terms = np.stack(
        [
            np.full(len(rows), target.overhead.layer_cycles + target.overhead.fill_cycles),
            work,
            lookup,
            (inputs + output + weights) / memory.on_chip_bytes_per_cycle,
            (reread + again) / memory.on_chip_bytes_per_cycle,
            weights / per_dram,
            excess / per_dram,
            reload / per_dram,
            fetch / per_dram,
            plain_fetch / per_dram,
            store / per_dram,
            plain_store / per_dram,
            biases_again / per_dram,
            (weights + again) / per_dram,
        ],
        axis=1,
    )
    activations = excess + fetch + plain_fetch + store + plain_store
    outside = [weights + np.maximum(biases_again - biases, 0), activations, reload]
    moved = np.stack([inputs + output + weights, reread + again, *outside], axis=1)
    energy_terms = _energy_terms(target, precision, rows, np.maximum(work, lookup), moved)
    return Physics(terms, energy_terms, fill, footprint, buffer, pieces)


def _outside(
    target: Target, rows: Rows, found: Pieces, act: float, read: Floats, output: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Bytes (n,) to and from memory outside, for the terms fetch, plain_fetch, store and plain_store.

    `read` and `output` (n,) are the bytes of the input with repetitions and of the output, `act` those of an element.
    Where fewer bytes lie side by side than a burst has, the rest of it is moved in vain.
    """

    def bursts(together: Floats) -> Floats:
        return np.maximum(target.memory.burst_bytes / (together * act), 1)

    # What is not cut into pieces, or writes every other pixel, moves one block of channels at a time.
    block = np.minimum(target.layout.channel_block, rows["out_channels"])
    turned = rows.kinds == KIND_CODES["transposed_conv"]
    written = np.where(found.known & ~turned, found.channels, block)
    plain_read = np.where(found.known, found.plain_read * act, read)
    outside, plain = output * rows["far_output"], rows["plain_output"]
    return (
        read * np.where(found.known, bursts(found.together), 1) * rows["far_input"] * (1 - rows["plain_input"]),
        plain_read * np.where(found.known, bursts(found.plain_together), 1) * rows["far_input"] * rows["plain_input"],
        outside * (1 - plain),
        outside * bursts(written) * plain,
    )


def _stored(target: Target, rows: Rows, side: str) -> Floats:
    """Elements (n,) that the inputs ("in") or the output ("out") take in memory, with the channels padded."""
    channels = rows[f"{side}_channels"]
    padded = up(channels, target.layout.channel_block) / channels
    outside = rows["plain_input" if side == "in" else "plain_output"] > 0
    moved = rows[f"{side}_elements"] * np.where(outside, 1, padded)
    return moved if side == "in" else moved * _copied(rows)


def _copied(rows: Rows) -> Floats:
    """Which share (n,) of its output an operator writes: of a concatenation what is not there already."""
    joined = (rows.kinds == KIND_CODES["copy"]) & (rows["function"] == CONCATENATION)
    return np.where(joined, rows["in_elements"] / np.maximum(rows["out_elements"], 1), 1)


def _energy_terms(target: Target, precision: Precision, rows: Rows, busy: Floats, moved: Floats) -> Floats:
    """The energy terms from the cycles that the array is kept busy and the bytes `moved` (n, 5)."""
    macs = rows["macs"]
    idle = np.where(macs > 0, busy * target.lanes.macs_per_cycle - macs / precision.throughput, 0)
    operations = np.where(macs > 0, macs / precision.throughput, rows["out_elements"])
    amounts = np.column_stack([operations, np.maximum(idle, 0), moved, np.ones(len(rows))])
    figures = _energy_figures(target)
    # A measured energy may need a term that the description leaves at zero: a nominal figure stands in.
    return amounts * np.where(figures > 0, figures, _NEVER_ZERO_JOULE)


def _energy_figures(target: Target) -> Floats:
    energy = target.energy
    on_chip, dram = energy.on_chip_byte_j, energy.dram_byte_j
    return np.array([energy.mac_j, energy.idle_mac_j, on_chip, on_chip, dram, dram, dram, energy.static_w])


def described_energy(target: Target) -> Floats:
    """Coefficients of `ENERGY_TERMS` that the description itself stands for: 1, or 0 where its figure is 0."""
    return (_energy_figures(target) > 0).astype(np.float64)


def _work(target: Target, precision: Precision, rows: Rows) -> tuple[Floats, Floats, Floats]:
    """Cycles of the unit that does the work, tiles of output channels, and how full the tiles are."""
    lanes, kinds = target.lanes, rows.kinds
    groups, taps = rows["groups"], rows["kernel_height"] * rows["kernel_width"]
    # A sequence (rows, channels) has width 1; a tensor with four axes is one product of its last two per channel.
    matrix = _MATRIX[kinds]
    four_axes = matrix & ((rows["in_width"] > 1) | (rows["out_width"] > 1))
    products = np.where(four_axes, rows["out_channels"], groups)
    length = np.where(four_axes, rows["in_width"], rows["in_channels"] // groups)
    outputs = np.where(four_axes, rows["out_width"], rows["out_channels"] // groups)
    turned = kinds == KIND_CODES["transposed_conv"]
    height = np.where(turned, rows["in_height"], rows["out_height"])
    width = np.where(turned, rows["in_width"], rows["out_width"])
    height, width = np.where(matrix, 1, height), np.where(matrix, rows["out_height"], width)

    input_tiles, tiles = np.ceil(length / lanes.input_channels), np.ceil(outputs / lanes.output_channels)
    pixel_tiles = np.ceil(width / lanes.pixels)
    array = height * pixel_tiles * taps * products * input_tiles * tiles / precision.throughput

    slices = np.ceil(rows["out_channels"] / target.depthwise.channels)
    row_steps = rows["out_height"] * np.ceil(rows["out_width"] / target.lanes.pixels)
    windows = row_steps * slices * np.ceil(taps / target.depthwise.taps)
    windows = windows / (target.depthwise.efficiency * precision.throughput)

    vector_tiles = np.ceil(up(rows["out_channels"], target.layout.channel_block) / target.vector.elements_per_cycle)
    passes = np.where(kinds == KIND_CODES["pool"], taps, 1) * max(1.0, precision.activation_bits / 8)
    vector = rows["out_height"] * rows["out_width"] * vector_tiles * passes * _copied(rows)

    depthwise, on_array = kinds == KIND_CODES["depthwise"], _ARRAY[kinds]
    work = np.where(depthwise, windows, np.where(on_array, array, vector))
    fill = np.stack(
        [
            length / (input_tiles * lanes.input_channels),
            np.where(
                depthwise,
                rows["out_channels"] / (slices * target.depthwise.channels),
                np.where(
                    on_array,
                    outputs / (tiles * lanes.output_channels),
                    rows["out_channels"] / (vector_tiles * target.vector.elements_per_cycle),
                ),
            ),
            width / (pixel_tiles * lanes.pixels),
        ],
        axis=1,
    )
    return work, np.where(on_array & ~depthwise, tiles, 1), fill


def _lookup(target: Target, width: float, rows: Rows) -> Floats:
    """Cycles of the table port; an activation by itself counts as one by table unless it is known to be a clamp."""
    level, kinds = rows["activation"], rows.kinds
    alone = (kinds == KIND_CODES["softmax"]) | ((kinds == KIND_CODES["activation"]) & (level != 1))
    tiles = np.ceil(rows["out_channels"] / target.vector.table_elements_per_cycle)
    return np.where((level >= 2) | alone, rows["out_height"] * rows["out_width"] * tiles * max(1.0, width), 0)


def _reload(
    rows: Rows, activation_width: float, weights: Floats, excess: Floats, footprint: Floats, buffer: Floats
) -> Floats:
    """Bytes that come from DRAM again, in the cheaper of the two loop orders."""
    stripes = np.maximum(np.ceil(footprint), 1) - 1
    reach = rows["dilation_height"] * (rows["kernel_height"] - 1) + 1
    overlap = np.maximum(reach - rows["stride_height"], 0) * rows["in_width"] * rows["in_channels"] * activation_width
    return np.minimum(
        stripes * (np.where(buffer > 1, weights, 0) + overlap), excess * (np.maximum(np.ceil(buffer), 1) - 1)
    )


def feature_matrix(rows: Rows, facts: Physics, roofline: Floats) -> NDArray[np.float32]:
    """Features (n, f) of the trees: shares of the roofline, how full tiles and memories are, logarithms of sizes.

    `roofline` (n,) are the cycles that the regression corrects. Single precision, in which the trees compare.
    """
    return np.concatenate(
        [
            np.log2(facts.terms[:, 1:] / roofline[:, None] + 2.0**-10),
            facts.fill,
            np.log2(facts.footprint + 2.0**-10)[:, None],
            np.log2(facts.buffer + 2.0**-10)[:, None],
            np.log2(roofline)[:, None],
            np.log2(1 + rows.values),
            _filled(rows),
            facts.pieces,
        ],
        axis=1,
    ).astype(np.float32)


GRANULARITIES: Mapping[str, tuple[int, ...]] = {
    "in_channels": (8, 16, 32, 64), "out_channels": (8, 16, 32, 64), "out_height": (2, 4, 8), "out_width": (2, 4, 8),
}  # fmt: skip
"""Numbers that hardware does at once, as far as a description may not say it."""


def _filled(rows: Rows) -> Floats:
    """How full (n, any) the last of so many at once is; the regression finds out which of them matter."""
    return np.stack(
        [rows[name] / (np.ceil(rows[name] / step) * step) for name, steps in GRANULARITIES.items() for step in steps],
        axis=1,
    )

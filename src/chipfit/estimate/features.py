"""What a subgraph makes the hardware do, from the figures of its description alone: the features of the regression.

Everything is computed for n rows of any kinds in one vectorised pass. `Physics` holds the terms in cycles, from which
`regress` builds a roofline; `feature_matrix` adds what the terms leave out: how full the tiles are, how large the
footprint is against the memories, and the raw sizes in logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from chipfit.graph.workload import WORKLOAD_FIELDS, WORKLOAD_KINDS, Workload
from chipfit.targets.target import Precision, Target

Floats = NDArray[np.float64]

KIND_CODES = {kind: code for code, kind in enumerate(WORKLOAD_KINDS)}
"""Rows carry their kind as its place in `WORKLOAD_KINDS`."""

TERMS = ("overhead", "work", "lookup", "on_chip", "reread", "weights", "excess", "reload")
"""Cycles that a subgraph would take if there were nothing else to do:

overhead  fixed cycles of every subgraph
work      steps of the array, the depthwise mapping or the vector unit, every lane dimension rounded up to full tiles
lookup    functions by table, at the rate of the table port
on_chip   input, output and weights once between on-chip memory and the lanes
reread    the input again for every further tile of output channels
weights   weights and biases from DRAM
excess    activations that exceed the on-chip memory, once through DRAM
reload    what comes from DRAM again because activations spill: weights for every stripe of rows with the overlapping
          rows, or the excess for every buffer of weights, whichever is less
"""
PIECES = {
    "compute": ("overhead", "work", "lookup"),
    "table": ("overhead", "lookup"),
    "on_chip": ("overhead", "on_chip", "reread"),
    "dram": ("overhead", "weights", "excess", "reload"),
}
"""Resources that work at the same time, with the terms that each one's cycles consist of."""

ENERGY_TERMS = ("mac", "idle", "on_chip", "reread", "weights", "excess", "reload", "static")
"""Joules by the description: MACs (vector work counts one per element), lanes clocked for nothing, bytes, leakage."""

_FIELD = {name: position for position, name in enumerate(WORKLOAD_FIELDS)}
_NUMBERS = attrgetter(*WORKLOAD_FIELDS)
_ARRAY = np.array([kind in ("conv", "depthwise", "transposed_conv", "linear", "matmul") for kind in WORKLOAD_KINDS])
_MATRIX = np.array([kind in ("linear", "matmul") for kind in WORKLOAD_KINDS])
_NEVER_ZERO_JOULE = 1e-12

RANGE_FIELDS = (
    "in_height", "in_width", "in_channels", "out_height", "out_width", "out_channels", "kernel_height", "kernel_width",
    "stride_height", "stride_width", "dilation_height", "dilation_width", "macs", "parameters", "in_elements",
    "out_elements",
)  # fmt: skip
"""Fields whose smallest and largest measured value bound where predictions interpolate."""
_RANGE = [_FIELD[name] for name in RANGE_FIELDS]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """n closed workloads: `kinds` (n,) are codes, `values` (n, fields) the numbers in the order of WORKLOAD_FIELDS."""

    kinds: NDArray[np.int64]
    values: Floats

    @classmethod
    def of(cls, kinds: NDArray[np.int64], values: Floats) -> Rows:
        """Rows with every convolution called what its numbers make it.

        An open graph may hold one row for a convolution that is depthwise under some codes only; the row has to cost
        what the closed graph's row costs.
        """
        groups, channels = values[:, _FIELD["groups"]], values[:, _FIELD["in_channels"]]
        conv, depthwise = KIND_CODES["conv"], KIND_CODES["depthwise"]
        named = np.where((groups == channels) & (channels > 1), depthwise, conv)
        return cls(np.where((kinds == conv) | (kinds == depthwise), named, kinds), values)

    @classmethod
    def of_workloads(cls, workloads: Sequence[Workload]) -> Rows:
        """Closed workloads as rows. Raises `TypeError` for one that still depends on decisions."""
        values = np.array([_NUMBERS(workload) for workload in workloads], dtype=np.float64).reshape(
            len(workloads), len(WORKLOAD_FIELDS)
        )
        return cls.of(np.array([KIND_CODES[workload.kind] for workload in workloads], dtype=np.int64), values)

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, name: str) -> Floats:
        return self.values[:, _FIELD[name]]

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Rows:
        """The rows at `index`."""
        return Rows(self.kinds[index], self.values[index])

    def range_keys(self) -> Floats:
        """Logarithms (n, range fields) of the numbers that the range check looks at."""
        return np.log2(1 + self.values[:, _RANGE])


@dataclass(frozen=True, slots=True, eq=False)
class Physics:
    """What the hardware does for n rows, by its description.

    `terms` (n, len(TERMS)) are cycles, `energy_terms` (n, len(ENERGY_TERMS)) joules with the static share left at the
    power in watts (to be multiplied by the latency); `fill` (n, 3) how full the tiles of input channels, output
    channels and pixels are, from 0 to 1; `footprint` and `buffer` (n,) activations by on-chip memory and weights by
    the weight buffer.
    """

    terms: Floats
    energy_terms: Floats
    fill: Floats
    footprint: Floats
    buffer: Floats

    def take(self, index: NDArray[np.int64]) -> Physics:
        """The rows at `index`."""
        return Physics(
            self.terms[index], self.energy_terms[index], self.fill[index], self.footprint[index], self.buffer[index]
        )


def physics(target: Target, precision: Precision, rows: Rows) -> Physics:
    """The terms of n rows on a target. No loop over rows, nothing but the target's figures."""
    memory = target.memory
    work, tiles, fill = _work(target, precision, rows)
    act, weight = precision.activation_bits / 8, precision.weight_bits / 8
    inputs, output = rows["in_elements"] * act, rows["out_elements"] * act
    weights = rows["parameters"] * weight + rows["biases"] * precision.bias_bits / 8
    main = rows["in_height"] * rows["in_width"] * rows["in_channels"] * act
    footprint, buffer = (inputs + output) / memory.activation_bytes, weights / memory.weight_buffer_bytes
    excess = np.maximum(inputs + output - memory.activation_bytes, 0)
    reload = _reload(rows, act, weights, excess, footprint, buffer)
    reread = main * (tiles - 1)
    per_dram = target.dram_bytes_per_cycle
    lookup = _lookup(target, act, rows)
    terms = np.stack(
        [
            np.full(len(rows), target.overhead.layer_cycles + target.overhead.fill_cycles),
            work,
            lookup,
            (inputs + output + weights) / memory.on_chip_bytes_per_cycle,
            reread / memory.on_chip_bytes_per_cycle,
            weights / per_dram,
            excess / per_dram,
            reload / per_dram,
        ],
        axis=1,
    )
    moved = np.stack([inputs + output + weights, reread, weights, excess, reload], axis=1)
    energy_terms = _energy_terms(target, precision, rows, np.maximum(work, lookup), moved)
    return Physics(terms, energy_terms, fill, footprint, buffer)


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

    vector_tiles = np.ceil(rows["out_channels"] / target.vector.elements_per_cycle)
    passes = np.where(kinds == KIND_CODES["pool"], taps, 1) * max(1.0, precision.activation_bits / 8)
    vector = rows["out_height"] * rows["out_width"] * vector_tiles * passes

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
    return np.where((level == 2) | alone, rows["out_height"] * rows["out_width"] * tiles * max(1.0, width), 0)


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
        ],
        axis=1,
    ).astype(np.float32)

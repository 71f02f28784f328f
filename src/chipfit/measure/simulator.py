"""The analytic simulator: what a workload costs on an accelerator that may exist as a description only.

The model, per subgraph and image
- The array multiplies tap by tap: a step gives, for one kernel tap, `lanes.pixels` neighbouring pixels of a row and
  `lanes.output_channels` outputs the sum over `lanes.input_channels` inputs. Each is rounded up, so that costs step
  just above multiples of the lanes. A grouped convolution is as many small dense ones. A transposed convolution walks
  over the pixels of its input. A matrix product has rows for pixels.
- A depthwise convolution sums over nothing: it runs `depthwise.channels` channels and `depthwise.taps` taps per step.
- Everything else runs on the vector unit, channel slice by channel slice, in the passes of `VECTOR_PASSES`.
  A function by table behind an operator limits its output to the rate of the table port.
- Activations go between on-chip memory and the lanes: the input once per tile of output channels, residual operands
  and the output once, weights once. Weights come from DRAM for every image.
- Inputs and output that exceed the on-chip memory left beside the weight buffer spill: the excess goes through DRAM.
  Either weights stay, and the excess moves once per buffer of weights (once where they all fit into it); or the
  image is cut into row stripes that fit, and every stripe reads all weights and the rows where kernels overlap
  again. The cheaper order is taken. Other tensors that are alive meanwhile are not seen.
- Computing and both transfers overlap, so the slowest of them decides, plus fixed cycles.

Energy is MACs, lanes that were clocked for nothing, bytes and static power. Every part only grows when lanes,
bandwidth or memory are taken away and when a workload gets more channels, pixels or taps (and does not turn from
depthwise to grouped), so latency never falls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit import __version__
from chipfit.errors import InvalidInput
from chipfit.graph.functions import function_name
from chipfit.graph.graph import Graph
from chipfit.graph.subgraphs import cut
from chipfit.graph.values import Choice
from chipfit.graph.workload import WORKLOAD_FIELDS, Workload
from chipfit.measure.measurement import Failure, Measure, Measurement, Part, Run, Source
from chipfit.measure.specimen import Largest, Specimen
from chipfit.nets.network import Network
from chipfit.targets.target import Precision, Target

Columns = Mapping[str, NDArray[Any]]
"""Workloads as columns: (n,) numbers per name in `WORKLOAD_FIELDS`, all but one integers, and (n,) strings under
"kind"."""

Floats = NDArray[np.float64]

VECTOR_PASSES: Mapping[str, int] = {
    "elementwise": 1,
    "activation": 1,
    "normalisation": 3,  # sum, variance, scale
    "softmax": 2,  # maximum, division; the exponential goes through the table port
    "resize": 4,  # the taps of a bilinear one
    "copy": 1,
}
"""Passes of the vector unit over the output; pooling has one per kernel tap."""

BOUNDS = ("compute", "on_chip", "dram", "overhead")


@dataclass(frozen=True, slots=True, eq=False)
class Simulation:
    """Costs of n workloads and what they are made of; every field is an (n,) array.

    `cycles` is the largest of the compute, on-chip and DRAM cycles, rounded up, plus the overhead; `bound` names what
    decides ("compute", "on_chip", "dram" or "overhead"). `utilisation` is MACs by what the array offers in `cycles`.
    `peak_bytes` are the inputs and the output.
    """

    cycles: NDArray[np.int64]
    latency_s: Floats
    energy_j: Floats
    peak_bytes: NDArray[np.int64]
    compute_cycles: Floats
    on_chip_cycles: Floats
    dram_cycles: Floats
    on_chip_bytes: NDArray[np.int64]
    dram_bytes: NDArray[np.int64]
    utilisation: Floats
    bound: NDArray[np.str_]


def simulator(target: Target, precision: str | None = None) -> Measure:
    """The simulator of one target as a way to measure. Raises `InvalidInput` for an unknown precision."""
    target.precision(precision)
    return partial(simulate, target, precision=precision)


def simulate(target: Target, workloads: Sequence[Workload], precision: str | None = None) -> list[Measurement]:
    """One simulated measurement per closed workload, in order.

    Raises `InvalidInput` for a workload that the target cannot run or that still depends on decisions.
    """
    simulation = simulate_columns(target, workload_columns(workloads), precision)
    source = Source("simulated", "chipfit simulator", __version__)
    figures = zip(
        simulation.latency_s.tolist(),
        simulation.cycles.tolist(),
        simulation.peak_bytes.tolist(),
        simulation.energy_j.tolist(),
        strict=True,
    )
    return [Measurement(latency, source, cycles, peak, energy) for latency, cycles, peak, energy in figures]


@dataclass(frozen=True, slots=True)
class Simulated:
    """A `Tool` for `target` from a function that needs nothing but workloads."""

    target: Target
    measure: Measure
    largest: Largest = Largest()  # noqa: RUF009 (frozen)
    budget: int = 24_000
    whole: int = 120

    def subgraphs(self, specimens: Sequence[Specimen]) -> list[Part | Failure]:
        """Every specimen by its workload in the middle of a network."""
        loads = [item.workload(self.target.fuses) for item in specimens]
        return [Part(load, found) for load, found in zip(loads, self.measure(loads), strict=True)]

    def networks(self, models: Sequence[Graph | Network]) -> list[Run | Failure]:
        """Every network as the sum of its subgraphs; what the target cannot run is named and left out."""
        return [self._network(model.graph if isinstance(model, Network) else model) for model in models]

    def _network(self, graph: Graph) -> Run | Failure:
        subgraphs = cut(graph, self.target.fuses)
        run = self.target.run_of(subgraphs)
        if not run:
            return Failure(f"{self.target.name} runs nothing of it")
        found = self.measure([part.workload for part in run])
        parts = {part.name: Part(part.workload, each) for part, each in zip(run, found, strict=True)}
        whole = Measurement(sum(each.latency_s for each in found), found[0].source)
        return Run(whole, parts, {}, tuple(part.name for part in subgraphs if part.name not in parts))


def simulated(target: Target, precision: str | None = None) -> Simulated:
    """The simulator of a target as a `Tool`. Raises `InvalidInput` for an unknown precision."""
    return Simulated(target, simulator(target, precision))


def workload_columns(workloads: Sequence[Workload]) -> dict[str, NDArray[Any]]:
    """Closed workloads as `Columns`. Raises `InvalidInput` for one that still depends on decisions."""
    for position, workload in enumerate(workloads):
        if any(isinstance(getattr(workload, name), Choice) for name in WORKLOAD_FIELDS):
            raise InvalidInput(f"workload {position} ({workload.kind}) still depends on decisions: close the graph")
    columns: dict[str, NDArray[Any]] = {
        name: np.array(
            [getattr(workload, name) for workload in workloads], np.float64 if name == "stored_share" else np.int64
        )
        for name in WORKLOAD_FIELDS
    }
    return columns | {"kind": np.array([workload.kind for workload in workloads], dtype=np.str_)}


def simulate_columns(target: Target, columns: Columns, precision: str | None = None) -> Simulation:
    """Costs of n workloads given as columns, without a loop over them.

    Raises `InvalidInput` for a kind or function that the target cannot run (opaque ones: no target can), and for an
    unknown precision.
    """
    _runs(target, columns)
    numbers = target.precision(precision)
    compute = _compute_cycles(target, numbers, columns)
    in_bytes, out_bytes = (_bytes(columns[name], numbers.activation_bits) for name in ("in_elements", "out_elements"))
    weight_bytes = _bytes(columns["parameters"], numbers.weight_bits) + _bytes(columns["biases"], numbers.bias_bits)
    on_chip_bytes = weight_bytes + out_bytes + in_bytes + _rereads(target, numbers, columns)
    dram_bytes = _dram_bytes(target, numbers, columns, in_bytes + out_bytes, weight_bytes)
    parts = np.stack(
        [
            compute,
            on_chip_bytes / target.memory.on_chip_bytes_per_cycle,
            dram_bytes * target.clock_hz / target.memory.dram_bytes_per_s,
            np.full_like(compute, target.overhead.layer_cycles + target.overhead.fill_cycles),
        ]
    )
    cycles = np.ceil(parts[:3].max(axis=0) + parts[3])
    latency_s = cycles / target.clock_hz
    offered = cycles * target.lanes.macs_per_cycle * numbers.throughput
    return Simulation(
        cycles=cycles.astype(np.int64),
        latency_s=latency_s,
        energy_j=_energy(target, numbers, columns, compute, on_chip_bytes, dram_bytes, latency_s),
        peak_bytes=in_bytes + out_bytes,
        compute_cycles=compute,
        on_chip_cycles=parts[1],
        dram_cycles=parts[2],
        on_chip_bytes=on_chip_bytes,
        dram_bytes=dram_bytes,
        utilisation=columns["macs"] / np.maximum(offered, 1.0),
        bound=np.array(BOUNDS)[parts.argmax(axis=0)],
    )


def _runs(target: Target, columns: Columns) -> None:
    for kind, function in sorted(set(zip(columns["kind"].tolist(), columns["function"].tolist(), strict=True))):
        name = function_name(kind, function)
        if not target.runs_some(kind) or name in target.unsupported:
            raise InvalidInput(
                f"target {target.name} cannot run {name!r} workloads: leave them out and report them as unsupported"
            )


def _ceil(a: NDArray[np.int64], b: NDArray[np.int64] | float) -> NDArray[np.int64]:
    return -(-a // b).astype(np.int64)


def _bytes(elements: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    return _ceil(elements * bits, 8)


def _is_depthwise(columns: Columns) -> NDArray[np.bool_]:
    """Rows that are depthwise by their numbers.

    An open graph may hold one row for a convolution that is depthwise under some codes only; it has to cost what the
    closed graph's row costs.
    """
    separate = (columns["groups"] == columns["in_channels"]) & (columns["in_channels"] > 1)
    return separate & np.isin(columns["kind"], ("conv", "depthwise"))


def _matrix_sizes(columns: Columns) -> tuple[NDArray[np.int64], ...]:
    """Products, rows, summed length and columns of linear layers and matrix products.

    A sequence (rows, channels) comes with width 1; a tensor with four axes is a product of its last two per channel.
    """
    sequence = (columns["in_width"] == 1) & (columns["out_width"] == 1)
    products = np.where(sequence, 1, columns["out_channels"])
    length = np.where(sequence, columns["in_channels"], columns["in_width"])
    outputs = np.where(sequence, columns["out_channels"], columns["out_width"])
    return products, columns["out_height"], length, outputs


def _array_steps(target: Target, columns: Columns) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Steps of the array, and tiles of output channels for each of which the input is read, had all rows MACs."""
    lanes, kind = target.lanes, columns["kind"]
    group_in, group_out = (columns[name] // columns["groups"] for name in ("in_channels", "out_channels"))
    turned = kind == "transposed_conv"
    height, width = (np.where(turned, columns[f"in_{side}"], columns[f"out_{side}"]) for side in ("height", "width"))
    taps = columns["kernel_height"] * columns["kernel_width"]
    tiles = _ceil(group_out, lanes.output_channels)
    passes = columns["groups"] * _ceil(group_in, lanes.input_channels) * tiles
    dense = height * _ceil(width, lanes.pixels) * passes * taps

    products, rows, length, outputs = _matrix_sizes(columns)
    matrix_tiles = _ceil(outputs, lanes.output_channels)
    matrix = products * _ceil(rows, lanes.pixels) * _ceil(length, lanes.input_channels) * matrix_tiles
    is_matrix = np.isin(kind, ("linear", "matmul"))
    return np.where(is_matrix, matrix, dense), np.where(is_matrix, matrix_tiles, tiles)


def _compute_cycles(target: Target, numbers: Precision, columns: Columns) -> Floats:
    kind, throughput = columns["kind"], numbers.throughput
    pixels = columns["out_height"] * columns["out_width"]
    taps = columns["kernel_height"] * columns["kernel_width"]
    array = _array_steps(target, columns)[0] / throughput

    row_steps = columns["out_height"] * _ceil(columns["out_width"], target.lanes.pixels)
    slices = _ceil(columns["out_channels"], target.depthwise.channels) * _ceil(taps, target.depthwise.taps)
    depthwise = row_steps * slices / (target.depthwise.efficiency * throughput)

    # Lanes of the vector unit and the table port are 8 bits wide.
    width = max(1.0, numbers.activation_bits / 8)
    vector = pixels * _ceil(columns["out_channels"], target.vector.elements_per_cycle) * width
    lookup = pixels * _ceil(columns["out_channels"], target.vector.table_elements_per_cycle) * width
    passes = np.select([kind == name for name in VECTOR_PASSES], list(VECTOR_PASSES.values()), default=taps)

    on_array = np.isin(kind, ("conv", "depthwise", "transposed_conv", "linear", "matmul"))
    compute = np.where(on_array, array, vector * passes)
    compute = np.where(_is_depthwise(columns), depthwise, compute)
    compute = np.where(kind == "softmax", compute + lookup, compute)
    # An activation by itself does not say its function: it counts as one by table unless it is known to be a clamp.
    by_table = (columns["activation"] >= 2) | ((kind == "activation") & (columns["activation"] != 1))
    return np.where(by_table, np.maximum(compute, lookup), compute)


def _rereads(target: Target, numbers: Precision, columns: Columns) -> NDArray[np.int64]:
    """Bytes of input that the array reads again, for every tile of output channels but the first."""
    on_array = np.isin(columns["kind"], ("conv", "transposed_conv", "linear", "matmul")) & ~_is_depthwise(columns)
    tiles = np.where(on_array, _array_steps(target, columns)[1], 1)
    main = columns["in_height"] * columns["in_width"] * columns["in_channels"]
    return _bytes(main, numbers.activation_bits) * (tiles - 1)


def _dram_bytes(
    target: Target,
    numbers: Precision,
    columns: Columns,
    activation_bytes: NDArray[np.int64],
    weight_bytes: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Weights, and activations that do not fit, in the cheaper of the two loop orders."""
    room, buffer = target.memory.activation_bytes, target.memory.weight_buffer_bytes
    excess = np.maximum(activation_bytes - room, 0)
    stripes = np.maximum(_ceil(activation_bytes, room), 1)
    reach = columns["dilation_height"] * (columns["kernel_height"] - 1) + 1
    overlap = np.maximum(reach - columns["stride_height"], 0)
    row_bytes = _bytes(columns["in_width"] * columns["in_channels"], numbers.activation_bits)
    striped = weight_bytes * stripes + excess + (stripes - 1) * overlap * row_bytes
    whole = weight_bytes + excess * np.maximum(_ceil(weight_bytes, buffer), 1)
    return np.minimum(striped, whole)


def _energy(
    target: Target,
    numbers: Precision,
    columns: Columns,
    compute_cycles: Floats,
    on_chip_bytes: NDArray[np.int64],
    dram_bytes: NDArray[np.int64],
    latency_s: Floats,
) -> Floats:
    """Joules. A MAC that takes 1 / throughput cycles costs as much more; vector work counts as a MAC per element."""
    energy = target.energy
    macs = columns["macs"]
    idle = np.where(macs > 0, compute_cycles * target.lanes.macs_per_cycle - macs / numbers.throughput, 0.0)
    operations = np.where(macs > 0, macs / numbers.throughput, columns["out_elements"])
    return (
        operations * energy.mac_j
        + np.maximum(idle, 0.0) * energy.idle_mac_j
        + on_chip_bytes * energy.on_chip_byte_j
        + dram_bytes * energy.dram_byte_j
        + latency_s * energy.static_w
    )

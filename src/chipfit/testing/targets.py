"""Conformance of an accelerator: what `chipfit.targets.Target` and a way to measure on it promise."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.ops import (
    Activation,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    GlobalPool,
    LayerNorm,
    Linear,
    MatMul,
    Op,
    Pool2d,
    Resize,
    Softmax,
)
from chipfit.graph.subgraphs import cut
from chipfit.graph.values import Shape
from chipfit.graph.workload import Workload
from chipfit.measure import Measure, simulate_columns, simulator, workload_columns
from chipfit.targets import Target, variant


def check_target(target: Target, measure: Measure | None = None) -> None:
    """Raises AssertionError, with what was wrong, unless the target and the way to measure on it are sound.

    Checked: the target is the same after a round trip through plain data; one measurement per workload with positive
    figures over a grid of operators, in every precision when simulated; an opaque workload is refused. Without
    `measure` the target is simulated, and the laws of the simulator are checked on it too: latency never falls when
    lanes, bandwidth or memory are taken away or work is added, and compute cycles step just above multiples of the
    lanes. A real tool need not follow these. An exception of the tool's own passes through.
    """
    again = Target.model_validate(target.model_dump(mode="json"))
    _require(again == target and again.digest == target.digest, f"{target.name} changes in a round trip")
    _require(variant(target, {}) == target, f"a variant of {target.name} without changes is another target")
    workloads = _grid(target)
    if measure is not None:
        _check_measure(measure, workloads, target.name)
        return
    for precision in target.precisions:
        _check_measure(simulator(target, precision), workloads, f"{target.name} in {precision}")
        _check_less_is_no_faster(target, workloads, precision)
    _check_more_work_is_no_faster(target)
    _check_steps(target)


def _require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _workload(target: Target, op: Op, *shapes: Shape) -> Workload:
    inputs = tuple(Input(f"input{position}", shape) for position, shape in enumerate(shapes))
    node = Node("operator", op, tuple(item.key for item in inputs))
    return cut(Graph(inputs, (node,), ("operator",)), target.fuses)[0].workload


def _conv(target: Target, channels: int, out: int, size: int = 28, kernel: int = 3, groups: int = 1) -> Workload:
    pad = kernel // 2
    op = Conv2d(out, (kernel, kernel), padding=(pad, pad, pad, pad), groups=groups)
    return _workload(target, op, (1, channels, size, size))


def _grid(target: Target) -> list[Workload]:
    """Workloads of every kind that the target can run, small and large, with odd and even channels."""
    found: list[Workload] = []
    for channels in (1, 3, 16, 17, 96, 256):
        for size in (1, 7, 30, 224):
            image = (1, channels, size, size)
            rows = (1, size, channels)
            found += [
                _conv(target, channels, 2 * channels, size, 1),
                _conv(target, channels, 24, size, 3),
                _conv(target, channels, channels, size, 3, channels),
                _workload(target, ConvTranspose2d(8, (2, 2), (2, 2)), image),
                _workload(target, Pool2d("max", (3, 3), (2, 2), (1, 1, 1, 1)), image),
                _workload(target, GlobalPool(), image),
                _workload(target, Elementwise("mul"), image, image),
                _workload(target, Activation("relu"), image),
                _workload(target, Resize("bilinear", scale=(2.0, 2.0)), image),
                _workload(target, Concat(), image, image),
                _workload(target, Linear(channels + 1), rows),
                _workload(target, LayerNorm(), rows),
                _workload(target, Softmax(), rows),
                _workload(target, MatMul(), (1, size, channels), (1, channels, size)),
            ]
    return [workload for workload in found if workload.kind not in target.unsupported]


def _check_measure(measure: Measure, workloads: Sequence[Workload], where: str) -> None:
    measurements = measure(workloads)
    _require(
        len(measurements) == len(workloads),
        f"{where}: {len(measurements)} measurements of {len(workloads)} workloads",
    )
    for workload, found in zip(workloads, measurements, strict=True):
        for name in ("latency_s", "cycles", "peak_bytes", "energy_j"):
            figure = getattr(found, name)
            _require(figure is None or figure > 0, f"{where}: {name} = {figure} for {workload}")
    try:
        measure([Workload("opaque")])
    except InvalidInput:
        return
    raise AssertionError(f"{where}: an opaque workload has a cost; it has to be refused with InvalidInput")


def _cycles(target: Target, workloads: Sequence[Workload], precision: str | None = None) -> NDArray[np.int64]:
    return simulate_columns(target, workload_columns(workloads), precision).cycles


def _lesser(target: Target) -> Mapping[str, int | float]:
    """Dotted keys of what the chip has, each about halved."""
    memory, lanes = target.memory, target.lanes
    return {
        "lanes.input_channels": (lanes.input_channels + 1) // 2,
        "lanes.output_channels": (lanes.output_channels + 1) // 2,
        "lanes.pixels": (lanes.pixels + 1) // 2,
        "depthwise.channels": (target.depthwise.channels + 1) // 2,
        "depthwise.taps": (target.depthwise.taps + 1) // 2,
        "depthwise.efficiency": target.depthwise.efficiency / 2,
        "vector.elements_per_cycle": (target.vector.elements_per_cycle + 1) // 2,
        "vector.table_elements_per_cycle": (target.vector.table_elements_per_cycle + 1) // 2,
        "memory.on_chip_bytes": memory.weight_buffer_bytes + (memory.activation_bytes + 1) // 2,
        "memory.on_chip_bytes_per_cycle": memory.on_chip_bytes_per_cycle / 2,
        "memory.dram_bytes_per_s": memory.dram_bytes_per_s / 2,
    }


def _check_less_is_no_faster(target: Target, workloads: Sequence[Workload], precision: str) -> None:
    cycles = _cycles(target, workloads, precision)
    for key, figure in _lesser(target).items():
        slower = _cycles(variant(target, {key: figure}), workloads, precision)
        for workload, before, after in zip(workloads, cycles, slower, strict=True):
            _require(after >= before, f"{target.name}: {key} = {figure} makes {workload} faster: {before} to {after}")


def _check_more_work_is_no_faster(target: Target) -> None:
    # From two channels per group on: with one it is a depthwise convolution, which maps in another way.
    counts = range(2, 70)
    for groups in (1, 3):
        width = 24 * groups
        for axis, sweep in {
            "input channels": [_conv(target, groups * n, width, groups=groups) for n in counts],
            "output channels": [_conv(target, width, groups * n, groups=groups) for n in counts],
            "pixels": [_conv(target, width, width, n, groups=groups) for n in counts],
        }.items():
            _require((np.diff(_cycles(target, sweep)) >= 0).all(), f"{target.name}: more {axis} make it faster")


def _check_steps(target: Target) -> None:
    """Within a tile compute cycles stay, one channel above it they rise."""
    for axis, lanes in (("input", target.lanes.input_channels), ("output", target.lanes.output_channels)):
        for tiles in (1, 2, 3):
            sizes = ((tiles - 1) * lanes + 1, tiles * lanes, tiles * lanes + 1)
            pairs = [(size, lanes) if axis == "input" else (lanes, size) for size in sizes]
            columns = workload_columns([_conv(target, inputs, outputs, kernel=5) for inputs, outputs in pairs])
            first, last, above = simulate_columns(target, columns).compute_cycles.tolist()
            _require(
                first == last < above,
                f"{target.name}: no step at {sizes[1]} {axis} channels: {first}, {last}, {above} compute cycles",
            )

"""The analytic simulator: equal to the naive formula, monotone, and rocky where real accelerators are."""

from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    GlobalPool,
    Linear,
    MatMul,
    Op,
    Pool2d,
    Reshape,
    Resize,
    Softmax,
)
from chipfit.graph.subgraphs import cut
from chipfit.graph.values import Decision, bind, choose, map_choices
from chipfit.graph.workload import WORKLOAD_KINDS, Workload
from chipfit.measure import simulate, simulate_columns, simulator, workload_columns
from chipfit.targets import Target, load_target, shipped_targets, variant

TARGETS = tuple(target for target in shipped_targets() if target.tool is None)
ENGINE = load_target("neural-engine")
EVERY_TARGET = st.sampled_from(TARGETS)


def conv(channels: int, out: int, size: int = 28, kernel: int = 3, stride: int = 1, groups: int = 1) -> Workload:
    pad = kernel // 2
    op = Conv2d(out, (kernel, kernel), (stride, stride), (pad, pad, pad, pad), groups=groups, bias=False)
    graph = Graph((Input("x", (1, channels, size, size)),), (Node("y", op, ("x",)),), ("y",))
    return cut(graph)[0].workload


def cycles(workloads: list[Workload], target: Target = ENGINE, precision: str | None = None) -> list[int]:
    return simulate_columns(target, workload_columns(workloads), precision).cycles.tolist()


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Any workload that a target can be asked for; its sizes need not belong together."""
    kind = draw(st.sampled_from([kind for kind in WORKLOAD_KINDS if kind != "opaque"]))
    small, size, many = st.integers(1, 5), st.integers(1, 130), st.integers(0, 10**6)
    per_group = 1 if kind == "depthwise" else draw(st.integers(1, 70))
    groups = draw(st.integers(2, 70)) if kind == "depthwise" else draw(st.sampled_from((1, 1, 2, 8)))
    return Workload(
        kind,
        in_height=draw(size), in_width=draw(st.one_of(st.just(1), size)), in_channels=groups * per_group,
        out_height=draw(size), out_width=draw(st.one_of(st.just(1), size)),
        out_channels=groups * draw(st.integers(1, 70)),
        kernel_height=draw(small), kernel_width=draw(small), stride_height=draw(small), stride_width=draw(small),
        dilation_height=draw(small), dilation_width=draw(small), groups=groups,
        activation=draw(st.integers(0, 3)), adds=draw(st.integers(0, 1)), macs=draw(many), parameters=draw(many),
        biases=draw(st.integers(0, 1000)), in_elements=draw(many), out_elements=draw(many),
    )  # fmt: skip


def up(a: int, b: int) -> int:
    return ceil(Fraction(a, b))


def naive_steps(target: Target, work: Workload) -> tuple[int, int, bool]:
    """Steps of the array, how often the input is read, and whether the mapping is the depthwise one."""
    lanes = target.lanes
    if work.kind in ("linear", "matmul"):
        if work.in_width == 1 and work.out_width == 1:
            products, length, outputs = 1, work.in_channels, work.out_channels
        else:
            products, length, outputs = work.out_channels, work.in_width, work.out_width
        tiles = up(outputs, lanes.output_channels)
        return products * up(work.out_height, lanes.pixels) * up(length, lanes.input_channels) * tiles, tiles, False
    height, width = work.out_height, work.out_width
    if work.kind == "transposed_conv":
        height, width = work.in_height, work.in_width
    elif work.groups == work.in_channels and work.in_channels > 1:
        steps = up(work.out_channels, target.depthwise.channels)
        taps = up(work.kernel_height * work.kernel_width, target.depthwise.taps)
        return height * up(width, lanes.pixels) * steps * taps, 1, True
    tiles = up(work.out_channels // work.groups, lanes.output_channels)
    inputs = up(work.in_channels // work.groups, lanes.input_channels)
    taps = work.kernel_height * work.kernel_width
    return height * up(width, lanes.pixels) * work.groups * inputs * tiles * taps, tiles, False


def naive(target: Target, work: Workload, precision: str) -> tuple[Fraction, int, int]:
    """Compute cycles, on-chip bytes and DRAM bytes of one workload, written out."""
    numbers = target.precisions[precision]
    throughput, width = Fraction(numbers.throughput), max(Fraction(1), Fraction(numbers.activation_bits, 8))
    pixels = work.out_height * work.out_width
    vector = pixels * up(work.out_channels, target.vector.elements_per_cycle) * width
    lookup = pixels * up(work.out_channels, target.vector.table_elements_per_cycle) * width
    tiles = 1
    if work.kind in ("conv", "depthwise", "transposed_conv", "linear", "matmul"):
        steps, tiles, depthwise = naive_steps(target, work)
        compute = steps / throughput / (Fraction(target.depthwise.efficiency) if depthwise else 1)
    elif work.kind == "pool":
        compute = vector * work.kernel_height * work.kernel_width
    elif work.kind == "softmax":
        compute = 2 * vector + lookup
    else:
        compute = vector * {"normalisation": 3, "resize": 4}.get(work.kind, 1)
    if work.activation >= 2 or (work.kind == "activation" and work.activation == 0):
        compute = max(compute, lookup)

    def size(elements: int, bits: int) -> int:
        return up(elements * bits, 8)

    weights = size(work.parameters, numbers.weight_bits) + size(work.biases, numbers.bias_bits)
    activations = size(work.in_elements, numbers.activation_bits) + size(work.out_elements, numbers.activation_bits)
    main = size(work.in_height * work.in_width * work.in_channels, numbers.activation_bits)
    on_chip = weights + activations + (tiles - 1) * main

    room = target.memory.on_chip_bytes - target.memory.weight_buffer_bytes
    if activations <= room:
        return compute, on_chip, weights
    stripes = up(activations, room)
    overlap = max(work.dilation_height * (work.kernel_height - 1) + 1 - work.stride_height, 0)
    halo = (stripes - 1) * overlap * size(work.in_width * work.in_channels, numbers.activation_bits)
    buffers = max(1, up(weights, target.memory.weight_buffer_bytes))
    striped = weights * stripes + (activations - room) + halo
    return compute, on_chip, min(striped, weights + (activations - room) * buffers)


@given(EVERY_TARGET, st.lists(workloads(), max_size=8), st.sampled_from(("int8", "int16x8", "int16")))
def test_columns_cost_what_the_naive_formula_gives_one_by_one(
    target: Target, batch: list[Workload], precision: str
) -> None:
    found = simulate_columns(target, workload_columns(batch), precision)
    for row, work in enumerate(batch):
        compute, on_chip, dram = naive(target, work, precision)
        memory = target.memory
        on_chip_cycles = Fraction(on_chip) / Fraction(memory.on_chip_bytes_per_cycle)
        dram_cycles = Fraction(dram) * Fraction(target.clock_hz) / Fraction(memory.dram_bytes_per_s)
        fixed = Fraction(target.overhead.layer_cycles) + Fraction(target.overhead.fill_cycles)
        exact = max(compute, on_chip_cycles, dram_cycles) + fixed
        assert (found.on_chip_bytes[row], found.dram_bytes[row]) == (on_chip, dram)
        assert found.compute_cycles[row] == pytest.approx(float(compute), rel=1e-12)
        # Rounded up, from floats that may lie a hair to either side of the fraction.
        hair = Fraction(1, 10**6)
        assert exact - hair <= int(found.cycles[row]) < exact + 1 + hair
        assert found.latency_s[row] == found.cycles[row] / target.clock_hz


@given(EVERY_TARGET, st.lists(workloads(), min_size=1, max_size=8))
def test_measurements_are_the_columns_one_by_one(target: Target, batch: list[Workload]) -> None:
    together = simulate(target, batch)
    assert together == [simulator(target)([work])[0] for work in batch]
    columns = simulate_columns(target, workload_columns(batch))
    assert [found.cycles for found in together] == columns.cycles.tolist()
    assert {found.source.kind for found in together} == {"simulated"}


def test_no_workloads_are_no_measurements() -> None:
    assert simulate(ENGINE, []) == []


@given(
    EVERY_TARGET,
    st.lists(workloads(), min_size=1, max_size=4),
    st.sampled_from(("lanes.input_channels", "lanes.output_channels", "lanes.pixels", "depthwise.channels",
                     "depthwise.taps", "vector.elements_per_cycle", "vector.table_elements_per_cycle")),
    st.integers(1, 16),
)  # fmt: skip
def test_latency_never_falls_when_lanes_are_removed(
    target: Target, batch: list[Workload], key: str, lanes: int
) -> None:
    table, name = key.split(".")
    fewer = variant(target, {key: min(lanes, getattr(getattr(target, table), name))})
    assert (np.array(cycles(batch, fewer)) >= cycles(batch, target)).all()


@given(
    EVERY_TARGET,
    st.lists(workloads(), min_size=1, max_size=4),
    st.sampled_from(("memory.on_chip_bytes", "memory.on_chip_bytes_per_cycle", "memory.dram_bytes_per_s")),
    st.floats(0.2, 1.0),
)
def test_latency_never_falls_when_memory_or_bandwidth_shrinks(
    target: Target, batch: list[Workload], key: str, factor: float
) -> None:
    figure = getattr(target.memory, key.removeprefix("memory.")) * factor
    lesser = variant(target, {key: int(figure) if key == "memory.on_chip_bytes" else figure})
    assert (np.array(cycles(batch, lesser)) >= cycles(batch, target)).all()


@given(
    EVERY_TARGET,
    st.integers(2, 90), st.integers(2, 90), st.integers(1, 60), st.sampled_from((1, 3)), st.sampled_from((1, 2, 5)),
    st.sampled_from(("channels", "out", "size", "kernel")), st.integers(1, 40),
)  # fmt: skip
def test_latency_never_falls_when_a_convolution_grows(
    target: Target, channels: int, out: int, size: int, kernel: int, groups: int, axis: str, more: int
) -> None:
    given_sizes = {"channels": channels, "out": out, "size": size, "kernel": kernel}
    larger = {**given_sizes, axis: given_sizes[axis] + (2 * more if axis == "kernel" else more)}
    small, large = (
        conv(sizes["channels"] * groups, sizes["out"] * groups, sizes["size"], sizes["kernel"], groups=groups)
        for sizes in (given_sizes, larger)
    )
    before, after = cycles([small, large], target)
    assert after >= before


@given(EVERY_TARGET, st.lists(workloads(), min_size=1, max_size=4))
def test_latency_never_falls_when_numbers_get_wider(target: Target, batch: list[Workload]) -> None:
    narrow, mixed, wide = (cycles(batch, target, name) for name in ("int8", "int16x8", "int16"))
    assert all(a <= b <= c for a, b, c in zip(narrow, mixed, wide, strict=True))


@given(EVERY_TARGET, st.lists(workloads(), min_size=1, max_size=4))
def test_costs_are_positive_and_finite_and_the_bound_is_the_largest_part(target: Target, batch: list[Workload]) -> None:
    found = simulate_columns(target, workload_columns(batch))
    assert (found.cycles > 0).all()
    assert (np.isfinite(found.energy_j) & (found.energy_j > 0)).all()
    overhead = np.full(len(batch), target.overhead.layer_cycles + target.overhead.fill_cycles)
    parts = {
        "compute": found.compute_cycles,
        "on_chip": found.on_chip_cycles,
        "dram": found.dram_cycles,
        "overhead": overhead,
    }
    largest = np.max(list(parts.values()), axis=0)
    assert all(parts[name][row] == largest[row] for row, name in enumerate(found.bound.tolist()))


@given(EVERY_TARGET, st.integers(1, 200), st.integers(1, 200), st.sampled_from((1, 3)), st.integers(1, 40))
def test_utilisation_is_a_share(target: Target, channels: int, out: int, kernel: int, size: int) -> None:
    found = simulate_columns(target, workload_columns([conv(channels, out, size, kernel)]))
    assert 0 < found.utilisation[0] <= 1


def test_a_convolution_by_hand() -> None:
    """3x3, 16 to 16 channels, 28x28: one step per tap and pixel, one tile each way, plus 248 fixed cycles."""
    found = simulate_columns(ENGINE, workload_columns([conv(16, 16)]))
    assert found.cycles[0] == 28 * 28 * 9 + 248
    assert found.on_chip_bytes[0] == 2 * 28 * 28 * 16 + 16 * 16 * 9
    assert found.dram_bytes[0] == 16 * 16 * 9
    assert found.utilisation[0] == pytest.approx(28 * 28 * 9 / (28 * 28 * 9 + 248))
    assert found.bound[0] == "compute"
    assert found.peak_bytes[0] == 2 * 28 * 28 * 16
    macs, on_chip, dram, seconds = 28 * 28 * 9 * 256, 2 * 28 * 28 * 16 + 2304, 2304, 7304 / 500e6
    energy_j = macs * 0.4e-12 + on_chip * 1.5e-12 + dram * 40e-12 + seconds * 0.010
    assert found.energy_j[0] == pytest.approx(energy_j, rel=1e-12)


def test_idle_lanes_and_slow_precisions_cost_energy_by_hand() -> None:
    """One of 256 lanes works; at half the rate a multiplication costs twice, and so does a lane that idles."""
    row = workload_columns([conv(1, 1, 10, 1)])
    silent = {"energy.on_chip_byte_j": 0, "energy.dram_byte_j": 0, "energy.static_w": 0}
    for precision, passes in (("int8", 1), ("int16x8", 2), ("int16", 4)):
        found = simulate_columns(variant(ENGINE, silent), row, precision)
        energy_j = 100 * passes * (0.4e-12 + 255 * 0.1e-12)
        assert found.energy_j[0] == pytest.approx(energy_j, rel=1e-12)


def test_a_tensor_that_does_not_fit_spills_its_excess() -> None:
    """224x224 in and out with 16 channels are 1,605,632 bytes, of which 458,752 fit; the weights stay."""
    found = simulate_columns(ENGINE, workload_columns([conv(16, 16, 224)]))
    assert found.dram_bytes[0] == 16 * 16 * 9 + (1_605_632 - 458_752)


def test_weights_that_do_not_fit_either_are_read_for_every_stripe() -> None:
    """112x112, 64 to 128 channels: 2,408,448 bytes are six stripes, with two rows of 112 x 64 at five borders."""
    found = simulate_columns(ENGINE, workload_columns([conv(64, 128, 112)]))
    assert found.dram_bytes[0] == 6 * 64 * 128 * 9 + (2_408_448 - 458_752) + 5 * 2 * 112 * 64


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_steps_lie_just_above_multiples_of_the_lanes(target: Target) -> None:
    lanes = target.lanes.output_channels
    sweep = [conv(lanes, out, 56) for out in range(1, 3 * lanes + 2)]
    compute = simulate_columns(target, workload_columns(sweep)).compute_cycles
    rises = np.flatnonzero(np.diff(compute)) + 2
    assert rises.tolist() == [lanes + 1, 2 * lanes + 1, 3 * lanes + 1]


def test_a_depthwise_convolution_leaves_most_lanes_idle_unless_it_has_an_engine() -> None:
    row = workload_columns([conv(64, 64, groups=64)])
    for target in TARGETS:
        used = simulate_columns(target, row).utilisation[0]
        assert (used > 0.4) if target.name == "neural-engine-depthwise" else (used < 0.1), target.name


def fused_share(target: Target, size: int, channels: int, stride: int) -> float:
    """Cycles of a fused inverted bottleneck by those of the plain one, expansion 4, 3x3."""
    wide, out = 4 * channels, size // stride
    fused = [conv(channels, wide, size, 3, stride), conv(wide, channels, out, 1)]
    plain = [conv(channels, wide, size, 1), conv(wide, wide, size, 3, stride, wide), conv(wide, channels, out, 1)]
    return sum(cycles(fused, target)) / sum(cycles(plain, target))


def test_fusion_wins_early_and_at_strides_and_loses_late() -> None:
    assert fused_share(ENGINE, 112, 16, 1) < 1
    assert fused_share(ENGINE, 112, 16, 2) < fused_share(ENGINE, 112, 16, 1)
    assert fused_share(ENGINE, 56, 24, 2) < 1 < fused_share(ENGINE, 56, 24, 1)
    assert fused_share(ENGINE, 14, 80, 1) > 2
    assert fused_share(ENGINE, 7, 160, 2) > 2


def test_more_multipliers_make_fusion_pay_and_a_depthwise_engine_makes_it_cost() -> None:
    for stride in (1, 2):
        here = fused_share(ENGINE, 56, 24, stride)
        assert fused_share(load_target("neural-engine-32x32"), 56, 24, stride) < here
        assert fused_share(load_target("neural-engine-depthwise"), 56, 24, stride) > here


def test_padded_lanes_cost_energy_but_less_than_work() -> None:
    tile, above, full = simulate_columns(ENGINE, workload_columns([conv(16, 16), conv(16, 17), conv(16, 32)])).energy_j
    assert tile < above < full


def test_a_convolution_that_is_depthwise_by_its_numbers_costs_what_a_depthwise_one_does() -> None:
    """One open node, depthwise under one of two codes, is one row of kind "conv" while open."""
    decision = Decision("dense", (0, 1))
    op = Conv2d(32, (3, 3), padding=(1, 1, 1, 1), groups=choose(decision, (32, 1)))
    graph = Graph((Input("x", (1, 32, 28, 28)),), (Node("y", op, ("x",)),), ("y",), (decision,))
    (open_row,) = cut(graph)
    bound_rows = [
        map_choices(open_row.workload, lambda choice, option=option: bind(choice, {"dense": option}))
        for option in (0, 1)
    ]
    closed_rows = [cut(graph.close([option]))[0].workload for option in (0, 1)]
    assert [row.kind for row in bound_rows] == ["conv", "conv"]
    assert [row.kind for row in closed_rows] == ["depthwise", "conv"]
    assert cycles(bound_rows) == cycles(closed_rows)


def test_what_cannot_run_or_is_still_open_is_refused() -> None:
    with pytest.raises(InvalidInput, match="target neural-engine cannot run 'opaque'"):
        simulate(ENGINE, [conv(8, 8), Workload("opaque")])
    with pytest.raises(InvalidInput, match="cannot run 'softmax'"):
        simulate(variant(ENGINE, {"unsupported": ["softmax"]}), [Workload("softmax")])
    with pytest.raises(InvalidInput, match="no precision 'int4'"):
        simulator(ENGINE, "int4")
    size = choose(Decision("size", (8, 16)), (8, 16))
    with pytest.raises(InvalidInput, match=r"workload 1 \(pool\) still depends on decisions"):
        simulate(ENGINE, [conv(8, 8), Workload("pool", in_height=size)])


def small_network() -> Graph:
    """Two inverted bottlenecks, one with a residual, and one operator of most other kinds."""
    same = (1, 1, 1, 1)
    nodes: list[Node] = []

    def add(key: str, op: Op, *inputs: str) -> str:
        nodes.append(Node(key, op, inputs))
        return key

    add("stem", Conv2d(16, (3, 3), (2, 2), same), "x")
    add("stem.bn", BatchNorm(), "stem")
    add("stem.relu", Activation("relu6"), "stem.bn")
    add("expand", Conv2d(72, (1, 1)), "stem.relu")
    add("depthwise", Conv2d(72, (3, 3), (1, 1), same, groups=72), "expand")
    add("swish", Activation("hard_swish"), "depthwise")
    add("project", Conv2d(16, (1, 1)), "swish")
    add("sum", Elementwise("add"), "stem.relu", "project")
    add("fused", Conv2d(64, (3, 3), (2, 2), same), "sum")
    add("project2", Conv2d(24, (1, 1)), "fused")
    add("grouped", Conv2d(48, (3, 3), padding=same, groups=4), "project2")
    add("pool", Pool2d("max", (3, 3), (2, 2), same), "grouped")
    add("up", Resize("bilinear", scale=(2.0, 2.0)), "pool")
    add("side", Concat(), "up", "project2")
    add("turned", ConvTranspose2d(8, (2, 2), (2, 2)), "side")
    add("gate", Elementwise("mul"), "turned", "turned")
    add("mean", GlobalPool(), "gate")
    add("flat", Reshape((-1,)), "mean")
    add("rows", Reshape((4, 2)), "flat")
    add("columns", Reshape((2, 4)), "flat")
    add("attention", MatMul(), "rows", "columns")
    add("weights", Softmax(), "attention")
    add("all", Reshape((-1,)), "weights")
    add("head", Linear(1000), "all")
    return Graph((Input("x", (1, 3, 128, 128)),), tuple(nodes), ("head",))


GOLDEN_CYCLES = {
    "neural-engine": 464_980,
    "neural-engine-16x16x4": 129_617,
    "neural-engine-32x32": 309_076,
    "neural-engine-depthwise": 292_948,
    "neural-engine-slow-dram": 472_480,
    "neural-engine-small": 1_157_588,
    "neural-engine-wide-memory": 463_105,
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_golden_cycles_of_a_network(target: Target) -> None:
    """Any change to the model or to a shipped design shows here and has to be meant."""
    rows = [subgraph.workload for subgraph in cut(small_network(), target.fuses)]
    assert sum(cycles(rows, target)) == GOLDEN_CYCLES[target.name]

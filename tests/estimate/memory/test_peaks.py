"""Peak memory on Ethos-U: exact bytes on small networks, the compiler's own figures, and tables against one by one."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from chipfit.estimate.accumulate import tabulate
from chipfit.estimate.estimator import Estimator
from chipfit.estimate.memory.buffers import Pace, buffers, paces
from chipfit.estimate.memory.peaks import Peak, highest, moments
from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.regress import Prediction
from chipfit.estimate.rows import Rows
from chipfit.graph.build import Builder
from chipfit.graph.graph import Graph
from chipfit.measure.measurement import Run
from chipfit.measure.stored import stored_bytes, stored_of
from chipfit.measure.subgraphs import laid_out, subgraphs_of
from chipfit.nets.zoo import ibn_classifier, resnet8
from chipfit.spaces.edits import open_space
from chipfit.targets import Target, load_target, variant


@pytest.fixture(scope="module")
def ethos() -> Target:
    return load_target("ethos-u55-256")


def peak_of(graph: Graph, target: Target) -> Peak:
    subgraphs, steps = laid_out(graph, target)
    rows = paces(target, Rows.of_workloads([part.workload for part in subgraphs])).tolist()
    pace_of = {part.name: Pace(*row) for part, row in zip(subgraphs, rows, strict=True)}
    stored = stored_of(target.precision(), subgraphs)
    return highest(moments(steps, subgraphs, target, target.precision(), stored, pace_of))


def guessed(rows: Rows) -> Prediction:
    """Costs that nobody looks at."""
    same = np.ones(len(rows))
    return Prediction(same, same, same, same.astype(np.int64), same > 0)


def slices(target: Target, **given: float) -> tuple[float, ...]:
    """The buffers of one operator in bytes: the first, the second, the last, and the cycles of the last slice."""
    values = {"depth": 64.0, "reads": 4.0, "granule": 16.0, "first": 0.0} | given
    return tuple(float(each) for each in buffers(target, **{name: np.float64(value) for name, value in values.items()}))


def test_weights_that_can_be_fetched_before_wait_in_one_buffer(ethos: Target) -> None:
    # One byte per cycle from flash.
    assert slices(ethos, weights=4096, cycles=20_000, slack=5_000) == (4096, 0, 4096, 20_000)


def test_what_cannot_be_fetched_before_comes_in_slices(ethos: Target) -> None:
    # A quarter, 16 of 64 channels, is fetched before; a slice takes 1,024 cycles to fetch and 5,000 to compute, under
    # which the other 48 come: all of them in one slice, the last.
    assert slices(ethos, weights=4096, cycles=20_000, slack=1_100) == (1024, 3072, 3072, 15_000)
    # Where a slice takes as long to compute as to fetch, the same number of channels comes every time.
    assert slices(ethos, weights=4096, cycles=4096, slack=1_100) == (1024, 1024, 1024, 1024)


def test_weights_that_are_read_once_are_buffered_only_under_longer_work(ethos: Target) -> None:
    assert slices(ethos, weights=4096, cycles=4000, slack=9000, reads=1)[:2] == (0, 0)
    assert slices(ethos, weights=4096, cycles=9000, slack=9000, reads=1)[:2] == (4096, 0)


def test_buffers_hold_no_more_than_the_weights_and_never_less_than_a_slice(ethos: Target) -> None:
    generator = np.random.default_rng(1)
    n = 4000
    weights = generator.integers(16, 1 << 18, n).astype(np.float64)
    depth = generator.integers(1, 700, n).astype(np.float64)
    cycles, slack = (np.exp(generator.uniform(3, 15, n)) for _ in range(2))
    reads, granule = generator.integers(1, 40, n), generator.choice([16, 32, 48, 64, 128], n)
    first, second, last, ending = buffers(
        ethos, weights, depth, cycles, reads.astype(np.float64), granule.astype(np.float64), slack, np.zeros(n)
    )
    held = first + second
    assert (held <= weights + 1).all()
    assert (ending <= cycles).all()
    assert (np.minimum(first, second) >= 0).all()
    kept = first > 0
    assert 0.2 < kept.mean() < 0.99
    assert (second[~kept] == 0).all()
    assert (held[kept] >= np.minimum(weights, weights * 16 / depth)[kept] - 1).all()
    assert ((last == first) | (last == second)).all()


def test_two_convolutions_by_hand(ethos: Target) -> None:
    b = Builder()
    x = b.input("x", (1, 16, 32, 32))
    graph = b.graph(b.conv(b.conv(x, 20, bias=True, key="a"), 8, bias=True, key="b"))
    still = variant(ethos, {"layout.weight_buffers": False})
    # Inside the network 20 channels take 32; the network's input and output take as many as they have.
    assert peak_of(graph, still) == Peak(32 * 32 * (16 + 32), "a", (("a", 32 * 32 * 32), ("x", 32 * 32 * 16)))
    found = peak_of(graph, ethos)
    assert (found.subgraph, [name for name, _ in found.held]) == ("a", ["a", "x", "weights of a"])
    assert found.size == sum(size for _, size in found.held)
    assert all(size % 16 == 0 for _, size in found.held)


@pytest.mark.parametrize("edits", [{"fuse": True, "width": True}, {"repeats": True, "kernel": True}])
@pytest.mark.parametrize("name", ["ethos-u55-256", "ethos-u55-256-sram-only", "ethos-u85-256"])
def test_tables_of_a_space_hold_the_peaks_of_its_networks(name: str, edits: dict[str, object]) -> None:
    target = load_target(name)
    space = open_space(ibn_classifier(resolution=64, width=0.5), edits)
    tables = tabulate(space, target, target.precision(), guessed, 0.0)
    codes = np.random.default_rng(3).integers(0, space.cardinalities, (25, len(space.decisions)))
    peaks = tables.at(codes).peak_bytes
    assert len(set(peaks.tolist())) > 1
    for code, expected in zip(codes, peaks.tolist(), strict=True):
        assert peak_of(space.close(code), target).size == expected


def test_weights_on_chip_lie_beside_every_tensor() -> None:
    target = load_target("ethos-u55-256-sram-only")
    graph = resnet8()
    found = peak_of(graph, target)
    stored = sum(stored_bytes(target.precision(), part.workload) for part in subgraphs_of(graph, target))
    assert dict(found.held)["weights"] == stored
    assert not [name for name, _ in found.held if name.startswith("weights of")]


def test_another_order_is_told_where_it_needs_less(estimator: Estimator, ethos: Target) -> None:
    b = Builder()
    x = b.input("x", (1, 4, 16, 16))
    widened = [b.conv(x, 64, key=f"wide{number}") for number in range(3)]
    graph = b.graph(b.concat([b.conv(each, 2, key=f"narrow{n}") for n, each in enumerate(widened)], key="all"))
    found = estimator.reordered(graph)
    assert found is not None
    assert found.size < estimator.peak(graph).size
    nodes = tuple(graph.by_key[key] for key in found.order)
    again = dataclasses.replace(graph, nodes=nodes)
    assert estimator.peak(again).size == found.size
    assert estimator.reordered(again) is None
    # The compiler for Ethos-U has an order of its own.
    assert dataclasses.replace(estimator, target=ethos).reordered(graph) is None


def compiled(target: Target, graphs: Sequence[Graph]) -> list[Run]:
    pytest.importorskip("ethosu.regor", reason="needs chipfit[ethos-u]")
    from chipfit.measure.vela import Compiler

    runs = Compiler(target, workers=1, seed=5).networks(graphs)
    assert all(isinstance(run, Run) for run in runs)
    return [run for run in runs if isinstance(run, Run)]


def branches(b: Builder, source: str, channels: int, ways: int) -> list[str]:
    return [b.conv(source, channels, kernel=3, padding=1, bias=True, key=f"c{way}") for way in range(ways)]


def test_peaks_where_only_liveness_decides_are_those_of_the_compiler(ethos: Target) -> None:
    """Sums in the place of an operand, parts written where the whole lies, ragged parts, gates; weights are small."""
    graphs: list[Graph] = []
    for make in (
        lambda b, p, q: b.conv(b.elementwise(p, q, "add", key="sum"), 8, key="after"),
        lambda b, p, q: b.conv(b.concat([p, q], key="both"), 8, key="after"),
        lambda b, p, q: b.concat([b.conv(b.elementwise(p, q, "add", key="sum"), 16, key="after"), p], key="end"),
    ):
        for channels in (16, 20, 48):
            b = Builder()
            p, q = branches(b, b.input("x", (1, 3, 40, 40)), channels, 2)
            graphs.append(b.graph(make(b, p, q)))
    still = variant(ethos, {"layout.weight_buffers": False})
    for graph, run in zip(graphs, compiled(ethos, graphs), strict=True):
        sram = run.memory_bytes["Sram"]
        assert peak_of(graph, still).size <= sram
        assert peak_of(graph, ethos).size == pytest.approx(sram, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ethos-u55-256", "ethos-u55-256-sram-only"])
def test_peaks_of_networks_are_near_the_compilers(name: str) -> None:
    target = load_target(name)
    graphs = random_networks(24, np.random.default_rng(2))
    pairs = [
        (peak_of(graph, target).size, run.memory_bytes["Sram"])
        for graph, run in zip(graphs, compiled(target, graphs), strict=True)
    ]
    off = np.array([counted / sram - 1 for counted, sram in pairs])
    assert np.abs(np.median(off)) < 0.01
    assert (np.abs(off) <= 0.04).mean() >= 0.9

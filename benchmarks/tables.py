"""Costs of a MobileNetV2-like space: how fast tables are built, merged and looked up, on one core.

Run as `OMP_NUM_THREADS=1 python benchmarks/tables.py`. The costs are synthetic arithmetic
on the workloads; the sums are exact.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.memory import liveness, peak
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Conv2d,
    Elementwise,
    GlobalPool,
    Linear,
    Op,
    Reshape,
    Select,
)
from chipfit.graph.subgraphs import FOLLOWERS, Subgraph, cut
from chipfit.graph.tables import TableMax, TableSum
from chipfit.graph.values import Decision, Value, ceil_div, choose, floor
from chipfit.graph.workload import WORKLOAD_KINDS

FUSES = {kind: frozenset(FOLLOWERS) for kind in WORKLOAD_KINDS}
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels, blocks and stride of each stage (MobileNetV2, table 2)."""


class Space:
    """A graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.decisions: list[Decision] = []

    def decide(self, name: str, options: tuple[Any, ...]) -> Decision:
        self.decisions.append(Decision(name, options))
        return self.decisions[-1]

    def add(self, key: str, op: Op, *inputs: str) -> str:
        self.nodes.append(Node(key, op, inputs))
        return key

    def conv(
        self, key: str, source: str, out: Value, kernel: Value = 1, stride: int = 1, groups: Value = 1, act: bool = True
    ) -> str:
        pad = (kernel - 1) // 2
        op = Conv2d(out, (kernel, kernel), (stride, stride), (pad, pad, pad, pad), groups=groups, bias=False)
        last = self.add(f"{key}.bn", BatchNorm(), self.add(key, op, source))
        return self.add(f"{key}.act", Activation("relu6"), last) if act else last

    def block(
        self, key: str, source: str, widths: tuple[Value, Value], stride: int, factor: Value, kernel: Value
    ) -> str:
        width, out = widths
        hidden = width * factor
        expanded = self.conv(f"{key}.expand", source, hidden)
        inner = self.conv(f"{key}.depthwise", expanded, hidden, kernel, stride, hidden)
        fused = self.conv(f"{key}.fused", source, hidden, kernel, stride)
        index = choose(self.decide(f"{key}.fuse", ("no", "yes")), (0, 1))
        chosen = self.add(f"{key}.fuse", Select(index), inner, fused)
        return self.conv(f"{key}.project", chosen, out, act=False)


def mobilenet() -> Graph:
    """MobileNetV2 with 40 open decisions: input size, multiplier, and per stage width, expansion, kernel, fusion."""
    space = Space()
    size = choose(space.decide("input.size", (224, 192, 160, 128)), (224, 192, 160, 128))
    multiplier = choose(space.decide("multiplier", (1.0, 0.75, 0.5, 0.35)), (1.0, 0.75, 0.5, 0.35))

    def width(name: str, channels: int) -> Value:
        factors = (1.0, 0.875, 1.125, 0.75)
        scaled = choose(space.decide(name, factors), tuple(channels * factor for factor in factors))
        return ceil_div(floor(scaled * multiplier), 8) * 8

    before = width("stem.width", 32)
    tensor = space.conv("stem", "image", before, 3, 2)
    for stage, (factor, channels, blocks, stride) in enumerate(STAGES):
        key = f"stage{stage}"
        out = width(f"{key}.width", channels)
        kernel = choose(space.decide(f"{key}.kernel", (3, 5, 7)), (3, 5, 7))
        factor = choose(space.decide(f"{key}.factor", (6, 4, 3)), (6, 4, 3)) if factor == 6 else factor
        for number in range(blocks):
            made = space.block(f"{key}.{number}", tensor, (before, out), 1 if number else stride, factor, kernel)
            tensor = space.add(f"{key}.{number}.add", Elementwise("add"), made, tensor) if number else made
            before = out
    tensor = space.conv("head", tensor, width("head.width", 1280))
    tensor = space.add("flat", Reshape((-1,)), space.add("pool", GlobalPool(), tensor))
    tensor = space.add("classifier", Linear(1000), tensor)
    return Graph((Input("image", (1, 3, size, size)),), tuple(space.nodes), (tensor,), tuple(space.decisions))


def terms(subgraph: Subgraph) -> tuple[Value, Value, Value, Value]:
    """Made-up seconds, spread, joules and weight bytes of a subgraph."""
    load = subgraph.workload
    lanes = ceil_div(load.out_channels, 16) * 16 * ceil_div(load.in_channels, 16) * 16
    compute = load.out_height * load.out_width * lanes * load.kernel_height * load.kernel_width / load.groups
    traffic = load.in_elements + load.out_elements + load.parameters
    seconds = subgraph.presence * (np.maximum(compute / 256.0, traffic / 8.0) + 1000) / 5e8
    weights = subgraph.presence * (load.parameters + 4 * load.biases)
    return seconds, seconds * 0.02, subgraph.presence * (load.macs * 1e-12 + traffic * 1e-11), weights


def seconds(work: Callable[[], object], repeats: int = 1) -> float:
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return float(best)


def lowered(graph: Graph, code: Any) -> tuple[Subgraph, ...]:
    return cut(graph.close(code), FUSES)


def main() -> None:
    rng = np.random.default_rng(0)
    graph = mobilenet()
    start = time.perf_counter()
    subgraphs = cut(graph, FUSES)
    cut_s = time.perf_counter() - start
    costs = [terms(subgraph) for subgraph in subgraphs]
    terms_s = time.perf_counter() - start - cut_s
    four = TableSum.of(costs, graph.decisions, 4)
    one = TableSum.of([term[:1] for term in costs], graph.decisions)
    sums_s = time.perf_counter() - start - cut_s - terms_s
    steps = [[live.elements for live in step.alive] for step in liveness(graph, subgraphs)]
    peaks = TableMax.of(steps, graph.decisions)
    peaks_s = time.perf_counter() - start - cut_s - terms_s - sums_s
    options = np.array(graph.cardinalities)
    networks = np.prod(options, dtype=float)
    print(f"space: {len(graph.decisions)} decisions, {len(graph.nodes)} nodes, {networks:.1e} networks")
    print(f"prepared: cut {cut_s:.2f} s, terms {terms_s:.2f} s, sums {sums_s:.2f} s, peak {peaks_s:.2f} s")
    print(f"tables: {len(subgraphs)} subgraphs -> {len(one.tables())} after absorption -> {one.gathers} joined ones")
    print(f"        {one.gathers} of {one.entries} entries (one column)")
    print(f"        {four.gathers} of {four.entries} entries (four columns)")
    print(f"peak:   {len(steps)} steps -> {peaks.gathers} tables of {peaks.entries} entries")
    codes = rng.integers(0, options, (100_000, len(options)))
    for label, table in (("one column", one), ("four columns", four), ("peak memory", peaks)):
        for dtype in (np.int8, np.int64):
            given = codes.astype(dtype)
            rate = len(codes) / seconds(lambda: table.at(given), 50)  # noqa: B023
            print(f"{label}, {np.dtype(dtype)} codes: {rate / 1e6:.1f} million codes per second")

    worst = 0.0
    for code in codes[:50]:
        closed = graph.close(code)
        parts = cut(closed, FUSES)
        expected = np.sum([terms(part) for part in parts], axis=0)
        worst = max(worst, float(np.abs(four.at(code[None])[0] / expected - 1).max()))
        worst = max(worst, abs(float(peaks.at(code[None])[0]) / peak(closed, parts).elements - 1))
    print(f"largest relative difference to one by one, 50 codes: {worst:.1e}")
    closed = graph.close(codes[0])
    print(f"one network, {len(closed.nodes)} nodes:", end=" ")
    print(f"close {seconds(lambda: graph.close(codes[0]), 9) * 1e3:.2f} ms, ", end="")
    fresh = [graph.close(codes[0]) for _ in range(18)]
    print(f"shapes {seconds(lambda: fresh.pop().shapes, 9) * 1e3:.2f} ms, ", end="")
    print(f"cut with shapes {seconds(lambda: cut(fresh.pop(), FUSES), 9) * 1e3:.2f} ms")
    print(f"peak resident memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()

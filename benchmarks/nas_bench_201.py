"""The networks of NAS-Bench-201 (Dong and Yang, ICLR 2020) as chipfit's graphs, for the benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

from chipfit.graph.build import Builder
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Activation, BatchNorm
from chipfit.graph.values import Decision, choose

EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
SKIP, NONE, CONV3, CONV1, POOL = range(5)
"""What an edge of a cell is, in the numbers of the public tables."""


def cell_network(decide: bool, code: Sequence[int] = ()) -> Graph:
    """NAS-Bench-201 (Dong and Yang 2020, figure 1): open over the six edges, or closed by what each edge is.

    In the open one "none" costs what "skip" does, an addition.
    """
    b = Builder()
    choices = [b.decide(f"edge{number}", tuple(range(5))) for number in range(6)] if decide else []
    x = b.add(BatchNorm(), b.conv(b.input("input", (1, 3, 32, 32)), 16, kernel=3, key="stem"), key="stem.bn")
    for stage, width in enumerate((16, 32, 64)):
        if stage:
            x = _reduction(b, x, width, f"s{stage}.down")
        for cell in range(5):
            key = f"s{stage}.c{cell}"
            x = _open_cell(b, x, width, choices, key) if decide else _closed_cell(b, x, width, code, key)
    x = b.add(Activation("relu"), b.add(BatchNorm(), x, key="last.bn"), key="last.relu")
    return b.graph(b.linear(b.reshape(b.global_pool(x, key="pool"), (-1,), key="flat"), 10, key="classifier"))


def _convolved(b: Builder, x: str, width: int, kernel: int, key: str, stride: int = 1) -> str:
    x = b.add(Activation("relu"), x, key=f"{key}.relu")
    return b.add(BatchNorm(), b.conv(x, width, kernel=kernel, stride=stride, key=f"{key}.conv"), key=f"{key}.bn")


def _reduction(b: Builder, x: str, width: int, key: str) -> str:
    main = _convolved(b, _convolved(b, x, width, 3, f"{key}.a", stride=2), width, 3, f"{key}.b")
    short = b.conv(b.pool(x, "average", kernel=2, stride=2, key=f"{key}.pool"), width, key=f"{key}.short")
    return b.elementwise(main, short, "add", key=f"{key}.add")


def _edge(b: Builder, x: str, width: int, kind: int, key: str) -> str:
    if kind in (CONV3, CONV1):
        return _convolved(b, x, width, 3 if kind == CONV3 else 1, f"{key}.{kind}")
    return b.pool(x, "average", kernel=3, stride=1, padding=1, key=f"{key}.pool") if kind == POOL else x


def _open_cell(b: Builder, x: str, width: int, choices: Sequence[Decision], key: str) -> str:
    nodes = [x, "", "", ""]
    for number, (a, to) in enumerate(EDGES):
        ways = [_edge(b, nodes[a], width, kind, f"{key}.e{number}") for kind in (SKIP, CONV3, CONV1, POOL)]
        which = choose(choices[number], (0, 0, 1, 2, 3))
        way = b.select(which, ways, key=f"{key}.e{number}.select")
        nodes[to] = way if not nodes[to] else b.elementwise(nodes[to], way, "add", key=f"{key}.e{number}.add")
    return nodes[3]


def _closed_cell(b: Builder, x: str, width: int, code: Sequence[int], key: str) -> str:
    nodes = [x, "", "", ""]
    for number, (a, to) in enumerate(EDGES):
        if code[number] != NONE:
            way = _edge(b, nodes[a], width, code[number], f"{key}.e{number}")
            nodes[to] = way if not nodes[to] else b.elementwise(nodes[to], way, "add", key=f"{key}.e{number}.add")
    return nodes[3]

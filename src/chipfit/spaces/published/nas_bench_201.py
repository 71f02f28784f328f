"""The cell space of NAS-Bench-201 (Dong and Yang, ICLR 2020): six edges with five operations each, 15,625 networks."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from chipfit.errors import InvalidInput
from chipfit.graph.build import Builder
from chipfit.graph.graph import Graph
from chipfit.graph.values import Decision, Value, both, choose, either, equal, negate, where

EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
"""From which node to which, in the order of the decisions: of the public tables' `net` column."""

OPERATIONS = ("skip", "none", "conv3x3", "conv1x1", "avgpool3x3")
SKIP, NONE, CONV3, CONV1, POOL = range(5)
"""What an edge is, in the numbers of the public tables."""

_WORDS = {"skip_connect": SKIP, "none": NONE, "nor_conv_3x3": CONV3, "nor_conv_1x1": CONV1, "avg_pool_3x3": POOL}
_WIDTHS = (16, 32, 64)
_CELLS = 5

Code = tuple[int, ...]


@cache
def space(classes: int = 10, *, resolution: int = 32, idle: bool = False) -> Graph:
    """All networks of the space (figure 1 of the paper), open over the six edges in the order of `EDGES`.

    An edge that is "none", and what only such edges feed or read, is not there. A cell without a way through gives
    zeros, so the network's output does not depend on its input. What is there depends on all six decisions, so tables
    of estimates are large (15,625 rows): close the space with a code, or use `idle`. With `idle` everything is kept as
    the authors run it, convolutions of zeros too, and "none" is a node that gives zeros: what the MACs and parameters
    of the public tables count.
    """
    b = Builder()
    edges = [b.decide(f"edge{start + 1}-{end + 1}", OPERATIONS) for start, end in EDGES]
    x = b.batch_norm(
        b.conv(b.input("input", (1, 3, resolution, resolution)), _WIDTHS[0], kernel=3, key="stem"), key="stem.bn"
    )
    for stage, width in enumerate(_WIDTHS, start=1):
        if stage > 1:
            x = _reduction(b, x, width, f"stage{stage}.reduction")
        for cell in range(1, _CELLS + 1):
            x = (_idle_cell if idle else _cell)(b, x, width, edges, f"stage{stage}.cell{cell}")
    x = b.activation(b.batch_norm(x, key="last.bn"), "relu", key="last.relu")
    x = b.reshape(b.global_pool(x, key="pool"), (-1,), key="flatten")
    return b.graph(b.linear(x, classes, key="classifier"))


def network(code: Sequence[int], *, idle: bool = False) -> Graph:
    """The CIFAR-10 network of a code. Raises `InvalidGraph` for what is no code of the space."""
    return space(idle=idle).close(code)


def code_of(text: str) -> Code:
    """The code of a row of a public table: of its `arch_str`, "|skip_connect~0|+|none~0|…", or `net`, "(0, 1, …)".

    Raises `InvalidInput` for any other text.
    """
    wanted = f"{text!r} is no network of NAS-Bench-201"
    if "|" not in text:
        numbers = tuple(int(number) for number in re.findall(r"\d+", text))
        if len(numbers) != len(EDGES) or max(numbers) >= len(OPERATIONS):
            raise InvalidInput(f"{wanted}; a net is six numbers below {len(OPERATIONS)}")
        return numbers
    found: dict[tuple[int, int], int] = {}
    for end, group in enumerate(text.split("+"), start=1):
        for word, start in re.findall(r"\|?([a-z_0-9]+)~(\d)\|", group):
            if word not in _WORDS:
                raise InvalidInput(f"{wanted}: it has no operation {word!r}; it has {', '.join(_WORDS)}")
            found[int(start), end] = _WORDS[word]
    if tuple(sorted(found)) != EDGES:
        raise InvalidInput(f"{wanted}; it has no edge for each of {EDGES}")
    return tuple(found[edge] for edge in EDGES)


def is_connected(code: Sequence[int]) -> bool:
    """Whether the output of a network depends on its input: a way leads through the cell."""
    reached = {0}
    for (start, end), kind in sorted(zip(EDGES, code, strict=True), key=lambda item: item[0][1]):
        if kind != NONE and start in reached:
            reached.add(end)
    return EDGES[-1][1] in reached


def _convolved(b: Builder, x: str, width: int, kernel: int, key: str, stride: int = 1) -> str:
    x = b.activation(x, "relu", key=f"{key}.relu")
    return b.batch_norm(b.conv(x, width, kernel=kernel, stride=stride, key=key), key=f"{key}.bn")


def _reduction(b: Builder, x: str, width: int, key: str) -> str:
    main = _convolved(b, _convolved(b, x, width, 3, f"{key}.conv1", stride=2), width, 3, f"{key}.conv2")
    short = b.conv(b.pool(x, "average", kernel=2, stride=2, key=f"{key}.pool"), width, key=f"{key}.shortcut")
    return b.elementwise(main, short, "add", key=f"{key}.add")


def _ways(b: Builder, x: str, width: int, key: str) -> tuple[str, str, str]:
    """A tensor through each of the operations that do something: conv3x3, conv1x1, avgpool3x3."""
    conv3 = _convolved(b, x, width, 3, f"{key}.conv3x3")
    conv1 = _convolved(b, x, width, 1, f"{key}.conv1x1")
    return conv3, conv1, b.pool(x, "average", kernel=3, stride=1, padding=1, key=f"{key}.avgpool3x3")


def _cell(b: Builder, x: str, width: int, edges: Sequence[Decision], key: str) -> str:
    """A cell in which only what carries something is summed; `alive` says under which codes a node does."""
    nodes: list[str] = [x]
    alive: list[Value] = [True]
    for end in range(1, 4):
        total, carries = "", False
        for decision, (start, to) in zip(edges, EDGES, strict=True):
            if to != end:
                continue
            edge = f"{key}.{decision.name}"
            # "none" stands for "skip" here: where it is chosen, the sum leaves the edge out.
            which = choose(decision, (0, 0, 1, 2, 3))
            way = b.select(which, (nodes[start], *_ways(b, nodes[start], width, edge)), key=f"{edge}.select")
            taken = both(alive[start], negate(equal(choose(decision, tuple(range(5))), NONE)))
            if not total:
                total, carries = way, taken
                continue
            both_ways = b.elementwise(total, way, "add", key=f"{edge}.add")
            index = where(both(carries, taken), 2, where(taken, 1, 0))
            total = b.select(index, (total, way, both_ways), key=f"{edge}.sum")
            carries = either(carries, taken)
        nodes.append(total)
        alive.append(carries)
    nothing = b.elementwise(x, x, "sub", key=f"{key}.nothing")
    return b.select(where(alive[-1], 1, 0), (nothing, nodes[-1]), key=key)


def _idle_cell(b: Builder, x: str, width: int, edges: Sequence[Decision], key: str) -> str:
    """A cell in which every edge runs, "none" as zeros of the shape of what it reads."""
    nodes: dict[int, str] = {0: x}
    for decision, (start, end) in sorted(zip(edges, EDGES, strict=True), key=lambda item: item[1][::-1]):
        edge, source = f"{key}.{decision.name}", nodes[start]
        conv3, conv1, pool = _ways(b, source, width, edge)
        nothing = b.elementwise(source, source, "sub", key=f"{edge}.nothing")
        which = choose(decision, tuple(range(5)))
        way = b.select(which, (source, nothing, conv3, conv1, pool), key=f"{edge}.select")
        nodes[end] = b.elementwise(nodes[end], way, "add", key=f"{edge}.add") if end in nodes else way
    return nodes[3]

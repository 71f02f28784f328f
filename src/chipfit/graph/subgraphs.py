"""Cutting a network into the subgraphs that an accelerator runs as one.

A convolution takes the batch normalisation, activation and residual addition behind it along where the target can fuse
them. On an open graph all of this depends on decisions: what is fused, the shapes, and whether a subgraph is there at
all are values, and a network closed by a code is cut exactly as the open one says for that code.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chipfit.graph.graph import Graph, Node
from chipfit.graph.ops import ALIASES, Activation, BatchNorm, Constant, Elementwise, Op, Select
from chipfit.graph.shapes import product
from chipfit.graph.values import Value, both, either, equal, maximum, negate, never, where
from chipfit.graph.workload import (
    CLAMP,
    COMPOSITE,
    WORKLOAD_KINDS,
    Workload,
    activation_level,
    describe,
    uneven,
    workload_kind,
)

FOLLOWERS = ("batch_norm", "clamp", "activation", "composite", "add")
"""What a target may fuse into the operator before it: "clamp" are activations that only limit, "activation" these and
those of one table, "composite" those of several steps."""

FOLDED: Mapping[str, frozenset[str]] = {
    kind: frozenset({"batch_norm", "activation", "composite"}) for kind in WORKLOAD_KINDS
}
"""Fusions that need no hardware: batch normalisation folds into weights, element-wise functions run in place."""


class Edge(NamedTuple):
    """A tensor that a subgraph reads: the key of the subgraph or graph input that gives it, and under which codes."""

    source: str
    condition: Value


class Subgraph(NamedTuple):
    """One unit of work: `name` is the key of its first operator, `members` all its operators with their conditions."""

    name: str
    workload: Workload
    presence: Value
    members: tuple[tuple[str, Value], ...]
    reads: tuple[Edge, ...]
    gives_output: Value
    """Under which codes the subgraph's result is an output of the network."""


@dataclass(slots=True)
class _Row:
    """A subgraph while it is being built."""

    node: Node
    kind: str
    order: int
    presence: Value
    members: list[tuple[str, Value]]
    reads: list[Edge] = field(default_factory=list)
    activation: Value = 0
    adds: Value = 0
    normalised: Value = False


class _Cutter:
    """One walk over a graph in execution order; `hosts` says which subgraph gives each tensor, under which codes."""

    def __init__(self, graph: Graph, fuses: Mapping[str, frozenset[str]], plain: Collection[str]) -> None:
        self.graph = graph
        # Whoever takes any activation along takes one that only limits.
        self.fuses = {kind: {*found, "clamp"} if "activation" in found else found for kind, found in fuses.items()}
        self.plain = plain
        self.rows: dict[str, _Row] = {}
        self.hosts: dict[str, list[Edge]] = {item.key: [Edge(item.key, True)] for item in graph.inputs}
        self.producers = producers(graph)
        self.readers: dict[str, list[tuple[str, Value]]] = {}
        self.sources: dict[str, list[Edge]] = {}
        for node in graph.nodes:
            if type(node.op) not in _NO_WORK:
                given = [self.producers[name] for name in node.inputs]
                sources = given[0] if len(given) == 1 else _merged([edge for edges in given for edge in edges])
                self.sources[node.key] = sources
                for source, condition in sources:
                    taken = both(graph.presence[node.key], condition)
                    self.readers.setdefault(source, []).append((node.key, taken))
        self.outputs: dict[str, Value] = {}
        for key in graph.outputs:
            for edge in self.producers[key]:
                self.outputs[edge.source] = either(self.outputs.get(edge.source, False), edge.condition)

    def cut(self) -> tuple[Subgraph, ...]:
        for order, node in enumerate(self.graph.nodes):
            if type(node.op) not in _NO_WORK:
                self._place(order, node)
        given: dict[str, Value] = {}
        for tensor, condition in self.outputs.items():
            for host in self._given(Edge(tensor, condition)):
                given[host.source] = either(given.get(host.source, False), host.condition)
        read, written = self._plain()
        return tuple(
            [
                self._subgraph(row, given.get(key, False), read, either(given.get(key, False), written.get(key, False)))
                for key, row in self.rows.items()
            ]
        )

    def _plain(self) -> tuple[dict[str, Value], dict[str, Value]]:
        """Which tensors lie in memory without blocks of channels when they are read, and when they are written."""
        read: dict[str, Value] = {item.key: True for item in self.graph.inputs}
        written: dict[str, Value] = {}
        for key, row in self.rows.items():
            condition: Value = False
            if row.kind in self.plain:
                read[key] = written[key] = True
            elif row.kind == "copy":
                condition = uneven(row.node, self.graph.input_shapes(row.node))
                for source, taken in row.reads:
                    if source in self.rows and self.rows[source].kind in self.plain:
                        condition = either(condition, taken)
            if not never(condition):
                read[key] = condition
                written[key] = either(written.get(key, False), condition)
                for source, taken in row.reads:
                    written[source] = either(written.get(source, False), both(taken, condition))
        return read, written

    def _place(self, order: int, node: Node) -> None:
        """Gives a node to the subgraphs that can take it along, and what is left to one of its own."""
        left = self.graph.presence[node.key]
        hosts: list[Edge] = []
        if follower := _follower(node.op):
            for row, condition in self._offers(node, follower):
                hosts.append(Edge(row.node.key, condition))
                left = both(left, negate(condition))
                self._join(row, node, follower, condition)
        if not never(left):
            row = _Row(node, workload_kind(node, self.graph.input_shapes(node)), order, left, [(node.key, left)])
            if isinstance(node.op, Activation):
                row.activation = activation_level(node.op)
            for edge in self.sources[node.key]:
                for host in self._given(edge):
                    row.reads.append(host if left is True else Edge(host.source, both(left, host.condition)))
            self.rows[node.key] = row
            hosts.append(Edge(node.key, left))
        self.hosts[node.key] = hosts

    def _given(self, edge: Edge) -> list[Edge]:
        """The subgraphs that give a tensor where the edge's condition holds; none for a constant."""
        hosts = self.hosts.get(edge.source, [])
        if edge.condition is True:
            return hosts
        shared = [Edge(host.source, both(edge.condition, host.condition)) for host in hosts]
        return [host for host in shared if not never(host.condition)]

    def _offers(self, node: Node, follower: str) -> list[tuple[_Row, Value]]:
        """Subgraphs that can take `node` along, with the codes under which they do."""
        sources = [
            (slot, edge.source, host)
            for slot, name in enumerate(node.inputs)
            for edge in self.producers[name]
            for host in self._given(edge)
        ]
        present = self.graph.presence[node.key]
        offers: list[tuple[_Row, Value]] = []
        for slot, tensor, host in sources:
            row = self.rows.get(host.source)
            if row is None or follower not in self.fuses.get(row.kind, ()):
                continue
            condition = both(both(present, host.condition), self._sole_reader(tensor, node))
            if follower not in ("clamp", "activation", "composite"):
                condition = both(condition, equal(row.adds, 0))
            if follower == "add":
                others = [edge for other, _, edge in sources if other != slot]
                condition = both(both(condition, self._same_shapes(node)), self._last(row, others))
            elif follower == "batch_norm":
                # It scales weights or the accumulator: what comes before the activation.
                condition = both(condition, equal(row.activation, 0))
            if not never(condition):
                offers.append((row, condition))
        return offers

    def _same_shapes(self, node: Node) -> Value:
        a, b = self.graph.input_shapes(node)
        if a == b:
            return True
        same: Value = len(a) == len(b)
        for size, other in zip(a, b, strict=False):
            same = both(same, equal(size, other))
        return same

    def _last(self, row: _Row, others: Sequence[Edge]) -> Value:
        """Whether the other operand of an addition is ready before `row` starts."""
        ready: Value = False
        for edge in others:
            other = self.rows.get(edge.source)
            if other is None or other.order < row.order:
                ready = either(ready, edge.condition)
        return ready

    def _sole_reader(self, tensor: str, node: Node) -> Value:
        alone = negate(self.outputs.get(tensor, False))
        for reader, condition in self.readers.get(tensor, []):
            if reader != node.key:
                alone = both(alone, negate(condition))
        return alone

    def _join(self, row: _Row, node: Node, follower: str, condition: Value) -> None:
        row.members.append((node.key, condition))
        if isinstance(node.op, Activation):
            level = maximum(row.activation, activation_level(node.op))
            row.activation = where(condition, level, row.activation)
        elif follower == "batch_norm":
            row.normalised = either(row.normalised, condition)
        else:
            row.adds = where(condition, 1, row.adds)
            for edge in self.sources[node.key]:
                for host in self._given(Edge(edge.source, both(condition, edge.condition))):
                    if host.source != row.node.key and not never(host.condition):
                        row.reads.append(host)

    def _subgraph(self, row: _Row, gives_output: Value, plain: Mapping[str, Value], plain_output: Value) -> Subgraph:
        key = row.node.key
        plain_input: Value = False
        for source, condition in row.reads:
            if source in plain:
                plain_input = either(plain_input, both(condition, plain[source]))
        workload = describe(
            row.kind, row.node, self.graph.input_shapes(row.node), self.graph.shapes[key],
            constants=self._constants(row.node), activation=row.activation, adds=row.adds, normalised=row.normalised,
            plain_input=plain_input, plain_output=plain_output,
        )  # fmt: skip
        return Subgraph(key, workload, row.presence, tuple(row.members), tuple(_merged(row.reads)), gives_output)

    def _constants(self, node: Node) -> Value:
        """Elements of the operands that are constants."""
        total: Value = 0
        for edge in self.sources[node.key]:
            if edge.source not in self.hosts:
                total = total + where(edge.condition, product(self.graph.shapes[edge.source]), 0)
        return total


def _follower(op: Op) -> str | None:
    """Which of `FOLLOWERS` an operator may be."""
    if isinstance(op, Elementwise):
        return "add" if op.function == "add" else None
    if isinstance(op, Activation):
        level = activation_level(op)
        return "clamp" if level == CLAMP else "composite" if level == COMPOSITE else "activation"
    return "batch_norm" if isinstance(op, BatchNorm) else None


def cut(
    graph: Graph, fuses: Mapping[str, frozenset[str]] = FOLDED, plain: Collection[str] = ()
) -> tuple[Subgraph, ...]:
    """The subgraphs of a graph in execution order.

    `fuses` says per workload kind which `FOLLOWERS` the target runs together with it, `plain` are kinds whose output
    lies without blocks of channels.
    """
    return _Cutter(graph, fuses, plain).cut()


def producers(graph: Graph) -> dict[str, list[Edge]]:
    """For every name, the tensors that it stands for, looking through selects and aliases."""
    found = {item.key: [Edge(item.key, True)] for item in graph.inputs}
    for node in graph.nodes:
        if isinstance(node.op, ALIASES):
            found[node.key] = found[node.inputs[0]]
        elif isinstance(node.op, Select):
            index = node.op.index
            found[node.key] = _merged(
                [
                    Edge(edge.source, both(equal(index, position), edge.condition))
                    for position, name in enumerate(node.inputs)
                    for edge in found[name]
                ]
            )
        else:
            found[node.key] = [Edge(node.key, True)]
    return found


def _merged(edges: list[Edge]) -> list[Edge]:
    """One edge per source, under any of its conditions; edges that never hold are left out."""
    if not edges or (len(edges) == 1 and not never(edges[0].condition)):
        return edges
    merged: dict[str, Value] = {}
    for source, condition in edges:
        merged[source] = either(merged.get(source, False), condition)
    return [Edge(source, condition) for source, condition in merged.items() if not never(condition)]


_NO_WORK = frozenset({Select, Constant, *ALIASES})
"""Operators that no subgraph holds: what they stand for is looked through, or is a weight."""

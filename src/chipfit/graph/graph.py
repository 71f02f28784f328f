"""Graphs: operators in execution order, with decisions that may still be open."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidGraph
from chipfit.graph.ops import Op, Select
from chipfit.graph.values import (
    CANDIDATE,
    Choice,
    Decision,
    Shape,
    Value,
    along,
    bind,
    both,
    choices_in,
    either,
    equal,
    map_choices,
    never,
)


@dataclass(frozen=True, slots=True)
class Origin:
    """What the weights of a node that an edit added start from.

    `recipe` is "compose" (a 1x1 convolution and the depthwise one after it as one), "merge" (a
    depthwise convolution and the 1x1 one after it as one), "dense" (a depthwise convolution
    as a full one), "column" and "row" (a convolution as two in a row), "copy", "before" (a resize that stood before a
    node, that node) and "behind" (the same resize, the last node that it now follows), or "new" (nothing, without
    sources); `sources` are keys of nodes of the network that was given.
    """

    recipe: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One operator. `key` is unique, stable across edits, the name of its output tensor and of its weights."""

    key: str
    op: Op
    inputs: tuple[str, ...]
    origin: Origin | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """An input tensor; `shape` has batch 1 first."""

    key: str
    shape: Shape


@dataclass(frozen=True)
class Graph:
    """A network, or a space of networks: a network with decisions still open.

    `nodes` stand in execution order. A graph is a value: two graphs are equal when all they hold is equal.
    Raises `InvalidGraph` where keys repeat, an input is missing or comes too late, or a decision is unknown.
    """

    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    decisions: tuple[Decision, ...] = ()

    def __post_init__(self) -> None:
        known: set[str] = {item.key for item in self.inputs}
        lengths = {decision.name: len(decision) for decision in self.decisions}
        if len(known) != len(self.inputs) or len(lengths) != len(self.decisions):
            raise InvalidGraph("two inputs or two decisions have the same name")
        for node in self.nodes:
            if node.key in known:
                raise InvalidGraph(f"two tensors are named {node.key!r}")
            if missing := [name for name in node.inputs if name not in known]:
                raise InvalidGraph(f"node {node.key!r} reads {missing[0]!r}, which nothing before it gives")
            known.add(node.key)
        if missing := [name for name in self.outputs if name not in known]:
            raise InvalidGraph(f"output {missing[0]!r} is given by no node")
        for choice in (*choices_in(self.inputs), *chain.from_iterable(self._choices.values())):
            for name, length in zip(choice.decisions, choice.values.shape, strict=True):
                if lengths.get(name) != length:
                    raise InvalidGraph(f"a value has {length} options of {name!r}, the graph {lengths.get(name)}")

    @cached_property
    def _choices(self) -> Mapping[str, list[Choice]]:
        """The choices in each node that has any."""
        return {node.key: found for node in self.nodes if (found := choices_in(node.op))}

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Shape of every tensor by key. Raises `InvalidGraph` naming the node whose inputs do not fit."""
        shapes: dict[str, Shape] = {item.key: item.shape for item in self.inputs}
        for node in self.nodes:
            try:
                shapes[node.key] = node.op.shape([shapes[name] for name in node.inputs])
            except InvalidGraph as error:
                raise InvalidGraph(f"node {node.key!r}: {error}") from None
        return shapes

    @cached_property
    def presence(self) -> Mapping[str, Value]:
        """For every tensor, under which codes something that is kept still needs it."""
        presence: dict[str, Value] = {item.key: False for item in self.inputs}
        presence.update({node.key: False for node in self.nodes})
        presence.update(dict.fromkeys(self.outputs, True))
        for node in reversed(self.nodes):
            needed = presence[node.key]
            if never(needed):
                continue
            for position, name in enumerate(node.inputs):
                taken = both(needed, equal(node.op.index, position)) if isinstance(node.op, Select) else needed
                presence[name] = either(presence[name], taken)
        return presence

    @cached_property
    def by_key(self) -> Mapping[str, Node]:
        """Nodes by key; inputs are not among them."""
        return {node.key: node for node in self.nodes}

    @cached_property
    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each tensor, in execution order."""
        readers: dict[str, list[Node]] = {key: [] for key in (*(item.key for item in self.inputs), *self.by_key)}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                readers[name].append(node)
        return {key: tuple(found) for key, found in readers.items()}

    @cached_property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of options of each decision: the bounds of a code."""
        return tuple(len(decision) for decision in self.decisions)

    def input_shapes(self, node: Node) -> list[Shape]:
        """Shapes of a node's inputs, in order."""
        return list(map(self.shapes.__getitem__, node.inputs))

    def weights(self) -> Iterator[tuple[str, Shape]]:
        """Name ("key.weight") and shape of every weight of every node."""
        for node in self.nodes:
            for name, shape in node.op.weights(self.input_shapes(node)).items():
                yield f"{node.key}.{name}", shape

    def macs(self, node: Node) -> Value:
        """Multiply-accumulates of one node for one image, where it is present."""
        return node.op.macs(self.input_shapes(node))

    def close(self, code: Sequence[int] | NDArray[np.int64]) -> Graph:
        """The one network of a code: no decision left, what nothing needs gone.

        `code` has one option index per decision. Raises `InvalidGraph` for a wrong length or an index out of range.
        """
        options = self._checked(np.asarray([code]))[0]
        chosen = {decision.name: int(option) for decision, option in zip(self.decisions, options, strict=True)}
        return self.bind(chosen)

    def bind(self, chosen: Mapping[str, int]) -> Graph:
        """The space that is left once the decisions in `chosen` (name to option index) are taken."""
        if unknown := set(chosen).difference(decision.name for decision in self.decisions):
            raise InvalidGraph(f"the graph has no decision {min(unknown)!r}")
        left = tuple(decision for decision in self.decisions if decision.name not in chosen)
        change = _remembering(lambda choice: bind(choice, chosen))
        # Selects go first: what they leave out need not be bound.
        nodes, outputs = _resolved(self.nodes, self.outputs, change)
        inputs = map_choices(self.inputs, change)
        return _valid(inputs, tuple([self._changed(node, change) for node in nodes]), outputs, left)

    def along(self, codes: NDArray[np.int64]) -> Graph:
        """The same graph with the n `codes` (n, d) as options of one decision, `CANDIDATE`.

        Every rule that works on tables then works on (n,) arrays of candidates: the way to costs where tables
        over the decisions would grow too large.
        """
        codes = self._checked(codes)
        columns = {decision.name: codes[:, axis] for axis, decision in enumerate(self.decisions)}
        change = _remembering(lambda choice: along(choice, columns))
        nodes = tuple([self._changed(node, change) for node in self.nodes])
        options = tuple(range(len(codes)))
        return _valid(map_choices(self.inputs, change), nodes, self.outputs, (Decision(CANDIDATE, options),))

    def _changed(self, node: Node, change: Callable[[Choice], Value]) -> Node:
        """A node with every choice in it changed."""
        if node.key not in self._choices:
            return node
        return Node(node.key, map_choices(node.op, change), node.inputs, node.origin)

    def _checked(self, codes: NDArray[np.int64]) -> NDArray[np.int64]:
        codes = np.asarray(codes, dtype=np.int64)
        if codes.ndim != 2 or codes.shape[1] != len(self.decisions):
            raise InvalidGraph(f"a code has {len(self.decisions)} entries, got an array of shape {codes.shape}")
        if codes.size and ((codes < 0) | (codes >= np.asarray(self.cardinalities))).any():
            raise InvalidGraph(f"a code is out of the range of the options {self.cardinalities}")
        return codes

    @cached_property
    def digest(self) -> str:
        """A hash that is equal for equal graphs, on every machine."""
        text = repr((self.inputs, self.nodes, self.outputs, self.decisions))
        return hashlib.sha256(text.encode()).hexdigest()


def _valid(
    inputs: tuple[Input, ...], nodes: tuple[Node, ...], outputs: tuple[str, ...], decisions: tuple[Decision, ...]
) -> Graph:
    """A graph made from a valid one, which therefore need not be checked again: closing is done per candidate."""
    graph = object.__new__(Graph)
    graph.__dict__.update(inputs=inputs, nodes=nodes, outputs=outputs, decisions=decisions)
    if not decisions:
        graph.__dict__["_choices"] = {}
    return graph


def _remembering(change: Callable[[Choice], Value]) -> Callable[[Choice], Value]:
    """The same change, done once for a choice that stands in several places."""
    known: dict[int, tuple[Choice, Value]] = {}

    def changed(choice: Choice) -> Value:
        found = known.get(id(choice))
        if found is None:
            found = known[id(choice)] = choice, change(choice)
        return found[1]

    return changed


def resolve(graph: Graph) -> Graph:
    """The graph without selects that are decided and without nodes that nothing needs."""
    nodes, outputs = _resolved(graph.nodes, graph.outputs, lambda choice: choice)
    return Graph(graph.inputs, nodes, outputs, graph.decisions)


def _resolved(
    nodes: Sequence[Node], outputs: Sequence[str], change: Callable[[Choice], Value]
) -> tuple[tuple[Node, ...], tuple[str, ...]]:
    """The nodes that are still needed and the outputs, without the selects that `change` decides."""
    alias: dict[str, str] = {}
    for node in nodes:
        if isinstance(node.op, Select):
            index = node.op.index
            if isinstance(index, Choice):
                index = change(index)
            if not isinstance(index, Choice):
                taken = node.inputs[int(index)]
                alias[node.key] = alias.get(taken, taken)
    renamed = tuple([alias.get(name, name) for name in outputs])
    needed = set(renamed)
    left: list[Node] = []
    for node in reversed(nodes):
        if node.key in needed:
            inputs = tuple(map(alias.get, node.inputs, node.inputs))
            needed.update(inputs)
            left.append(node if inputs == node.inputs else Node(node.key, node.op, inputs, node.origin))
    return tuple(reversed(left)), renamed

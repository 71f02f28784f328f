"""The few ways in which edits change a graph; every function gives a new graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph, Node, resolve
from chipfit.graph.ops import Op, Select
from chipfit.graph.values import Choice, Decision, Value, map_choices, table


def unique_key(graph: Graph, wanted: str) -> str:
    """`wanted`, or the first of `wanted.2`, `wanted.3`, … that no tensor of the graph is named."""
    key, number = wanted, 1
    while key in graph.consumers:
        number += 1
        key = f"{wanted}.{number}"
    return key


def with_ops(graph: Graph, ops: Mapping[str, Op]) -> Graph:
    """The graph with other operators at the keys of `ops`."""
    nodes = tuple(replace(node, op=ops[node.key]) if node.key in ops else node for node in graph.nodes)
    return replace(graph, nodes=nodes)


def with_decision(graph: Graph, decision: Decision) -> Graph:
    """The graph with one more decision, which nothing depends on yet. Raises `InvalidInput` where its name is taken."""
    if any(decision.name == other.name for other in graph.decisions):
        raise InvalidInput(f"decision {decision.name!r} is open already; apply this edit once")
    return replace(graph, decisions=(*graph.decisions, decision))


def restrict(graph: Graph, kept: Mapping[str, Sequence[int]]) -> Graph:
    """The space with fewer options: of each decision in `kept` only those at these indices, in this order.

    Every decision stays, if with one option only, so that codes keep their columns. Raises `InvalidInput` for unknown
    decisions, and for indices that repeat, are out of range, or do not begin with 0, the network as given.
    """
    known = {decision.name: decision for decision in graph.decisions}
    if unknown := [name for name in kept if name not in known]:
        raise InvalidInput(f"there is no decision {unknown[0]!r}; the space has {', '.join(known) or 'none'}")
    for name, indices in kept.items():
        fits = len(set(indices)) == len(indices) and all(0 <= index < len(known[name]) for index in indices)
        if not fits or list(indices[:1]) != [0]:
            raise InvalidInput(
                f"{name}: kept options {list(indices)} must be different indices below {len(known[name])}, 0 first"
            )

    def taken(choice: Choice) -> Value:
        values = choice.values
        for axis, name in enumerate(choice.decisions):
            if name in kept:
                values = values.take(kept[name], axis=axis)
        return table(choice.decisions, values)

    decisions = tuple(
        Decision(item.name, tuple(item.options[index] for index in kept.get(item.name, range(len(item)))))
        for item in graph.decisions
    )
    nodes = tuple(replace(node, op=map_choices(node.op, taken)) for node in graph.nodes)
    return resolve(Graph(map_choices(graph.inputs, taken), nodes, graph.outputs, decisions))


def add_alternative(graph: Graph, key: str, other: str, index: Value, name: str, branch: Sequence[Node] = ()) -> Graph:
    """The graph with a select between the tensor of node `key` (index 0) and the tensor `other` (index 1).

    `branch` are new nodes that compute `other`, where it is not in the graph yet; `name` is the key that the select
    gets if it is free. All that read `key` so far, outputs included, read the select instead; the branch does not.
    """
    select = unique_key(graph, name)
    position = [node.key for node in graph.nodes].index(key) + 1
    nodes = [
        replace(node, inputs=_renamed(node.inputs, key, select)) if key in node.inputs else node for node in graph.nodes
    ]
    nodes[position:position] = [*branch, Node(select, Select(index), (key, other))]
    return replace(graph, nodes=tuple(nodes), outputs=_renamed(graph.outputs, key, select))


def _renamed(names: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    return tuple(new if name == old else name for name in names)

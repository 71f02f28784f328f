"""The few ways in which edits change a graph; every function gives a new graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph, Node
from chipfit.graph.ops import Op, Select
from chipfit.graph.values import Decision, Value


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

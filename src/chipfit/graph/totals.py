"""Multiply-accumulates and parameters of a network, or of every network of a space."""

from __future__ import annotations

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph, Node
from chipfit.graph.ops import Op
from chipfit.graph.shapes import product
from chipfit.graph.tables import TableSum
from chipfit.graph.values import Choice, Value, where

_STATISTICS = ("running_mean", "running_var")
"""What batch normalisation keeps among its weights and does not train."""


def macs(graph: Graph) -> TableSum:
    """Multiply-accumulates for one image under every code. Raises `TableTooLarge` as `TableSum.of` does."""
    return TableSum.of(((value,) for value in _macs(graph)), graph.decisions)


def parameters(graph: Graph) -> TableSum:
    """Trainable weights under every code: all but the running statistics of batch normalisation."""
    return TableSum.of(((value,) for value in _parameters(graph)), graph.decisions)


def count_macs(graph: Graph) -> int:
    """Multiply-accumulates for one image of a closed graph. Raises `InvalidInput` where decisions are open."""
    return _total(graph, _macs(graph))


def count_parameters(graph: Graph) -> int:
    """Trainable weights of a closed graph. Raises `InvalidInput` where decisions are open."""
    return _total(graph, _parameters(graph))


def _macs(graph: Graph) -> list[Value]:
    return [where(graph.presence[node.key], graph.macs(node), 0) for node in graph.nodes]


def _parameters(graph: Graph) -> list[Value]:
    return [where(graph.presence[node.key], _weights(graph, node), 0) for node in graph.nodes]


def _weights(graph: Graph, node: Node) -> Value:
    if type(node.op).weights is Op.weights:
        return 0
    total: Value = 0
    for name, shape in node.op.weights(graph.input_shapes(node)).items():
        if name not in _STATISTICS:
            total = total + product(shape)
    return total


def _total(graph: Graph, values: list[Value]) -> int:
    total = 0
    for value in values:
        if isinstance(value, Choice):
            open_names = ", ".join(value.decisions)
            raise InvalidInput(
                f"a count needs one network, but {open_names} is open: close the graph with a code first"
            )
        total += int(value)
    return total

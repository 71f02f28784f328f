"""How deep the networks of a space are: convolutions on the ways from an input to an output."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chipfit.graph.graph import Graph, Node
from chipfit.graph.ops import Conv2d, ConvTranspose2d, Elementwise, Linear, MatMul, Select
from chipfit.graph.values import Choice, Value, along

Floats = NDArray[np.float64]

MIXING = (Conv2d, ConvTranspose2d, Linear, MatMul)
"""Operators that a network is called deep for."""


def depths(graph: Graph, codes: NDArray[np.int64]) -> Floats:
    """The most and the fewest operators of `MIXING` on a way from an input to an output: (n, 2) for codes (n, d).

    NaN where no way leads through. A tensor less itself carries nothing.
    """
    columns = {decision.name: codes[:, axis] for axis, decision in enumerate(graph.decisions)}
    most: dict[str, Floats] = {item.key: np.zeros(1) for item in graph.inputs}
    fewest = dict(most)
    for node in graph.nodes:
        for found, least in ((most, False), (fewest, True)):
            found[node.key] = _reached(node, [found[name] for name in node.inputs], columns, least)
    ends = np.zeros((len(codes), 2))
    ends[:, 0] = np.maximum.reduce(np.broadcast_arrays(*(most[key] for key in graph.outputs)))
    ends[:, 1] = np.minimum.reduce(np.broadcast_arrays(*(fewest[key] for key in graph.outputs)))
    return np.where(np.isinf(ends), np.nan, ends)


def _reached(node: Node, reads: list[Floats], columns: dict[str, NDArray[np.int64]], least: bool) -> Floats:
    """Operators on the longest way to a node, or on the shortest: (n,), or (1,) where all networks have as many.

    Infinite, and no candidate for either, where no way leads to it.
    """
    nowhere = np.inf if least else -np.inf
    if isinstance(node.op, Select):
        return _selected(node.op.index, reads, columns)
    if not reads or (isinstance(node.op, Elementwise) and node.op.function == "sub" and len(set(node.inputs)) == 1):
        return np.full(1, nowhere)
    furthest = (np.minimum if least else np.maximum).reduce(np.broadcast_arrays(*reads))
    return furthest + isinstance(node.op, MIXING)


def _selected(index: Value, reads: list[Floats], columns: dict[str, NDArray[np.int64]]) -> Floats:
    taken = along(index, columns)
    if not isinstance(taken, Choice):
        return reads[int(taken)]
    options = taken.values.astype(np.int64)
    stacked = np.stack(np.broadcast_arrays(*reads, np.zeros(len(options))))
    return stacked[options, np.arange(len(options))]

"""One code for every network: decisions that make no difference are set to their first option."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Select
from chipfit.graph.values import (
    LARGEST_TABLE,
    Choice,
    TableTooLarge,
    Value,
    choices_in,
    equal,
    negate,
    where,
)

Codes = NDArray[np.int64]
Canonical = Callable[[Codes], Codes]


def canonical(graph: Graph) -> Canonical:
    """A function from codes (n, d) to codes (n, d) of the same networks with the smallest options.

    A decision moves to the smallest option under which every node that is present keeps its values, the other
    decisions given; this is repeated until nothing moves. So a decision that touches nothing present becomes 0, and a
    width that rounds to another option's channels becomes that option. Two codes whose networks are equal only
    after several decisions change together may stay apart.
    Raises `TableTooLarge` where a node's values and presence depend on too many decisions; the function raises
    `InvalidInput` for codes of another shape or out of range.
    """
    steps = [_alike(graph, index) for index in range(len(graph.decisions))]
    options = np.asarray(graph.cardinalities, dtype=np.int64)

    def moved(codes: Codes) -> Codes:
        codes = np.array(codes, dtype=np.int64)
        if codes.ndim != 2 or codes.shape[1] != len(options):
            raise InvalidInput(f"codes are (n, {len(options)}) for this space, got shape {codes.shape}")
        if ((codes < 0) | (codes >= options)).any():
            raise InvalidInput(f"a code is out of the range of the options {options.tolist()}")
        rows = np.arange(len(codes))
        while len(rows):
            before = codes[rows]
            after = before.copy()
            for decision, tables in enumerate(steps):
                after[:, decision] = _smallest(after, tables, len(graph.decisions[decision]))
            codes[rows] = after
            rows = rows[(after != before).any(axis=1)]
        return codes

    return moved


def distinct(graph: Graph, codes: Codes) -> Codes:
    """The canonical codes among `codes` (n, d), each once, in the order of their first appearance."""
    found, first = np.unique(canonical(graph)(codes), axis=0, return_index=True)
    return found[np.argsort(first)]


Table = tuple[tuple[int, ...], NDArray[np.bool_]]


def _smallest(codes: Codes, tables: list[Table], options: int) -> NDArray[np.int64]:
    """The first option that every table allows in place of the code's own, (n,)."""
    allowed = np.ones((len(codes), options), dtype=np.bool_)
    for axes, values in tables:
        allowed &= values[tuple(codes[:, axis] for axis in axes)]
    return allowed.argmax(axis=1)


def _alike(graph: Graph, index: int) -> list[Table]:
    """Which options of a decision give a network the same as its code's: per code over `axes`, one bool per option."""
    decision = graph.decisions[index]
    position = {each.name: axis for axis, each in enumerate(graph.decisions)}
    found: dict[tuple[int, ...], NDArray[np.bool_]] = {}
    for absent, choice in _uses(graph, decision.name):
        names = sorted({*choice.decisions, *(absent.decisions if isinstance(absent, Choice) else ())}, key=position.get)  # type: ignore[arg-type]
        axes = tuple(position[name] for name in names)
        lengths = [len(graph.decisions[axis]) for axis in axes]
        if np.prod([*lengths, len(decision)], dtype=np.float64) > LARGEST_TABLE:
            raise TableTooLarge(f"options of {decision.name} over {', '.join(names)}")
        values = _spread(choice, names)
        axis = names.index(decision.name)
        same = values[..., None] == np.moveaxis(values, axis, -1)[(*[slice(None)] * axis, None)]
        allowed = np.broadcast_to(same | _spread(absent, names)[..., None], (*lengths, len(decision)))
        found[axes] = found[axes] & allowed if axes in found else allowed
    return list(found.items())


def _uses(graph: Graph, name: str) -> Iterator[tuple[Value, Choice]]:
    """Every choice that depends on a decision, with the codes under which nothing needs its node.

    The shapes of inputs always count, as a closed graph keeps them. What a node or an output reads through selects is
    a choice among tensors.
    """
    sources = _sources(graph)
    holders: list[tuple[Value, object]] = [(False, (graph.inputs, tuple(sources[key] for key in graph.outputs)))]
    for node in graph.nodes:
        if not isinstance(node.op, Select):
            read = tuple(sources[key] for key in node.inputs)
            holders.append((negate(graph.presence[node.key]), (node.op, read)))
    seen: set[tuple[Value, Choice]] = set()
    for absent, holder in holders:
        for choice in choices_in(holder):
            if name in choice.decisions and (absent, choice) not in seen:
                seen.add((absent, choice))
                yield absent, choice


def _sources(graph: Graph) -> dict[str, Value]:
    """The number of the tensor that each name stands for, looking through selects."""
    sources: dict[str, Value] = {item.key: number for number, item in enumerate(graph.inputs)}
    for number, node in enumerate(graph.nodes, start=len(graph.inputs)):
        source: Value = number
        if isinstance(node.op, Select):
            source = sources[node.inputs[0]]
            for position, key in enumerate(node.inputs[1:], start=1):
                source = where(equal(node.op.index, position), sources[key], source)
        sources[node.key] = source
    return sources


def _spread(value: Value, names: list[str]) -> NDArray[np.generic]:
    """The values with one axis per name, of length 1 where they do not depend on it."""
    if not isinstance(value, Choice):
        return np.full([1] * len(names), value)
    order = sorted(range(len(value.decisions)), key=lambda axis: names.index(value.decisions[axis]))
    lengths = dict(zip(value.decisions, value.values.shape, strict=True))
    return value.values.transpose(order).reshape([lengths.get(name, 1) for name in names])

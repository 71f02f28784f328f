"""Activations and normalisations that a file spells out in arithmetic, under their names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.graph.graph import Node
from chipfit.graph.ops import Activation, Constant, Elementwise, GlobalPool, LayerNorm, Op, Opaque, Reshape

Pattern = str | float | tuple[Any, ...]
"""A tensor that is captured under a name; a constant equal to a number; or (operator, operands…)."""

COMMUTATIVE = ("add", "mul", "max", "min")


def _halved(factor: Pattern) -> list[Pattern]:
    """The ways to write 0.5 x (1 + factor)."""
    sum_ = ("add", factor, 1.0)
    return [("mul", ("mul", "x", sum_), 0.5), ("mul", ("mul", "x", 0.5), sum_), ("mul", "x", ("mul", sum_, 0.5))]


def _mean(source: Pattern) -> Pattern:
    return ("reshape", ("average", ("reshape", source)))


_GATE = ("relu6", ("add", "x", 3.0))
_CUBE = ("mul", ("mul", "x", "x"), "x")
_ERF = [("erf", ("div", "x", math.sqrt(2))), ("erf", ("mul", "x", math.sqrt(0.5)))]
_TANH = ("tanh", ("mul", ("add", "x", ("mul", _CUBE, 0.044715)), math.sqrt(2 / math.pi)))

ACTIVATIONS: Sequence[tuple[str, Pattern]] = (
    ("silu", ("mul", "x", ("sigmoid", "x"))),
    ("hard_swish", ("mul", "x", ("hard_sigmoid", "x"))),
    ("hard_swish", ("div", ("mul", "x", _GATE), 6.0)),
    ("hard_swish", ("mul", ("mul", "x", _GATE), 1 / 6)),
    ("hard_swish", ("mul", ("mul", "x", 1 / 6), _GATE)),
    ("hard_sigmoid", ("div", _GATE, 6.0)),
    ("hard_sigmoid", ("mul", _GATE, 1 / 6)),
    *(("gelu", pattern) for factor in _ERF for pattern in _halved(factor)),
    *(("gelu_tanh", pattern) for pattern in _halved(_TANH)),
)

_CENTRED = ("sub", "x", _mean("x"))
_NORMALISED = ("div", _CENTRED, ("sqrt", ("add", _mean(("mul", _CENTRED, _CENTRED)), "eps")))
LAYER_NORM: Pattern = ("add", ("mul", _NORMALISED, "weight"), "bias")


def operator_name(op: Op) -> str:
    """What a pattern calls an operator; operators outside the graph's vocabulary go by their own name."""
    match op:
        case Activation() | Elementwise() | GlobalPool():
            return op.function
        case Reshape():
            return "reshape"
        case Opaque():
            return op.operator.removeprefix("aten.").partition(".")[0].lower()
        case _:
            return ""


@dataclass(frozen=True, slots=True)
class _Match:
    captured: Mapping[str, str]
    inner: frozenset[str]


class _Fuser:
    def __init__(
        self, nodes: Sequence[Node], outputs: Sequence[str], weights: Mapping[str, NDArray[np.float32]]
    ) -> None:
        self.nodes = {node.key: node for node in nodes}
        self.weights = dict(weights)
        self.readers: dict[str, set[str]] = {key: set() for key in self.nodes}
        for node in nodes:
            for name in node.inputs:
                self.readers.setdefault(name, set()).add(node.key)
        for name in outputs:
            self.readers.setdefault(name, set()).add("")

    def find(self, pattern: Pattern, key: str) -> _Match | None:
        """What the tensor `key` looks like as `pattern`; None where it does not, or others read what lies inside."""
        match = self._match(pattern, key, _Match({}, frozenset()))
        if match is None or any(not self.readers[name] <= match.inner for name in match.inner - {key}):
            return None
        return match

    def _match(self, pattern: Pattern, key: str, sofar: _Match) -> _Match | None:
        if isinstance(pattern, str):
            if sofar.captured.get(pattern, key) != key:
                return None
            return _Match({**sofar.captured, pattern: key}, sofar.inner)
        node = self.nodes.get(key)
        if node is None:
            return None
        if isinstance(pattern, float):
            value = self.constant(key)
            near = value is not None and value.size == 1 and math.isclose(float(value.item()), pattern, rel_tol=1e-3)
            return sofar if near else None
        assert isinstance(pattern, tuple)
        operator, *operands = pattern
        if operator_name(node.op) != operator or len(node.inputs) != len(operands):
            return None
        orders = [node.inputs] + ([node.inputs[::-1]] if operator in COMMUTATIVE else [])
        inside = _Match(sofar.captured, sofar.inner | {key})
        for order in orders:
            match: _Match | None = inside
            for operand, name in zip(operands, order, strict=True):
                match = None if match is None else self._match(operand, name, match)
            if match is not None:
                return match
        return None

    def constant(self, key: str) -> NDArray[np.float32] | None:
        """The value of a constant."""
        node = self.nodes.get(key)
        return self.weights.get(f"{key}.value") if node is not None and isinstance(node.op, Constant) else None

    def replace(self, key: str, op: Op, source: str) -> None:
        """Puts an operator in the place of all that led from `source` to `key`."""
        for name in self.nodes[key].inputs:
            self.readers[name].discard(key)
        self.nodes[key] = Node(key, op, (source,))
        self.readers[source].add(key)

    def layer_norm(self, key: str, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Fuses a layer normalisation over the last axis that ends at `key`; says whether there was one."""
        match = self.find(LAYER_NORM, key)
        if match is None:
            return False
        source = match.captured["x"]
        weight, bias, eps = (self.constant(match.captured[name]) for name in ("weight", "bias", "eps"))
        last = shapes[source][-1:]
        means = [name for name in match.inner if operator_name(self.nodes[name].op) == "average"]
        inputs = [shapes[self.nodes[name].inputs[0]][2] for name in means]
        if weight is None or bias is None or eps is None or eps.size != 1 or [*inputs] != [*last] * 2:
            return False
        if weight.shape != last or bias.shape != last:
            return False
        self.replace(key, LayerNorm(1, float(str(np.float32(eps.item())))), source)
        self.weights |= {f"{key}.weight": weight, f"{key}.bias": bias}
        return True


def fuse(
    nodes: Sequence[Node],
    outputs: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    weights: Mapping[str, NDArray[np.float32]],
) -> tuple[tuple[Node, ...], dict[str, NDArray[np.float32]]]:
    """The nodes with activations and layer normalisations named, and the weights that they then have.

    Only where nothing else reads what lies inside. A fused node keeps the key of the last node of its pattern; what
    led there stays for the caller to drop.
    """
    fuser = _Fuser(nodes, outputs, weights)
    for node in nodes:
        for function, pattern in ACTIVATIONS:
            match = fuser.find(pattern, node.key)
            if match is not None:
                fuser.replace(node.key, Activation(function), match.captured["x"])
                break
        else:
            fuser.layer_norm(node.key, shapes)
    return tuple(fuser.nodes.values()), fuser.weights


def merge_reshapes(
    nodes: Sequence[Node], outputs: Sequence[str], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[tuple[Node, ...], tuple[str, ...]]:
    """Nodes and outputs, where a reshape reads what was there before other reshapes, and none gives what it reads."""
    before: dict[str, str] = {}
    same: dict[str, str] = {}
    merged: list[Node] = []
    for node in nodes:
        inputs = tuple(same.get(name, name) for name in node.inputs)
        if isinstance(node.op, Reshape):
            source = before.get(inputs[0], inputs[0])
            before[node.key] = source
            if shapes[source] == shapes[node.key]:
                same[node.key] = source
            inputs = (source,)
        if node.key not in same:
            merged.append(Node(node.key, node.op, inputs))
    return tuple(merged), tuple(same.get(name, name) for name in outputs)

"""ONNX operators that take several nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chipfit.nets import composed
from chipfit.nets.draft import Draft, Unrepresentable
from chipfit.nets.onnx.call import Array, Call

Reduction = Callable[[Draft, str, str, list[int], bool], str]


def _over(reduction: Reduction) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        rank = len(call.shape())
        axes = call.listed("axes", 1)
        if not axes and call.flag("noop_with_empty_axes"):
            return call.tensor()
        over = [axis % rank for axis in axes or range(rank)]
        return reduction(call.draft, call.key, call.tensor(), over, call.flag("keepdims", 1))

    return build


def _length(order: int) -> Reduction:
    return lambda draft, key, source, axes, keep: composed.length(draft, key, source, axes, keep, order)


def _instance_norm(call: Call) -> str:
    return _grouped(call, call.shape()[1], call.array(1), call.array(2))


def _group_norm(call: Call) -> str:
    return _grouped(call, int(call.attributes["num_groups"]), call.array(1), call.array(2))


def _grouped(call: Call, groups: int, weight: Array, bias: Array) -> str:
    if weight.shape != bias.shape or weight.shape != (call.shape()[1],):
        raise Unrepresentable("scale or shift of other sizes than the channels")
    eps = call.number("epsilon", 1e-5)
    return composed.group_norm(call.draft, call.key, call.tensor(), groups, weight, bias, eps)


def _elu(alpha: float, gamma: float) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        factors = call.number("alpha", alpha), call.number("gamma", gamma)
        return composed.elu(call.draft, call.key, call.tensor(), *factors, 1.0)

    return build


def _celu(call: Call) -> str:
    alpha = call.number("alpha", 1.0)
    return composed.elu(call.draft, call.key, call.tensor(), alpha, 1.0, 1 / alpha)


def _tile(call: Call) -> str:
    return composed.repeat(call.draft, call.key, call.tensor(), [int(count) for count in call.array(1)])


SEVERAL: Mapping[str, Callable[[Call], str | list[str]]] = {
    "ReduceSum": _over(composed.total),
    "ReduceMin": _over(composed.least),
    "ReduceL1": _over(_length(1)),
    "ReduceL2": _over(_length(2)),
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "Elu": _elu(1.0, 1.0),
    "Selu": _elu(1.67326319217681884765625, 1.05070102214813232421875),
    "Celu": _celu,
    "Mish": lambda call: composed.mish(call.draft, call.key, call.tensor()),
    "Reciprocal": lambda call: composed.inverse(call.draft, call.key, call.tensor()),
    "Tile": _tile,
}
"""How each operator is said in a graph, by its name."""

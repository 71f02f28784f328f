"""PyTorch's operators (ATen) that take several nodes of a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from chipfit.graph.ops import Activation
from chipfit.nets import composed
from chipfit.nets import draft as to
from chipfit.nets.draft import Draft, Unrepresentable
from chipfit.nets.pytorch.call import Call

Reduction = Callable[[Draft, str, str, list[int], bool], str]


def _over(reduction: Reduction) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        keep = bool(call.arguments.get("keepdim", False))
        return reduction(call.draft, call.key, call.tensor("self"), call.axes(), keep)

    return build


def _largest(draft: Draft, key: str, source: str, axes: list[int], keep: bool) -> str:
    return to.reduce(draft, key, source, axes, keep, "max")


def _with_places(reduction: Reduction) -> Callable[[Call], str | list[str]]:
    """Along one axis PyTorch gives the places as well; no node does."""

    def build(call: Call) -> str | list[str]:
        if "other" in call.arguments:
            raise Unrepresentable("of two tensors")
        return [_over(reduction)(call)] if "dim" in call.arguments else _over(reduction)(call)

    return build


def _variance(root: bool) -> Callable[[Call], str]:
    def build(call: Call) -> str:
        given = call.arguments
        correction = given.get("correction", 1 if given.get("unbiased", True) else 0)
        keep, key = bool(given.get("keepdim", False)), f"{call.key}.variance" if root else call.key
        bias = 1.0 if correction is None else float(correction)
        made = composed.variance(call.draft, key, call.tensor("self"), call.axes(), keep, bias)
        return call.draft.add(call.key, Activation("sqrt"), [made]) if root else made

    return build


def _norm(call: Call) -> str:
    keep, order = bool(call.arguments["keepdim"]), float(call.arguments["ord"])
    return composed.length(call.draft, call.key, call.tensor("self"), call.axes(), keep, order)


def _group_norm(call: Call) -> str:
    return _grouped(call, "input", int(call.arguments["num_groups"]))


def _instance_norm(call: Call) -> str:
    if not call.arguments["use_input_stats"]:
        raise Unrepresentable("instance normalisation with running statistics")
    return _grouped(call, "input", call.shape("input")[1])


def _grouped(call: Call, name: str, groups: int) -> str:
    weight, bias, eps = call.optional("weight"), call.optional("bias"), float(call.arguments["eps"])
    return composed.group_norm(call.draft, call.key, call.tensor(name), groups, weight, bias, eps)


def _rms_norm(call: Call) -> str:
    axes, eps = len(call.ints("normalized_shape")), call.arguments["eps"]
    # What PyTorch takes where there is none.
    least = float(np.finfo(np.float32).eps) if eps is None else float(eps)
    return composed.rms_norm(call.draft, call.key, call.tensor("input"), axes, call.optional("weight"), least)


def _celu(call: Call) -> str:
    alpha = float(call.arguments["alpha"])
    return composed.elu(call.draft, call.key, call.tensor("self"), alpha, 1.0, 1 / alpha)


def _power(call: Call) -> str:
    exponent = call.arguments.get("exponent", 2)
    if not isinstance(exponent, (int, float)):
        raise Unrepresentable("a power that is a tensor")
    return composed.power(call.draft, call.key, call.tensor("self"), float(exponent))


def _reciprocal_root(call: Call) -> str:
    root = call.draft.add(f"{call.key}.root", Activation("sqrt"), [call.tensor("self")])
    return composed.inverse(call.draft, call.key, root)


def _elu(call: Call) -> str:
    factors = (float(call.arguments[name]) for name in ("alpha", "scale", "input_scale"))
    return composed.elu(call.draft, call.key, call.tensor("self"), *factors)


SEVERAL: Mapping[str, Callable[[Call], str | list[str]]] = {
    "sum": _over(composed.total),
    "amin": _over(composed.least),
    "max": _with_places(_largest),
    "min": _with_places(composed.least),
    "var": _variance(root=False),
    "std": _variance(root=True),
    "linalg_vector_norm": _norm,
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "pow": _power,
    "square": _power,
    "rsqrt": _reciprocal_root,
    "reciprocal": lambda call: composed.inverse(call.draft, call.key, call.tensor("self")),
    "rms_norm": _rms_norm,
    "elu": _elu,
    "celu": _celu,
    "mish": lambda call: composed.mish(call.draft, call.key, call.tensor("self")),
}
"""How each operator is said in a graph, by its name without overload."""

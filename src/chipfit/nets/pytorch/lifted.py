"""PyTorch's operators on tensors whose batch does not stand in front.

A graph keeps the batch first. What a module moves elsewhere (attention over patches, windows beside the batch) still
belongs to one image: such a tensor of any shape is kept as that shape behind a batch axis of its own, "lifted", and an
operator on it is the same operator with its axes one further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from chipfit.graph.ops import Reshape
from chipfit.nets.draft import Draft, Unrepresentable
from chipfit.nets.pytorch.call import Computed

SAME_AXES = frozenset((
    "linear", "bmm", "matmul", "layer_norm", "rms_norm", "relu", "relu6", "hardswish", "hardsigmoid", "silu",
    "sigmoid", "tanh", "exp", "sqrt", "rsqrt", "reciprocal", "abs", "neg", "gelu", "leaky_relu", "elu", "celu", "mish",
    "hardtanh", "clamp", "clamp_min", "clamp_max", "add", "sub", "rsub", "mul", "div", "maximum", "minimum", "pow",
    "square", "pad", "clone", "contiguous", "dropout", "alias", "detach", "to", "_to_copy",
    "scaled_dot_product_attention",
))  # fmt: skip
"""Operators that count axes from the last, or not at all."""

OTHER_AXES = frozenset((
    "view", "_unsafe_view", "reshape", "squeeze", "unsqueeze", "permute", "transpose", "expand", "repeat", "cat",
    "split", "split_with_sizes", "slice", "select", "unbind", "roll", "softmax", "_softmax", "index_select", "index",
))  # fmt: skip
"""Operators that name axes, but do not mix along those that they do not name."""

REDUCTIONS = frozenset(("sum", "mean", "amax", "amin", "max", "min", "var", "std", "linalg_vector_norm"))
"""Operators that mix along the axes that they name: never over a batch."""


def can_lift(name: str, arguments: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether an operator can work behind a batch axis; `shapes` are PyTorch's, of all tensors, by argument."""
    if name not in REDUCTIONS:
        return name in SAME_AXES or name in OTHER_AXES
    source, shape = arguments.get("self"), shapes.get("self", ())
    given = arguments.get("dim")
    axes = [given] if isinstance(given, int) else [*(given or range(len(shape)))]
    # An axis of size 1 in front may be the batch: the images of a larger one are not to be mixed.
    return isinstance(source, Computed) and not (shape[:1] == (1,) and any(axis % len(shape) == 0 for axis in axes))


def lift(draft: Draft, value: Computed, shape: tuple[int, ...], rank: int) -> str:
    """Key of a tensor of PyTorch's `shape` behind a batch axis, with as many axes as one of `rank` has there."""
    wanted = (*[1] * (rank - len(shape)), *shape)
    if value.lifted and len(shape) == rank:
        return value.key
    return draft.add(f"{value.key}.lifted", Reshape(wanted), [value.key])


def lower(draft: Draft, key: str, shape: tuple[int, ...]) -> Computed:
    """A lifted tensor of PyTorch's `shape`, with the batch in front again where one can stand there."""
    if draft.shapes[key] != (1, *shape):
        raise Unrepresentable(f"shape {draft.shapes[key]} where PyTorch has {shape}")
    if shape[:1] != (1,):
        return Computed(key, lifted=True)
    return Computed(draft.add(f"{key}.lowered", Reshape(shape[1:]), [key]))


def rewritten(
    draft: Draft, name: str, arguments: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Any]:
    """Arguments of an operator for lifted tensors. Raises `Unrepresentable` where a known tensor stands in the way."""
    broadcasting = name in SAME_AXES and name not in ("linear", "layer_norm", "rms_norm")
    moving = {item: value for item, value in arguments.items() if isinstance(value, Computed)}
    rank = max((len(shapes[item]) for item in moving), default=0) if broadcasting else 0
    if broadcasting and max(len(shape) for shape in shapes.values()) > rank:
        raise Unrepresentable("a known tensor with more axes than those computed")
    if name in ("expand", "repeat"):
        rank = len(arguments["size" if name == "expand" else "repeats"])
    changed = dict(arguments)
    for item, value in arguments.items():
        if item in moving:
            key = lift(draft, moving[item], shapes[item], max(rank, len(shapes[item])))
            changed[item] = Computed(key, lifted=True)
        elif item == "tensors":
            changed[item] = [_part(draft, part, shapes[f"tensors.{index}"]) for index, part in enumerate(value or ())]
        elif item in SHIFTS and value is not None:
            changed[item] = SHIFTS[item](value)
        elif item in ("size", "shape") and name in OTHER_AXES:
            changed[item] = [1, *value]
    if name in ("permute", "repeat"):
        before = 0 if name == "permute" else 1
        changed |= {item: [before, *changed[item]] for item in ("dims", "repeats") if item in changed}
    if name in (*REDUCTIONS, "squeeze") and arguments.get("dim") in (None, []):
        changed["dim"] = list(range(1, 1 + len(shapes["self"])))
    return changed


def _part(draft: Draft, part: object, shape: tuple[int, ...]) -> object:
    if isinstance(part, torch.Tensor):
        return part[None]
    assert isinstance(part, Computed)
    return Computed(lift(draft, part, shape, len(shape)), lifted=True)


def _axis(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1 if value >= 0 else value
    return [_axis(item) for item in value]


SHIFTS: Mapping[str, Callable[[Any], Any]] = {
    "dim": _axis,
    "dim0": _axis,
    "dim1": _axis,
    "indices": lambda value: [None, *value],
    "dims": _axis,
}
"""How arguments that name axes change when a batch axis stands before the others."""

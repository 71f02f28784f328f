"""What a target cannot run of a network: named with the reason and what to do, never predicted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from chipfit.graph.functions import function_name
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Activation, Op, Opaque
from chipfit.graph.shapes import product
from chipfit.graph.subgraphs import Subgraph
from chipfit.graph.values import always, either, negate
from chipfit.graph.workload import Workload, function_number
from chipfit.targets.target import Target

REMEDIES: Mapping[str, str] = {
    "normalisation.layer_norm": "train with batch normalisation instead, which folds into the operator before it",
    "activation.sqrt": "leave it out of the network, or compute it behind the last layer",
    "elementwise.div": "multiply by the reciprocal where the divisor is a constant",
}
"""What to do about a function that the target does not run."""

SHAPE_REMEDIES: Mapping[str, str] = {
    "resize": "resize by a factor of 2, several times if need be",
    "depthwise": "take a stride of 2, and pool for the rest",
    "conv": "take a stride of 2, and pool for the rest",
    "transposed_conv": "take a stride of 2 along both axes, several times if need be",
}
"""What to do about a shape that the target does not run, by kind."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A node that the target cannot run: the estimator's latency and energy are without it.

    `operator` names it with its function; `why` says also who runs it instead, as far as chipfit knows.
    """

    node: str
    operator: str
    why: str
    remedy: str


def gaps(graph: Graph, subgraphs: Sequence[Subgraph], target: Target) -> Iterator[Unsupported]:
    """Nodes of a graph, cut as the target fuses, that the target cannot run under some code."""
    for part in subgraphs:
        if not always(either(negate(part.presence), target.runs(part.workload))):
            yield _gap(graph, part.name, part.workload, target)
        for key, _ in part.members[1:]:
            op = graph.by_key[key].op
            # What is fused has no workload of its own: its host is predicted, it is not.
            if isinstance(op, Activation) and f"activation.{op.function}" in target.unsupported:
                yield _gap(graph, key, Workload("activation", function=function_number(op)), target)


def _gap(graph: Graph, key: str, load: Workload, target: Target) -> Unsupported:
    op, name = graph.by_key[key].op, function_name(load.kind, load.function)
    if isinstance(op, Opaque):
        return Unsupported(
            key, op.operator, "chipfit does not know this operator", "replace it, or add the time that the host takes"
        )
    unfit = target.runs_some(load.kind) and name not in target.unsupported
    what = f"{name} of this {_shape(load)}" if unfit else name
    remedy = SHAPE_REMEDIES[load.kind] if unfit else REMEDIES.get(name, "replace it")
    elements = product(graph.shapes[key])
    moved = f" ({elements} elements go there)" if isinstance(elements, int) else ""
    why = f"{target.name} does not run {what}: it runs on the host processor, whose speed chipfit does not know{moved}"
    return Unsupported(key, _named(op, name), why, remedy)


def _shape(load: Workload) -> str:
    if load.kind == "resize":
        return f"size ({load.in_height}x{load.in_width} to {load.out_height}x{load.out_width})"
    return f"stride ({load.stride_height}x{load.stride_width})"


def _named(op: Op, name: str) -> str:
    return f"{type(op).__name__} {name.partition('.')[2]}".strip() if "." in name else type(op).__name__

"""Peak memory on a target: the tensors that are alive, as it lays them out, and the weights that lie beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chipfit.estimate.memory.buffers import Pace, prefetches
from chipfit.graph.memory import Step
from chipfit.graph.subgraphs import Subgraph
from chipfit.graph.values import Value, ceil_div, where
from chipfit.targets.target import Precision, Target

WEIGHTS = "weights"
"""What all weights are called where they lie beside the activations."""


Held = tuple[str, Value]
"""Something in memory: a tensor by its key, or the weights of an operator; its bytes, 0 where it is not there."""


class Moment(NamedTuple):
    """What is in memory at some time while a subgraph runs."""

    subgraph: str
    held: tuple[Held, ...]


@dataclass(frozen=True, slots=True)
class Peak:
    """The moment of a closed network that needs most memory: bytes, the subgraph that runs, and what is in memory then,
    largest first."""

    size: int
    subgraph: str
    held: tuple[tuple[str, int], ...]


def has_buffers(target: Target) -> bool:
    """Whether the peak depends on the pace of operators, which decides how weights are fetched."""
    layout = target.layout
    return layout.weight_buffers and not layout.weights_on_chip and target.tiles is not None


def moments(
    steps: Sequence[Step],
    subgraphs: Sequence[Subgraph],
    target: Target,
    precision: Precision,
    stored: Mapping[str, Value],
    pace_of: Mapping[str, Pace],
) -> list[Moment]:
    """What is in memory during every step of a network, in execution order.

    `subgraphs` come from `cut`, `steps` say what is alive during each (`memory.liveness`), `stored` are the bytes of
    their weights; `pace_of` has the subgraphs that the target runs, and is not looked at unless it `has_buffers`. With
    weight buffers a step has two moments: its start, and its end with the next one's weights.
    """
    layout = target.layout
    beside: list[Held] = []
    if layout.weights_on_chip:
        found = [where(part.presence, stored[part.name], 0) for part in subgraphs]
        beside = [(WEIGHTS, size) for size in found if not isinstance(size, int) or size]
    bits, aligned = precision.activation_bits, layout.aligned_bytes
    start: dict[str, list[Held]] = defaultdict(list)
    end: dict[str, list[Held]] = defaultdict(list)
    following: dict[str, list[Held]] = defaultdict(list)
    for before, subgraph, sizes in prefetches(target, subgraphs, stored, pace_of) if has_buffers(target) else []:
        first, second, last = [(f"weights of {subgraph}", _up(size, aligned)) for size in sizes]
        start[subgraph] += first, second
        end[subgraph].append(last)
        if before is not None:
            following[before].append(first)
    moments: list[Moment] = []
    for name, tensors in steps:
        alive = [(tensor, _up(ceil_div(elements * bits, 8), aligned)) for tensor, elements in tensors]
        moments.append(Moment(name, (*alive, *start[name], *beside)))
        if name in following:
            moments.append(Moment(name, (*alive, *end[name], *following[name], *beside)))
    return moments


def _up(size: Value, step: int) -> Value:
    return size if step == 1 else ceil_div(size, step) * step


def highest(moments: Sequence[Moment]) -> Peak:
    """The peak of a closed network; the first moment that reaches it."""
    best = Peak(0, "", ())
    for moment in moments:
        total = int(sum([size for _, size in moment.held]))  # type: ignore[arg-type]
        if total > best.size:
            sizes: dict[str, int] = {}
            for name, size in moment.held:
                sizes[name] = sizes.get(name, 0) + int(size)  # type: ignore[arg-type]
            largest = sorted(((name, size) for name, size in sizes.items() if size), key=lambda item: -item[1])
            best = Peak(total, moment.subgraph, tuple(largest))
    return best

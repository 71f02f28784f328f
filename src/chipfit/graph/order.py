"""The order of execution that needs least memory: branches may run one after the other in many ways."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from chipfit.graph.graph import Graph
from chipfit.graph.memory import liveness
from chipfit.graph.ops import product
from chipfit.graph.subgraphs import Subgraph, producers

WIDEST = 2000
"""Sets of executed subgraphs that are looked at for each number of them; with fewer the order found is the best one."""


class _State(NamedTuple):
    """Some subgraphs executed: the peak so far, the elements alive afterwards, and the order, newest first."""

    peak: int
    alive: int
    order: tuple[int, Any] | None


def best_order(graph: Graph, subgraphs: Sequence[Subgraph], block: int = 1) -> tuple[Subgraph, ...]:
    """The subgraphs of a closed graph in the order with the lowest peak of `liveness`; as given where none is lower.

    Every set of executed subgraphs is looked at once, with the lowest peak that leads to it. Where more than `WIDEST`
    of one size are possible, those with the lowest peaks go on, and there may be a better order than the one found.
    """
    tensors = _Tensors(graph, subgraphs, block)
    level = {0: _State(0, tensors.at_start, None)}
    for _ in subgraphs:
        following: dict[int, _State] = {}
        for done, state in level.items():
            for number in tensors.ready(done):
                peak = max(state.peak, state.alive + tensors.sizes[number])
                known = following.get(done | 1 << number)
                if known is None or peak < known.peak:
                    alive = state.alive + tensors.change(done, number)
                    following[done | 1 << number] = _State(peak, alive, (number, state.order))
        level = dict(sorted(following.items(), key=lambda item: item[1][:2])[:WIDEST])
    (found,) = level.values()
    if found.peak >= tensors.given_peak:
        return tuple(subgraphs)
    order: list[Subgraph] = []
    left = found.order
    while left is not None:
        order.append(subgraphs[left[0]])
        left = left[1]
    return tuple(reversed(order))


class _Tensors:
    """Who reads which tensor of a closed graph; sets of subgraphs are the bits of integers."""

    def __init__(self, graph: Graph, subgraphs: Sequence[Subgraph], block: int) -> None:
        steps = liveness(graph, subgraphs, block)
        self.sizes: list[int] = [int(step.alive[0].elements) for step in steps]  # type: ignore[arg-type]
        self.given_peak = max([sum(int(each.elements) for each in step.alive) for step in steps], default=0)  # type: ignore[arg-type]
        inputs = {item.key: int(product(item.shape)) for item in graph.inputs}  # type: ignore[arg-type]
        self.names = [part.name for part in subgraphs]
        self.size_of = inputs | dict(zip(self.names, self.sizes, strict=True))
        self.reads = [frozenset(edge.source for edge in part.reads) for part in subgraphs]
        self.readers = dict.fromkeys(self.size_of, 0)
        for number, sources in enumerate(self.reads):
            for source in sources:
                self.readers[source] |= 1 << number
        self.kept = {part.name for part in subgraphs if part.gives_output}
        self.kept |= {edge.source for key in graph.outputs for edge in producers(graph)[key]} & inputs.keys()
        place = {name: number for number, name in enumerate(self.names)}
        self.before = [sum(1 << place[source] for source in sources if source in place) for sources in self.reads]
        self.at_start = sum(size for key, size in inputs.items() if self.readers[key] or key in self.kept)

    def ready(self, done: int) -> Iterator[int]:
        """Subgraphs that can run next."""
        for number, before in enumerate(self.before):
            if not done >> number & 1 and before & done == before:
                yield number

    def change(self, done: int, number: int) -> int:
        """By how much the elements that stay alive grow when a subgraph runs."""
        name, after = self.names[number], done | 1 << number
        grown = self.sizes[number] if self.readers[name] or name in self.kept else 0
        over = [each for each in self.reads[number] if each not in self.kept and self.readers[each] & ~after == 0]
        return grown - sum(self.size_of[each] for each in over)

"""Slow layers that no advised change touches: what was tried on each, and why none of it pays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chipfit.estimate.estimator import LayerCost
from chipfit.expert.changes import STEPS, Change, Changes
from chipfit.expert.gains import Gain
from chipfit.graph.channels import Channels, channels
from chipfit.graph.graph import Graph
from chipfit.graph.values import Choice

SLOWEST = 12
"""Layers that are looked at, those that take most of the time first."""


@dataclass(frozen=True, slots=True)
class Tried:
    """The best option of a decision that touches a layer: what it brings by itself, and why it is not advised."""

    change: Change
    gain: Gain
    why_not: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """A slow layer without an advised change. `tried` is what was costed, the best first; `held` says what could not be
    tried, and why."""

    layer: LayerCost
    tried: tuple[Tried, ...]
    held: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unadvised:
    """All changes of a network beside what each brings alone (`gains`) and has to bring (`prices`), by place, with the
    `code` of those that are advised."""

    changes: Changes
    gains: Sequence[Gain]
    prices: Sequence[float]
    code: Sequence[int]

    def why_not(self, place: int) -> str:
        """Why a change is not advised."""
        change, gain, price = self.changes.known[place], self.gains[place], self.prices[place]
        if gain.latency >= 0:
            return "costs more" if gain.latency > 0 else "changes nothing"
        if change.sacrifice:
            return "gives up detail or channels"
        if -gain.latency <= price:
            return f"saves less than the {price:.1%} that would be certain"
        return "brings too little beside the changes that are advised"

    def grows(self, place: int) -> bool:
        """Whether a change makes a layer larger without saving time: not tried for speed."""
        return (
            self.gains[place].parameters > 0
            and self.changes.known[place].kind in ("width", "kernel")
            and (self.gains[place].latency >= 0)
        )


def unchanged(graph: Graph, layers: Sequence[LayerCost], found: Unadvised) -> tuple[Unchanged, ...]:
    """The slowest layers of a network as given that no advised change touches, the slowest first."""
    slowest = sorted(layers, key=lambda layer: (-layer.latency_s, layer.name))[:SLOWEST]
    traced = channels(graph)
    widths = {f"{group.name}.width": group for group in traced.groups}
    result: list[Unchanged] = []
    for layer in slowest:
        near, known = concerned(layer, graph, found.changes, traced), found.changes.known
        if any(found.code[known[place].decision] == known[place].option for place in near):
            continue
        tried = _best([place for place in near if not found.grows(place)], found)
        read = set(_groups(traced, graph, layer.name))
        missing = sorted(read - {item.change.name.rpartition("=")[0] for item in tried})
        held = tuple(_held(widths[name].width, widths[name].fixed, name) for name in missing if name in widths)
        result.append(Unchanged(layer, tried, held))
    return tuple(result)


def concerned(layer: LayerCost, graph: Graph, changes: Changes, traced: Channels) -> list[int]:
    """Places of the changes that are made to a layer of a network as given, or to the channels that it reads or gives.

    `traced` are the channels of that network.
    """
    read = set(_groups(traced, graph, layer.name))
    return [
        place
        for place, change in enumerate(changes.known)
        if touches(change, layer) or (change.kind == "width" and change.name.rpartition("=")[0] in read)
    ]


def touches(change: Change, layer: LayerCost) -> bool:
    """Whether a change is made to a layer, or to a block that it lies in."""
    return any(layer.name == site or layer.name.startswith((f"{site}.", f"{site}/")) for site in change.where)


def _best(near: Sequence[int], found: Unadvised) -> tuple[Tried, ...]:
    """The best option of every decision among some changes, given by place."""
    best: dict[int, int] = {}
    for place in sorted(near, key=lambda place: found.gains[place].latency):
        best.setdefault(found.changes.known[place].decision, place)
    return tuple(Tried(found.changes.known[place], found.gains[place], found.why_not(place)) for place in best.values())


def _groups(traced: Channels, graph: Graph, key: str) -> Iterator[str]:
    """Names of the decisions on the widths that a layer reads and gives."""
    node = graph.by_key.get(key)
    for name in (*node.inputs, key) if node is not None else ():
        for axis in traced.axes.get(name, ()):
            for part in axis or ():
                yield f"{traced.groups[part.group].name}.width"


def _held(width: object, fixed: str | None, name: str) -> str:
    """Why a width that no decision concerns stays."""
    group = name.removesuffix(".width")
    if fixed is not None:
        return f"{group} keeps its channels: {fixed}"
    if not isinstance(width, Choice) and any(int(width) % step == 0 for step in STEPS):  # type: ignore[call-overload]
        return f"{group} has {width} channels, a step of the chip already"
    return f"{group} has {width} channels, too far from a step of the chip"

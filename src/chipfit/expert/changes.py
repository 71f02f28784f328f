"""What could be changed in a network: a space with one decision for every site, and each of its options in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from chipfit.errors import InvalidInput
from chipfit.expert.sites import deciding
from chipfit.graph.channels import ChannelGroup, channel_groups
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Select
from chipfit.graph.values import Choice
from chipfit.spaces.edits import SPACE_EDITS, open_space

Carried = Literal["exact", "approximate", "reinitialised"]

STEPS = (8, 16, 32)
"""Channels that chips work on at once; the estimator says which of them matters."""

NEAREST = 0.2
"""Largest share of its channels by which a width moves to the next step."""

NARROWER = (0.75, 0.5)
SMALLER = (0.875, 0.75, 0.625, 0.5)
"""Shares of a width, and of the size of the input, that are given up where limits ask for it."""

SIDE = 32
"""Image sides are multiples of this, which networks halve five times."""


@dataclass(frozen=True, slots=True)
class Change:
    """One option of one decision of a space of changes.

    `name` is the decision and the option, the same for a network whatever the chip; `where` are nodes of the network
    that was given. `carried` says what becomes of its weights by rule ("exact": the same function on the same input;
    `nets.inherit` says it of a whole set). A `sacrifice` gives up resolution, channels or reach for speed: it is only
    taken where limits ask for it.
    """

    name: str
    kind: str
    decision: int
    option: int
    where: tuple[str, ...]
    what: str
    carried: Carried
    risk: str
    sacrifice: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """A space whose zero code is the network as given, and all that its other options are."""

    space: Graph
    known: tuple[Change, ...]

    def of(self, decision: int) -> tuple[Change, ...]:
        """The changes that one decision offers."""
        return tuple(item for item in self.known if item.decision == decision)

    def named(self, name: str) -> Change:
        """The change of a name. Raises `InvalidInput` where there is none."""
        for item in self.known:
            if item.name == name:
                return item
        raise InvalidInput(f"there is no change {name!r} for this network; `chipfit advise` lists them")


def possible_changes(graph: Graph, crowded: Sequence[str] = ()) -> Changes:
    """All changes that could be made to a closed graph, whether they pay or not.

    `crowded` are the tensors at the peak of memory; those of their groups are also offered narrower. Raises
    `InvalidInput` for an open graph and for one in which nothing can be changed.
    """
    if graph.decisions:
        raise InvalidInput(f"advice is for one network, but {len(graph.decisions)} decisions are open; close it first")
    space = graph
    for name, options in _edits(graph).items():
        space = _opened(space, name, options)
    space = _opened(space, "width", {"groups": _widths(space, set(crowded))})
    if not space.decisions:
        raise InvalidInput("nothing in this network can be changed: it has no convolution whose width or kind is free")
    members = _sites(graph, space)
    known: list[Change] = []
    for place, decision in enumerate(space.decisions):
        site, _, kind = decision.name.rpartition(".")
        for option in range(1, len(decision.options)):
            chosen, given = decision.options[option], decision.options[0]
            what, carried, risk, sacrifice = _words(kind, given, chosen)
            where = tuple(key for key in members.get(decision.name, (site,)) if key in graph.by_key) or (site,)
            known.append(
                Change(f"{decision.name}={chosen}", kind, place, option, where, what, carried, risk, sacrifice)
            )
    return Changes(space, tuple(known))


def _sites(graph: Graph, space: Graph) -> dict[str, tuple[str, ...]]:
    """Nodes of the network as given that decisions concern, by decision, where its name does not say it: what a width
    is of, and what a branch stands for that takes the place of nodes."""
    found = {f"{group.name}.width": group.producers for group in channel_groups(graph)}
    for node in space.nodes:
        if isinstance(node.op, Select):
            replaced = tuple(_replaced(space, node.inputs[1]))
            for name in deciding(node.op) if replaced else ():
                found[name] = tuple(dict.fromkeys((*found.get(name, ()), *replaced[::-1])))
    return found


def _replaced(space: Graph, key: str) -> Iterator[str]:
    """What the nodes of a branch stand for, the last first."""
    node = space.by_key.get(key)
    while node is not None and node.origin is not None:
        yield from reversed(node.origin.sources)
        node = space.by_key.get(node.inputs[0])


def _opened(space: Graph, name: str, options: object) -> Graph:
    """The space with the decisions of an edit, or as it is where nothing of this kind is in the network."""
    try:
        return open_space(space, {name: options})
    except InvalidInput:
        return space


def _edits(graph: Graph) -> Mapping[str, object]:
    """Edits by name, with their options, in the order in which they are applied."""
    found: dict[str, object] = {name: True for name in SPACE_EDITS if name not in _OWN_OPTIONS}
    found["kernel"] = [3, 5]
    images = [item for item in graph.inputs if len(item.shape) == 4]
    if len(images) == 1:
        side, width = (int(size) for size in images[0].shape[2:])  # type: ignore[arg-type]
        sizes = dict.fromkeys(round(side * share / SIDE) * SIDE for share in SMALLER)
        found["input_size"] = [size for size in sizes if 0 < size < side and not size * width % side]
    return {name: found[name] for name in SPACE_EDITS if name in found}


_OWN_OPTIONS = {"width", "depth_multiplier", "repeats", "input_size", "kernel"}
"""Edits whose options depend on the network, and those that take away whole blocks."""


def _widths(graph: Graph, crowded: set[str]) -> dict[str, list[int]]:
    """The widths that each free group is offered: the next steps on both sides, and less where memory is crowded."""
    found: dict[str, list[int]] = {}
    for group in channel_groups(graph):
        if group.fixed is not None or isinstance(group.width, Choice):
            continue
        widths = _near(int(group.width)) + (_narrower(int(group.width)) if _touches(group, crowded) else [])
        if widths:
            found[group.name] = widths
    return found


def _near(width: int) -> list[int]:
    steps = [step * (width // step + up) for step in STEPS for up in (0, 1)]
    return sorted({each for each in steps if each and each != width and abs(each - width) <= NEAREST * width})


def _narrower(width: int) -> list[int]:
    shares = (round(width * share / STEPS[0]) * STEPS[0] for share in NARROWER)
    return [each for each in shares if 0 < each < (1 - NEAREST) * width]


def _touches(group: ChannelGroup, crowded: set[str]) -> bool:
    return not crowded.isdisjoint((*group.producers, *group.members))


def _words(kind: str, given: object, chosen: object) -> tuple[str, Carried, str, bool]:
    """What an option does, what becomes of the weights, what that means for accuracy, and whether it is a sacrifice."""
    if kind == "width":
        before, after = int(given), int(chosen)  # type: ignore[call-overload]
        if after > before:
            return f"{before} → {after} channels", "exact", "new channels start unread", False
        far = before - after > NEAREST * before
        return (
            f"{before} → {after} channels",
            "approximate",
            f"{before - after} channel{'s' * (before - after > 1)} pruned, retrain",
            far,
        )
    if kind == "kernel":
        before, after = int(given), int(chosen)  # type: ignore[call-overload]
        if after > before:
            return f"{before}×{before} → {after}×{after} window", "exact", "windows filled up with zeros", False
        return f"{before}×{before} → {after}×{after} window", "approximate", "windows lose their rim, retrain", True
    if kind == "size":
        return f"input of {given} → {chosen} pixels", "approximate", "less detail, retrain", True
    if kind == "factor" and chosen != "two":
        return "one window → smaller ones in a row", "reinitialised", "new weights, retrain", True
    if kind == "activation":
        return f"{given} → {chosen}", "approximate", "another function, retrain", False
    return _KINDS.get(kind, (f"{given} → {chosen}", "approximate", "retrain", True))


_KINDS: Mapping[str, tuple[str, Carried, str, bool]] = {
    "layout": ("leave out a change of layout that another undoes", "exact", "the same function", False),
    "later": ("enlarge the image after the 1×1 convolution, not before", "exact", "the same function", False),
    "steps": ("double the image several times, not at once", "approximate", "a little smoother, retrain", False),
    "pool": ("pool before the 1×1 convolution, not after", "approximate", "another function, retrain", False),
    "output": ("output of half the height and width", "approximate", "less detail", True),
    "fuse": ("fuse expansion and depthwise into one convolution", "approximate", "weights composed, retrain", False),
    "merge": ("merge depthwise and 1×1 convolution into one", "approximate", "weights composed, retrain", False),
    "depthwise": ("depthwise → standard convolution", "exact", "the same function", False),
    "factor": ("one window → two in a row", "approximate", "weights factorised, retrain", True),
    "earlier": ("halve the resolution earlier", "approximate", "less detail, retrain", True),
}

"""Where in a network a decision is made: what a rule can say of a place, whatever its name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph, Node
from chipfit.graph.ops import Conv2d, ConvTranspose2d, Linear, Op, Select
from chipfit.graph.values import Choice, bind, choices_in
from chipfit.spaces.structure import composed

KINDS = (
    "fuse", "depthwise", "earlier", "merge", "factor", "kernel", "activation", "repeats", "width", "depth_multiplier",
    "size",
)  # fmt: skip
"""Kinds of decisions, the last part of their names, in the order in which edits open them."""

WHOLE = ("depth_multiplier", "size")
"""Kinds that are decided once for the whole network."""

FEATURES = ("position", "resolution", "width", "stride", "kernel")
"""What is known of a place."""


@dataclass(frozen=True, slots=True)
class Site:
    """A place of a network as given where a decision is made, by its first layer there.

    `position` goes from 0 for the first layer with weights to 1 for the last; `resolution` is the height in pixels of
    what the layer reads, `width` the channels that it gives. None where there is no such thing: all of them for
    decisions on the whole network, but its `resolution`, the height of its image.
    """

    decision: str
    kind: str
    position: float | None = None
    resolution: int | None = None
    width: int | None = None
    stride: int | None = None
    kernel: int | None = None


def kind_of(decision: str) -> str:
    """What kind of decision a name belongs to. Raises `InvalidInput` for an unknown one."""
    kind = decision.rpartition(".")[2]
    if kind not in KINDS:
        raise InvalidInput(f"decision {decision!r} is of no known kind; known are {', '.join(KINDS)}")
    return kind


def sites(given: Graph, space: Graph) -> tuple[Site, ...]:
    """The place of every decision of a space around a closed network, in the order of the decisions."""
    places = positions(given)
    anchors = _anchors(given, space, places)
    found: list[Site] = []
    for decision in space.decisions:
        if kind_of(decision.name) in WHOLE or decision.name not in anchors:
            found.append(whole_site(given, decision.name))
        else:
            found.append(site_of(given, decision.name, given.by_key[anchors[decision.name]], places))
    return tuple(found)


def positions(given: Graph) -> dict[str, float]:
    """The layers of a network that have weights, each with its place from 0 to 1."""
    layers = [node.key for node in given.nodes if isinstance(node.op, (Conv2d, ConvTranspose2d, Linear))]
    return {key: index / max(len(layers) - 1, 1) for index, key in enumerate(layers)}


def whole_site(given: Graph, decision: str) -> Site:
    """What is known of a decision on a whole closed network."""
    image = next((int(item.shape[2]) for item in given.inputs if len(item.shape) == 4), None)  # type: ignore[arg-type]
    return Site(decision, kind_of(decision), resolution=image)


def site_of(given: Graph, decision: str, node: Node, places: Mapping[str, float]) -> Site:
    """The place of a decision at a node of a closed network whose layers stand at `places`."""
    shape, op = given.input_shapes(node)[0], node.op
    window = op if isinstance(op, (Conv2d, ConvTranspose2d)) else None
    return Site(
        decision,
        kind_of(decision),
        places.get(node.key, _behind(given, node, places)),
        int(shape[2]) if len(shape) == 4 else 1,  # type: ignore[arg-type]
        int(given.shapes[node.key][1]),  # type: ignore[arg-type]
        int(window.stride[0]) if window else 1,  # type: ignore[arg-type]
        int(window.kernel[0]) if window else 1,  # type: ignore[arg-type]
    )


def _behind(given: Graph, node: Node | None, places: Mapping[str, float]) -> float:
    """The position of the last layer before a node that has no weights."""
    while node is not None and node.key not in places:
        node = given.by_key.get(node.inputs[0]) if node.inputs else None
    return places[node.key] if node is not None else 0.0


def _anchors(given: Graph, space: Graph, places: Mapping[str, float]) -> dict[str, str]:
    """For each decision the node of the network as given that it is about.

    A decision is about the node after which it is named, else the first whose operator depends on it, or the layer
    behind which a choice between two tensors depends on it.
    """
    named = {item.name: item.name.rpartition(".")[0] for item in space.decisions}
    found = {name: key for name, key in named.items() if key in given.by_key}
    for node in space.nodes:
        key = _chosen_from(space, given, node, places) if isinstance(node.op, Select) else node.key
        if key in given.by_key:
            for name in deciding(node.op):
                found.setdefault(name, key)
    return found


def deciding(op: Op) -> tuple[str, ...]:
    """The decisions on an operator; of a choice between tensors, where there are any, those that decide by themselves.

    Others only take back what these say.
    """
    names = tuple(dict.fromkeys(name for choice in choices_in(op) for name in choice.decisions))
    if not isinstance(op, Select):
        return names
    given = {name: {other: 0 for other in names if other != name} for name in names}
    return tuple(name for name in names if isinstance(bind(op.index, given[name]), Choice)) or names


def _chosen_from(space: Graph, given: Graph, node: Node, places: Mapping[str, float]) -> str:
    """The layer whose result a choice takes where nothing is changed; of two merged ones that with the window."""
    pair = composed(space, node)
    key = pair.sources[0] if pair is not None and pair.recipe == "merge" else node.key
    while key not in places and key in space.by_key and space.by_key[key].inputs:
        key = space.by_key[key].inputs[0]
    return key

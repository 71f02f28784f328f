"""Edits of sizes: channel widths, alone or all at once, and the size of the input.

Each is a function from a graph to the same graph with more decisions open; option 0 is the network as given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from chipfit.errors import InvalidGraph, InvalidInput
from chipfit.graph.channels import ChannelGroup, channel_groups, with_widths
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Resize
from chipfit.graph.rewrite import with_decision
from chipfit.graph.values import Choice, Decision, Value, bounds, choose, equal, floor, maximum, minimum, where

FACTORS = (1.0, 0.75, 0.5)
MULTIPLIERS = (1.0, 0.9, 0.75, 0.5)
DIVISOR = 8


def open_widths(
    graph: Graph,
    factors: Sequence[float] = FACTORS,
    divisor: int = DIVISOR,
    groups: Sequence[str] | Mapping[str, Sequence[int]] | None = None,
) -> Graph:
    """Opens "<group>.width" for channel groups (`graph.channels`): the width as given, then the others offered.

    `groups` are the names of the groups to open (None for all whose width can change), or the channel counts of each.
    Factors times the width are rounded to multiples of `divisor`, never to 0, and never above the width unless the
    factor is. Options are channel counts, or factors where the width depends on other decisions. Raises `InvalidInput`
    for groups that are unknown or fixed, and where no width could be opened.
    """
    found = channel_groups(graph)
    known = {group.name: group for group in found}
    names = [group.name for group in found if group.fixed is None] if groups is None else list(groups)
    _check_factors(factors, divisor)
    widths: dict[str, Value] = {}
    for name in names:
        if name not in known:
            raise InvalidInput(f"there is no channel group {name!r}; the graph has {', '.join(known)}")
        if (reason := known[name].fixed) is not None:
            raise InvalidInput(f"the width of {name!r} cannot change: {reason}")
        counts = groups[name] if isinstance(groups, Mapping) else None
        decision, width = _width_options(known[name], factors, divisor, counts)
        if len(decision) > 1:
            graph = with_decision(graph, decision)
            widths[name] = width
    if not widths:
        raise InvalidInput(
            f"no width can change with factors {list(factors)} and divisor {divisor}: {_why_fixed(found)}"
        )
    return with_widths(graph, widths)


def _width_options(
    group: ChannelGroup, factors: Sequence[float], divisor: int, counts: Sequence[int] | None
) -> tuple[Decision, Value]:
    name, given = f"{group.name}.width", group.width
    if counts is not None and (isinstance(given, Choice) or any(count < 1 for count in counts)):
        raise InvalidInput(f"{name}: channel counts must be at least 1 and the width not open yet, got {list(counts)}")
    if isinstance(given, Choice):
        decision = Decision(name, tuple(dict.fromkeys((1.0, *factors))))
        return decision, scaled(given, choose(decision, decision.options), divisor)  # type: ignore[arg-type]
    others = counts if counts is not None else [scaled(given, factor, divisor) for factor in factors]
    decision = Decision(name, tuple(dict.fromkeys((given, *others))))  # type: ignore[arg-type]
    return decision, choose(decision, decision.options)  # type: ignore[arg-type]


def open_depth_multiplier(graph: Graph, multipliers: Sequence[float] = MULTIPLIERS, divisor: int = DIVISOR) -> Graph:
    """Opens "depth_multiplier", which scales every width that can change, after whatever decides that width already.

    Rounding is that of `open_widths`. Raises `InvalidInput` where no width changes.
    """
    _check_factors(multipliers, divisor)
    decision = Decision("depth_multiplier", tuple(dict.fromkeys((1.0, *multipliers))))
    factor = choose(decision, decision.options)  # type: ignore[arg-type]
    found = channel_groups(graph)
    free = {group.name: group.width for group in found if group.fixed is None}
    widths = {name: new for name, width in free.items() if (new := scaled(width, factor, divisor)) != width}
    if not widths:
        raise InvalidInput(f"no width can change with multipliers {list(multipliers)}: {_why_fixed(found)}")
    return with_widths(with_decision(graph, decision), widths)


def scaled(width: Value, factor: Value, divisor: int) -> Value:
    """A width times a factor, to the nearest multiple of `divisor`, at least one of it.

    Where the factor is at most 1 the result is at most the width; where it is 1, the width as it is.
    """
    rounded = maximum(floor(width * factor / divisor + 0.5) * divisor, divisor)
    return where(equal(factor, 1), width, where(factor > 1, rounded, minimum(rounded, width)))  # type: ignore[operator]


def open_input_size(graph: Graph, sizes: Sequence[int]) -> Graph:
    """Opens "input.size", the height of the one image input; the width keeps its ratio to it.

    The size as given comes first. Raises `InvalidInput` where the graph has not just one image input, a size gives no
    whole width, or a node depends on the size as given (a resize to a fixed size, a reshape, a window that no longer
    fits); the message names it.
    """
    images = [item for item in graph.inputs if len(item.shape) == 4]
    if len(images) != 1:
        raise InvalidInput(f"input.size needs a network with one image input, this one has {len(images)}")
    height, width = images[0].shape[2:]
    if isinstance(height, Choice) or isinstance(width, Choice):
        raise InvalidInput(f"the size of {images[0].key!r} is open already; apply this edit once")
    heights = tuple(dict.fromkeys((int(height), *sizes)))
    if wrong := [size for size in heights if size < 1 or size * width % height]:
        raise InvalidInput(f"input.size {wrong[0]}: not a size to which {height}x{width} can be scaled; give another")
    if len(heights) == 1:
        raise InvalidInput(f"input.size offers nothing but the size as given, {height}; give another")
    decision = Decision("input.size", heights)
    shape = (
        *images[0].shape[:2],
        choose(decision, heights),
        choose(decision, tuple(s * width // height for s in heights)),
    )
    inputs = tuple(replace(item, shape=shape) if item is images[0] else item for item in graph.inputs)
    graph = replace(with_decision(graph, decision), inputs=inputs)
    _check_input_size(graph, decision)
    return graph


def _check_input_size(graph: Graph, decision: Decision) -> None:
    remedy = "leave input.size closed, or let this node follow the size of its input"
    try:
        shapes = graph.shapes
    except InvalidGraph as error:
        raise InvalidInput(f"input.size {decision.options} does not fit: {error}; {remedy}") from None
    for node in graph.nodes:
        sizes = [size for name in node.inputs for size in shapes[name][2:]]
        follows = any(isinstance(size, Choice) and decision.name in size.decisions for size in sizes)
        if follows and isinstance(node.op, Resize) and node.op.size is not None:
            raise InvalidInput(f"input.size: node {node.key!r} resizes to the fixed size {node.op.size}; {remedy}")
        if any(bounds(size)[0] < 1 for size in shapes[node.key]):
            raise InvalidInput(
                f"input.size {decision.options}: nothing is left at node {node.key!r}; give larger sizes"
            )


def _check_factors(factors: Sequence[float], divisor: int) -> None:
    if divisor < 1 or any(factor <= 0 for factor in factors):
        raise InvalidInput(f"factors must be above 0 and the divisor at least 1, got {list(factors)} and {divisor}")


def _why_fixed(groups: Sequence[ChannelGroup]) -> str:
    reasons = [f"{group.name!r} ({group.fixed})" for group in groups if group.fixed is not None]
    free = len(groups) - len(reasons)
    more = ", …" if len(reasons) > 3 else ""
    return f"{free} of {len(groups)} groups are free; fixed: {', '.join(reasons[:3]) or 'none'}{more}"

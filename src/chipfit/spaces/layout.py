"""Edits of what moves numbers without computing: layout changes that undo each other, where images grow and shrink.

Each is a function from a graph to the same graph with more decisions open; option 0 is the network as given. Sites are
nodes of the network that was given, and decisions are named after them.
"""

from __future__ import annotations

from dataclasses import replace

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph, Node, Origin
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Conv2d,
    Elementwise,
    GlobalPool,
    Pool2d,
    Reshape,
    Resize,
    Select,
    Softmax,
)
from chipfit.graph.rewrite import add_alternative, unique_key, with_decision
from chipfit.graph.undone import undone
from chipfit.graph.values import Decision, always, choose, equal

OUTPUT_SIZES = ("as given", "half", "quarter", "eighth")
"""How large outputs may be, along each side."""

ANY_SIZE = (Activation, BatchNorm, Conv2d, Elementwise, Select, Softmax)
"""Operators that take images of any size and give images."""


def remove_layout_changes(graph: Graph) -> Graph:
    """Opens "<node>.layout" (as given, removed) for every node that gives an earlier tensor back unchanged.

    Such are transposes that undo each other, slices of what was joined, joined slices, padding by 0 (`graph.undone`);
    the outputs stay the same. Reshapes move nothing and stay. Raises `InvalidInput` where there is none.
    """
    opened = False
    for node in graph.nodes:
        source = None if node.origin is not None or isinstance(node.op, Reshape) else undone(graph, node)
        # What is an output has to come from a node.
        if source is None or (node.key in graph.outputs and source not in graph.by_key):
            continue
        decision = Decision(f"{node.key}.layout", ("as given", "removed"))
        graph, opened = with_decision(graph, decision), True
        graph = add_alternative(graph, node.key, source, choose(decision, (0, 1)), f"{node.key}.moved")
    if not opened:
        raise InvalidInput("no change of layout found that undoes another or changes nothing; leave this edit out")
    return graph


def resize_later(graph: Graph) -> Graph:
    """Opens "<resize>.later" (as given, later): what works on single pixels comes before images grow, not after.

    Such are 1x1 convolutions and normalisations, and behind the nearest pixel's value activations as well: the function
    stays the same, as interpolated values are means with weights that add up to 1, on fewer pixels. Only what a single
    node reads moves. Raises `InvalidInput` where there is nothing to move.
    """
    opened = False
    for key in [node.key for node in graph.nodes if isinstance(node.op, Resize) and node.origin is None]:
        node = graph.by_key[key]
        chain = _pixelwise(graph, node)
        if not _grows(graph, node) or not any(isinstance(item.op, Conv2d) for item in chain):
            continue
        decision = Decision(f"{key}.later", ("as given", "later"))
        branch: list[Node] = []
        for item in chain:
            inputs = (branch[-1].key,) if branch else node.inputs
            branch.append(
                Node(unique_key(graph, f"{item.key}.small"), item.op, inputs, Origin("before", (key, item.key)))
            )
        last = unique_key(graph, f"{key}.after")
        branch.append(Node(last, node.op, (branch[-1].key,), Origin("behind", (key, chain[-1].key))))
        graph, opened = with_decision(graph, decision), True
        graph = add_alternative(graph, chain[-1].key, last, choose(decision, (0, 1)), f"{key}.order", branch)
    if not opened:
        raise InvalidInput("no resize found that a 1x1 convolution alone reads; leave this edit out")
    return graph


def shrink_outputs(graph: Graph) -> Graph:
    """Opens "<node>.output" (as given, half, …) for the last enlargement before an output: half as much of it.

    Behind a resize there may only be what works on single pixels; a resize that `resize_later` put in its place
    follows. Decoders that add enlarged images to earlier features step by step (Lin et al. 2017, figure 3) may stop at
    any step, if what follows takes images of any size: "half" leaves out the last step, "quarter" the last two. All
    outputs behind it shrink. Raises `InvalidInput` where no output is an enlarged image.
    """
    steps = {node.key: found for node in graph.nodes if (found := _smaller_steps(graph, node))}
    for key, smaller in steps.items():
        graph = _stopped_early(graph, key, smaller)
    opened = bool(steps)
    for key in [node.key for node in graph.nodes if isinstance(node.op, Resize) and node.origin is None]:
        node = graph.by_key[key]
        smaller = _half(node.op)
        if smaller is None or not _grows(graph, node) or not _ends(graph, node):
            continue
        decision = Decision(f"{key}.output", ("as given", "half"))
        graph, opened = with_decision(graph, decision), True
        for place in _with_moved(graph, node):
            branch = [Node(unique_key(graph, f"{place.key}.half"), smaller, place.inputs, Origin("new", ()))]
            if smaller.scale == (1.0, 1.0):
                branch = []
            other = branch[0].key if branch else place.inputs[0]
            graph = add_alternative(graph, place.key, other, choose(decision, (0, 1)), f"{place.key}.size", branch)
    if not opened:
        raise InvalidInput("no output is an enlarged image that could be half as large; leave this edit out")
    return graph


def _smaller_steps(graph: Graph, node: Node) -> tuple[str, ...]:
    """What may take the place of a decoder's last step: the tensors of half its size, a quarter, …; none elsewhere."""
    if node.origin is not None or not _takes_any_size(graph, node.key):
        return ()
    found: list[str] = []
    while (before := _doubled_in(graph, node)) is not None and len(found) + 1 < len(OUTPUT_SIZES):
        found.append(before)
        if before not in graph.by_key:
            break
        node = graph.by_key[before]
    return tuple(found)


def _doubled_in(graph: Graph, node: Node) -> str | None:
    """The tensor that a node adds to another one after doubling its size, None where it is no such sum."""
    if not isinstance(node.op, Elementwise) or node.op.function != "add":
        return None
    for name in node.inputs:
        other = graph.by_key.get(name)
        if (
            other is not None
            and isinstance(other.op, Resize)
            and other.origin is None
            and _doublings(graph, other) == 1
        ):
            return other.inputs[0]
    return None


def _takes_any_size(graph: Graph, key: str) -> bool:
    """Whether all that follows a tensor, one node at least, takes images of any size and nothing of a size beside."""
    behind = {key}
    for node in graph.nodes:
        if behind.isdisjoint(node.inputs):
            continue
        pixels = not isinstance(node.op, Softmax) or node.op.axis in (1, -3)
        if not isinstance(node.op, ANY_SIZE) or not pixels or not behind.issuperset(node.inputs):
            return False
        behind.add(node.key)
    return len(behind) > 1


def _stopped_early(graph: Graph, key: str, smaller: tuple[str, ...]) -> Graph:
    count = len(smaller) + 1
    decision = Decision(f"{key}.output", OUTPUT_SIZES[:count])
    graph = with_decision(graph, decision)
    for step, other in enumerate(smaller, start=1):
        name = unique_key(graph, f"{key}.size")
        index = choose(decision, tuple(int(option >= step) for option in range(count)))
        graph = add_alternative(graph, key, other, index, name)
        key = name
    return graph


def resize_in_steps(graph: Graph) -> Graph:
    """Opens "<resize>.steps" (once, doubled) for images enlarged by 4 or 8 at once: as doublings in a row.

    Interpolated values are a little smoother, those of the nearest pixel the same. Chips that only double run these. A
    resize that `resize_later` put in its place follows. Raises `InvalidInput` where there is none.
    """
    opened = False
    for key in [node.key for node in graph.nodes if isinstance(node.op, Resize) and node.origin is None]:
        node = graph.by_key[key]
        assert isinstance(node.op, Resize)
        count = _doublings(graph, node)
        if count < 2:
            continue
        double = replace(node.op, scale=(2.0, 2.0), size=None)
        decision = Decision(f"{key}.steps", ("once", "doubled"))
        graph, opened = with_decision(graph, decision), True
        for place in _with_moved(graph, node):
            branch: list[Node] = []
            for position in range(1, count + 1):
                inputs = (branch[-1].key,) if branch else place.inputs
                name = unique_key(graph, f"{place.key}.double.{position}")
                branch.append(Node(name, double, inputs, Origin("new", ())))
            index = choose(decision, (0, 1))
            graph = add_alternative(graph, place.key, branch[-1].key, index, f"{place.key}.form", branch)
    if not opened:
        raise InvalidInput("no image is enlarged by 4 or 8 at once, so none can be in steps; leave this edit out")
    return graph


def pool_earlier(graph: Graph) -> Graph:
    """Opens "<pool>.pool" (as given, earlier): the mean over the image comes before the last 1x1 convolution.

    The convolution, and the normalisation and activation behind it, then work on one pixel (Howard et al. 2019, section
    5.1, who found no loss of accuracy); without an activation the function stays the same. Only what a single node
    reads moves. Raises `InvalidInput` where no mean over the image stands behind a 1x1 convolution.
    """
    opened = False
    for key in [node.key for node in graph.nodes if node.origin is None and _is_mean(graph, node)]:
        node = graph.by_key[key]
        chain = _before(graph, node)
        if not chain:
            continue
        decision = Decision(f"{key}.pool", ("as given", "earlier"))
        mean = Node(unique_key(graph, f"{key}.early"), node.op, chain[0].inputs, Origin("new", ()))
        branch = [mean]
        for item in chain:
            name = unique_key(graph, f"{item.key}.pooled")
            branch.append(Node(name, item.op, (branch[-1].key,), Origin("copy", (item.key,))))
        graph, opened = with_decision(graph, decision), True
        graph = add_alternative(graph, key, branch[-1].key, choose(decision, (0, 1)), f"{key}.order", branch)
    if not opened:
        raise InvalidInput("no mean over the image behind a 1x1 convolution found; leave this edit out")
    return graph


def _is_mean(graph: Graph, node: Node) -> bool:
    """Whether a node gives the mean over all pixels."""
    if isinstance(node.op, GlobalPool):
        return node.op.function == "average"
    if not isinstance(node.op, Pool2d) or node.op.function != "average" or node.op.padding != (0, 0, 0, 0):
        return False
    sizes = graph.shapes[node.inputs[0]][2:]
    return all(always(equal(size, window)) for size, window in zip(sizes, node.op.kernel, strict=True))


def _before(graph: Graph, node: Node) -> tuple[Node, ...]:
    """The 1x1 convolution before a node, and the normalisation and activation between, each read by the next alone."""
    found: list[Node] = []
    key = node.inputs[0]
    while key in graph.by_key and key not in graph.outputs and len(graph.consumers[key]) == 1:
        item = graph.by_key[key]
        if item.origin is not None or isinstance(item.op, Softmax) or not _of_one_pixel(item, True):
            return ()
        found.insert(0, item)
        if isinstance(item.op, Conv2d):
            return tuple(found)
        key = item.inputs[0]
    return ()


def _with_moved(graph: Graph, node: Node) -> list[Node]:
    """A resize, and the one that may take its place further behind."""
    moved = [item for item in graph.nodes if item.origin is not None and item.origin.recipe == "behind"]
    return [node, *(item for item in moved if item.origin is not None and item.origin.sources[0] == node.key)]


def _doublings(graph: Graph, node: Node) -> int:
    """How many doublings enlarge an image as a resize does, 0 where none do."""
    before, after = graph.shapes[node.inputs[0]][2:], graph.shapes[node.key][2:]
    for count in (1, 2, 3):
        if all(always(equal(old * 2**count, new)) for old, new in zip(before, after, strict=True)):
            return count
    return 0


def _grows(graph: Graph, node: Node) -> bool:
    pairs = zip(graph.shapes[node.inputs[0]][2:], graph.shapes[node.key][2:], strict=True)
    return all(always(new > old) for old, new in pairs)  # type: ignore[operator]


def _half(op: object) -> Resize | None:
    """A resize that enlarges half as much."""
    assert isinstance(op, Resize)
    if op.scale is not None:
        smaller = tuple(factor / 2 for factor in op.scale)
        return replace(op, scale=smaller) if min(smaller) >= 1 else None
    assert op.size is not None
    even = all(isinstance(size, int) and size % 2 == 0 for size in op.size)
    return replace(op, size=tuple(size // 2 for size in op.size)) if even else None


def _pixelwise(graph: Graph, node: Node) -> tuple[Node, ...]:
    """What works on single pixels right behind a resize, each read by the next alone, and gives the same before it."""
    assert isinstance(node.op, Resize)
    found: list[Node] = []
    key = node.key
    while key not in graph.outputs and len(readers := graph.consumers[key]) == 1:
        if readers[0].origin is not None or not _of_one_pixel(readers[0], node.op.mode == "nearest"):
            break
        found.append(readers[0])
        key = readers[0].key
    return tuple(found)


def _ends(graph: Graph, node: Node) -> bool:
    """Whether nothing but functions of single pixels stands between a node and an output."""
    key = node.key
    while key not in graph.outputs:
        readers = graph.consumers[key]
        if len(readers) != 1 or not (isinstance(readers[0].op, Select) or _of_one_pixel(readers[0], True)):
            return False
        key = readers[0].key
    return True


def _of_one_pixel(node: Node, any_function: bool) -> bool:
    match node.op:
        case Conv2d() as op:
            return (op.kernel, op.stride, op.padding) == ((1, 1), (1, 1), (0, 0, 0, 0))
        case BatchNorm():
            return True
        case Activation():
            return any_function
        case Softmax(axis=axis):
            return any_function and axis in (1, -3)
        case _:
            return False

"""Edits of single operators: cheaper activations, large windows as several small ones, strides that come earlier.

Each is a function from a graph to the same graph with more decisions open; option 0 is the network as given. Sites are
nodes of the network that was given, and decisions are named after them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph, Node, Origin
from chipfit.graph.ops import ACTIVATIONS, Activation, BatchNorm, Conv2d, Elementwise
from chipfit.graph.rewrite import add_alternative, unique_key, with_decision, with_ops
from chipfit.graph.values import Choice, Decision, Value, always, bind, choose, equal, where
from chipfit.spaces.structure import tail

CHEAPER: Mapping[str, str] = {
    "hard_swish": "relu6",
    "silu": "relu",
    "gelu": "relu",
    "gelu_tanh": "relu",
    "leaky_relu": "relu",
    "prelu": "relu",
}
"""Activations and the clamp that takes their place: what an accumulator's output stage does for nothing."""

GATES: Mapping[str, str] = {"sigmoid": "hard_sigmoid", "hard_sigmoid": "sigmoid"}
"""Gates and the other function from 0 to 1. A table or a few steps: which is cheaper depends on the chip."""

MANY_CHANNELS = 64
"""Channels read and given from which on a 3x3 window is worth two convolutions."""


def open_activations(graph: Graph, cheaper: Mapping[str, str] | None = None) -> Graph:
    """Opens "<activation>.activation" (as given, another) for every activation that has a cheaper one.

    `cheaper` names the replacement of each function, None for `CHEAPER` and, where all that read a gate multiply by it,
    `GATES`; a sigmoid only becomes a hard sigmoid in a network that has one already. Copies of an activation that other
    edits made follow its decision. Raises `InvalidInput` for functions that are none, for "prelu" as a replacement
    (its slopes would have to be learned) and where nothing can be opened.
    """
    wrong = [name for pair in (cheaper or {}).items() for name in pair if name not in ACTIVATIONS]
    if wrong or (cheaper and "prelu" in cheaper.values()):
        raise InvalidInput(
            f"{(wrong or ['prelu'])[0]!r} cannot take part in a replacement of activations; "
            f"replacements are {', '.join(name for name in ACTIVATIONS if name != 'prelu')}"
        )
    found = {node.key: _replacement(graph, node, cheaper) for node in graph.nodes if node.origin is None}
    sites = {key: function for key, function in found.items() if function is not None}
    if not sites:
        looked_for = ", ".join(CHEAPER if cheaper is None else cheaper) or "none"
        raise InvalidInput(f"no activation found that a cheaper one could replace ({looked_for}); leave this edit out")
    for site, function in sites.items():
        given = graph.by_key[site].op
        assert isinstance(given, Activation)
        decision = Decision(f"{site}.activation", (given.function, function))
        graph, index = with_decision(graph, decision), choose(decision, (0, 1))
        copies = [n for n in graph.nodes if _copies(n.origin, site) and n.op == given]
        for node in (graph.by_key[site], *copies):
            key = unique_key(graph, f"{node.key}.{function}")
            other = Node(key, Activation(function), node.inputs, Origin("copy", (site,)))
            graph = add_alternative(graph, node.key, key, index, f"{node.key}.function", [other])
    return graph


def _copies(origin: Origin | None, site: str) -> bool:
    return origin is not None and origin.recipe in ("copy", "before") and origin.sources[-1] == site


def _replacement(graph: Graph, node: Node, cheaper: Mapping[str, str] | None) -> str | None:
    if not isinstance(node.op, Activation):
        return None
    function = node.op.function
    if cheaper is not None or function not in GATES:
        other = (CHEAPER if cheaper is None else cheaper).get(function)
        return other if other != function else None
    readers = graph.consumers[node.key]
    scales = all(isinstance(reader.op, Elementwise) and reader.op.function == "mul" for reader in readers)
    known = function == "hard_sigmoid" or any(item.op == Activation("hard_sigmoid") for item in graph.nodes)
    return GATES[function] if readers and scales and known and node.key not in graph.outputs else None


def factorise_kernels(graph: Graph, channels: int = MANY_CHANNELS) -> Graph:
    """Opens "<convolution>.factor" (whole, two, three) for full convolutions with a square window of at least 3.

    "two" is a column (k x 1) and then a row (1 x k) with the convolution's width between (Jaderberg et al. 2014, scheme
    2); "three", for 5x5 and 7x7, a chain of 3x3 convolutions that sees as much, with the normalisation and activation
    behind the convolution between them too (Szegedy et al. 2016, section 3.1). A form is an option where it takes fewer
    MACs in the network as given; windows of 3 and 4 only where at least `channels` are read and given. Raises
    `InvalidInput` where nothing can be opened.
    """
    opened = False
    for key in graph.by_key:
        node = graph.by_key[key]
        forms = _forms(graph, node, channels)
        if not forms:
            continue
        decision = Decision(f"{key}.factor", ("whole", *forms))
        graph, end, opened = with_decision(graph, decision), key, True
        for position, branch in enumerate(forms.values(), start=1):
            index = choose(decision, tuple(int(option == position) for option in range(len(decision))))
            select = unique_key(graph, f"{key}.window")
            graph = add_alternative(graph, end, branch[-1].key, index, select, branch)
            end = select
    if not opened:
        raise InvalidInput(
            "no convolution found that smaller windows would make cheaper: it takes a full one with a square window of "
            f"at least 5, or of 3 with at least {channels} channels in and out; leave this edit out"
        )
    return graph


def _forms(graph: Graph, node: Node, channels: int) -> dict[str, list[Node]]:
    """The forms in which a convolution takes fewer multiply-accumulates, by name: new nodes in execution order."""
    op = node.op
    if not isinstance(op, Conv2d) or node.origin is not None or not always(equal(op.groups, 1)):
        return {}
    size, width = op.kernel[0], graph.input_shapes(node)[0][1]
    narrow = min(_as_given(width), _as_given(op.out)) < channels
    if not always(equal(*op.kernel)) or _as_given(size) < (5 if narrow else 3):
        return {}
    forms = {"two": _column_and_row(graph, node, op)}
    if size in (5, 7) and op.dilation == (1, 1):
        forms["three"] = _chain(graph, node, op, int(size) // 2)  # type: ignore[arg-type]
    return {name: branch for name, branch in forms.items() if _saves(graph, node, branch)}


def _column_and_row(graph: Graph, node: Node, op: Conv2d) -> list[Node]:
    top, left, bottom, right = op.padding
    size, (down, across), (rows, columns) = op.kernel[0], op.stride, op.dilation
    column = Conv2d(op.out, (size, 1), (down, 1), (top, 0, bottom, 0), (rows, 1), bias=False)
    row = Conv2d(op.out, (1, size), (1, across), (0, left, 0, right), (1, columns), bias=op.bias)
    first, second = unique_key(graph, f"{node.key}.column"), unique_key(graph, f"{node.key}.row")
    return [
        Node(first, column, node.inputs, Origin("column", (node.key,))),
        Node(second, row, (first,), Origin("row", (node.key,))),
    ]


def _chain(graph: Graph, node: Node, op: Conv2d, count: int) -> list[Node]:
    """`count` 3x3 convolutions in a row; what the padding leaves over and the stride are the last one's."""
    shares: list[Value] = [pad // count for pad in op.padding]
    rest = [pad - share * (count - 1) for pad, share in zip(op.padding, shares, strict=True)]
    behind = tail(graph, node)
    new = Origin("new", ())
    branch: list[Node] = []
    for position in range(1, count + 1):
        key = unique_key(graph, f"{node.key}.three.{position}")
        last = position == count
        top, left, bottom, right = rest if last else shares
        link = replace(op, kernel=(3, 3), padding=(top, left, bottom, right), stride=op.stride if last else (1, 1))
        branch.append(Node(key, link, (branch[-1].key,) if branch else node.inputs, new))
        for other in () if last else behind:
            normalised = isinstance(other.op, BatchNorm)
            copy = unique_key(graph, f"{key}.{'bn' if normalised else 'act'}")
            # Statistics of other features are no start for these; an activation has the same meaning here.
            origin = new if normalised else Origin("copy", (other.key,))
            branch.append(Node(copy, other.op, (branch[-1].key,), origin))
    return branch


def _saves(graph: Graph, node: Node, branch: Sequence[Node]) -> bool:
    shape = graph.input_shapes(node)[0]
    total: Value = 0
    for other in branch:
        total = total + other.op.macs([shape])
        shape = other.op.shape([shape])
    return _as_given(total) < _as_given(graph.macs(node))


def _as_given(value: Value) -> float:
    """The number that a value is in the network as given."""
    plain = bind(value, dict.fromkeys(value.decisions, 0)) if isinstance(value, Choice) else value
    assert not isinstance(plain, Choice)
    return plain


def stride_earlier(graph: Graph) -> Graph:
    """Opens "<convolution>.earlier" (as given, earlier): a stride of 2 moves to the nearest convolution before.

    What lies between, and the earlier convolution itself, then work on a quarter of the pixels (a half where only one
    axis has the stride); all behind keeps its size. Only normalisation and activation may stand between the two, which
    nothing else may read, and the earlier one must keep the size of its input. Standard convolutions that may take the
    place of the one with the stride follow its decision. Raises `InvalidInput` where there is no such pair.
    """
    opened = False
    for node in graph.nodes:
        if not _strides(node):
            continue
        together = [node, *(n for n in graph.nodes if n.origin == Origin("dense", (node.key,)))]
        earlier = _before(graph, node, {item.key for item in together})
        if earlier is None:
            continue
        decision = Decision(f"{node.key}.earlier", ("as given", "earlier"))
        moved = choose(decision, (False, True))
        ops = {item.key: _without_stride(item.op, moved) for item in together if isinstance(item.op, Conv2d)}
        first = earlier.op
        assert isinstance(first, Conv2d)
        assert isinstance(node.op, Conv2d)
        down, across = (where(moved, step, 1) for step in node.op.stride)
        ops[earlier.key] = replace(first, stride=(down, across))
        changed = with_ops(with_decision(graph, decision), ops)
        if _same_sizes(graph, changed, [item.key for item in together]):
            graph, opened = changed, True
    if not opened:
        raise InvalidInput(
            "no stride of 2 found that could come earlier: it takes a convolution of stride 1 before, with only "
            "normalisation and activation between that nothing else reads; leave this edit out"
        )
    return graph


def _strides(node: Node) -> bool:
    if not isinstance(node.op, Conv2d) or node.origin is not None:
        return False
    return node.op.stride in ((2, 2), (2, 1), (1, 2))


def _before(graph: Graph, node: Node, readers: set[str]) -> Node | None:
    """The nearest convolution on a straight way back from `readers`, where it has stride 1 and keeps its size."""
    key = node.inputs[0]
    while key not in graph.outputs and {reader.key for reader in graph.consumers[key]} == readers:
        behind = graph.by_key.get(key)
        if behind is None or not isinstance(behind.op, (BatchNorm, Activation)):
            return behind if behind is not None and _keeps_size(graph, behind) else None
        key, readers = behind.inputs[0], {behind.key}
    return None


def _keeps_size(graph: Graph, node: Node) -> bool:
    if not isinstance(node.op, Conv2d) or node.op.stride != (1, 1):
        return False
    sizes = zip(graph.input_shapes(node)[0][2:], graph.shapes[node.key][2:], strict=True)
    return all(always(equal(before, after)) for before, after in sizes)


def _without_stride(op: Conv2d, moved: Value) -> Conv2d:
    """The convolution where its stride has moved away: padded to the size of its input along these axes."""
    padding = list(op.padding)
    for axis, step in enumerate(op.stride):
        total = op.dilation[axis] * (op.kernel[axis] - 1)
        enough = equal(padding[axis] + padding[axis + 2], total)
        if always(equal(step, 1)) or always(enough):
            continue
        for side, pad in ((axis, total // 2), (axis + 2, total - total // 2)):
            padding[side] = where(moved, pad, padding[side])
    down, across = (where(moved, 1, step) for step in op.stride)
    top, left, bottom, right = padding
    return replace(op, stride=(down, across), padding=(top, left, bottom, right))


def _same_sizes(graph: Graph, changed: Graph, keys: Sequence[str]) -> bool:
    return all(
        always(equal(before, after))
        for key in keys
        for before, after in zip(graph.shapes[key], changed.shapes[key], strict=True)
    )

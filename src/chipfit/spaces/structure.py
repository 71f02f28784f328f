"""Edits of structure: functions from a graph to the same graph with more decisions open.

They look at structure, never at names, so that imported networks are edited like those of the builder; decisions are
named after the nodes that they concern. Option 0 of each is the network as given.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from chipfit.errors import InvalidInput
from chipfit.graph.channels import is_depthwise
from chipfit.graph.graph import Graph, Node, Origin
from chipfit.graph.ops import Activation, BatchNorm, Conv2d, Elementwise, Op, Select
from chipfit.graph.rewrite import add_alternative, unique_key, with_decision, with_ops
from chipfit.graph.values import Choice, Decision, Value, always, bounds, choose, equal, where


@dataclass(frozen=True, slots=True)
class Pair:
    """A depthwise convolution and the 1x1 convolution before or behind it, what stands between the two, and the batch
    normalisation and activation behind both."""

    first: Node
    between: tuple[Node, ...]
    second: Node
    tail: tuple[Node, ...]


def inverted_bottlenecks(graph: Graph) -> dict[str, Pair]:
    """By block name, every 1x1 convolution (+ batch normalisation) (+ activation) that only a depthwise one reads."""
    found: dict[str, Pair] = {}
    for node in _depthwise(graph):
        between: list[Node] = []
        behind = graph.by_key.get(node.inputs[0])
        for kind in (Activation, BatchNorm):
            if behind is not None and isinstance(behind.op, kind):
                between.insert(0, behind)
                behind = graph.by_key.get(behind.inputs[0])
        if behind is None or not _is_pointwise(behind.op):
            continue
        chain = (behind, *between, node)
        if all(_only_reader(graph, a.key) == b.key for a, b in pairwise(chain)):
            found[node.key] = Pair(behind, tuple(between), node, tail(graph, node))
    return _named(found)


def depthwise_separables(graph: Graph) -> dict[str, Pair]:
    """By block name, every depthwise convolution (+ batch normalisation) (+ activation) that only a 1x1 one reads.

    Those behind an expansion are left out: a 1x1 convolution that only they read and that does not narrow its input.
    Options 0 of a space are looked at.
    """
    given = graph.close((0,) * len(graph.decisions))
    expansions = {item.second.key: item.first for item in inverted_bottlenecks(given).values()}
    found: dict[str, Pair] = {}
    for node in _depthwise(given):
        between = tail(given, node)
        reader = _only_reader(given, (node, *between)[-1].key)
        if reader is None or not _is_pointwise(given.by_key[reader].op):
            continue
        pointwise = given.by_key[reader]
        if node.key not in expansions or _narrows(given, expansions[node.key]):
            found[node.key] = Pair(node, between, pointwise, tail(given, pointwise))
    return _named(found)


def _named(found: Mapping[str, Pair]) -> dict[str, Pair]:
    """Pairs by what their two keys have in common; by the key of the depthwise convolution, as here, where nothing."""
    names = _unique([[_prefix([pair.first.key, pair.second.key]), key] for key, pair in found.items()])
    return dict(zip(names, found.values(), strict=True))


def fuse_inverted_bottlenecks(graph: Graph, blocks: Sequence[str] | None = None) -> Graph:
    """Opens "<block>.fuse" (separate, fused): expansion and depthwise convolution as one full convolution.

    The full convolution has the depthwise one's window and width, and copies of the normalisation and activation behind
    it (Gupta and Tan 2019). `blocks` are the names of the blocks to open, None for all. Raises `InvalidInput` where
    there is none, or none of that name.
    """
    found = inverted_bottlenecks(graph)
    if not found:
        raise InvalidInput(
            "no inverted bottleneck found: fusing needs a 1x1 convolution (+ batch normalisation) (+ activation) that "
            "only a depthwise convolution reads; leave this edit out"
        )
    for name in _chosen("inverted bottleneck", blocks, found):
        decision = Decision(f"{name}.fuse", ("separate", "fused"))
        graph = _with_composed(with_decision(graph, decision), f"{name}.fuse", found[name], choose(decision, (0, 1)))
    return graph


def merge_depthwise_separable(graph: Graph, blocks: Sequence[str] | None = None) -> Graph:
    """Opens "<block>.merge" (separate, merged): a depthwise convolution and the 1x1 one behind it as one full one.

    The full convolution has the depthwise one's window, stride and padding and the 1x1 one's width, and copies of the
    normalisation and activation behind that (the block of expansion 1 of EfficientNetV2, Tan and Le 2021). Behind an
    expansion, a 1x1 convolution that does not narrow its input, `fuse_inverted_bottlenecks` is the option; so of a
    chain like MobileNetV1's only the first block is open, and the tables of its costs stay small. Where a fusion that
    is open already needs one of the two convolutions as well, it holds: the merge makes no difference while it is
    taken. `blocks` are the names of the blocks to open, None for all. Raises `InvalidInput` where there is none, or
    none of that name.
    """
    found = depthwise_separables(graph)
    if not found:
        raise InvalidInput(
            "no depthwise separable convolution found: merging needs a depthwise convolution (+ batch normalisation) "
            "(+ activation) that only a 1x1 convolution reads, outside inverted bottlenecks; leave this edit out"
        )
    for name in _chosen("depthwise separable convolution", blocks, found):
        decision = Decision(f"{name}.merge", ("separate", "merged"))
        pair = found[name]
        index = choose(decision, (0, 1))
        for other in _fusions(graph, {pair.first.key, pair.second.key}):
            index = where(equal(other, 0), index, 0)
        graph = _with_composed(with_decision(graph, decision), f"{name}.merge", pair, index)
    return graph


def _fusions(graph: Graph, keys: set[str]) -> list[Value]:
    """The choices (0 where not taken) of fusions that would replace one of these nodes."""
    found: list[Value] = []
    for node in graph.nodes:
        pair = composed(graph, node)
        if isinstance(node.op, Select) and pair and pair.recipe == "compose" and not keys.isdisjoint(pair.sources):
            found.append(node.op.index)
    return found


def composed(graph: Graph, choice: Node) -> Origin | None:
    """The pair in whose place one convolution stands in the branch of a choice between tensors, if so it is."""
    node = graph.by_key.get(choice.inputs[1]) if isinstance(choice.op, Select) else None
    while node is not None and node.origin is not None and node.origin.recipe == "copy":
        node = graph.by_key.get(node.inputs[0])
    origin = node.origin if node is not None else None
    return origin if origin is not None and origin.recipe in ("compose", "merge") else None


def _with_composed(graph: Graph, decision: str, pair: Pair, index: Value) -> Graph:
    """The graph with a full convolution that takes the place of a pair where `index` is 1."""
    # The two as they are now: strides, windows and the block before may have become choices as well.
    first, second = graph.by_key[pair.first.key], graph.by_key[pair.second.key]
    assert isinstance(first.op, Conv2d)
    assert isinstance(second.op, Conv2d)
    fuses = _is_pointwise(pair.first.op)
    recipe, word, window = ("compose", "fused", second.op) if fuses else ("merge", "merged", first.op)
    normalised = any(isinstance(node.op, BatchNorm) for node in pair.tail)
    # A constant that the first one adds moves into the normalisation behind, where there is one.
    bias = second.op.bias or (not normalised and (first.op.bias or bool(pair.between)))
    key = unique_key(graph, f"{decision.rpartition('.')[0]}.{word}")
    stride = first.op.stride[0] * second.op.stride[0], first.op.stride[1] * second.op.stride[1]
    op = replace(window, out=second.op.out, groups=1, bias=bias, stride=stride)
    branch = [Node(key, op, first.inputs, Origin(recipe, (first.key, second.key)))]
    for node in pair.tail:
        suffix = "bn" if isinstance(node.op, BatchNorm) else "act"
        copy = unique_key(graph, f"{key}.{suffix}")
        branch.append(Node(copy, node.op, (branch[-1].key,), Origin("copy", (node.key,))))
    return add_alternative(graph, (second, *pair.tail)[-1].key, branch[-1].key, index, decision, branch)


def standard_convolutions(graph: Graph) -> Graph:
    """Opens "<block>.depthwise" (depthwise, standard) for every depthwise convolution: a full one in its place.

    Raises `InvalidInput` where there is none.
    """
    found = [node for node in _depthwise(graph) if node.origin is None]
    if not found:
        raise InvalidInput("no depthwise convolution found that a standard one could replace; leave this edit out")
    for name, node in zip(_unique([[_prefix([node.key]), node.key] for node in found]), found, strict=True):
        decision = Decision(f"{name}.depthwise", ("depthwise", "standard"))
        graph = with_decision(graph, decision)
        assert isinstance(node.op, Conv2d)
        key = unique_key(graph, f"{node.key}.standard")
        inputs = graph.by_key[node.key].inputs
        standard = Node(key, replace(node.op, groups=1), inputs, Origin("dense", (node.key,)))
        index = choose(decision, (0, 1))
        graph = add_alternative(graph, node.key, key, index, f"{node.key}.form", [standard])
    return graph


def open_kernels(graph: Graph, sizes: Sequence[int] = (3, 5)) -> Graph:
    """Opens "<convolution>.kernel" for every convolution with a square window above 1; padding keeps output sizes.

    The size as given comes first. Sizes that differ from it by an odd number, or that would need negative padding, are
    no options. What edits put in the place of a convolution follows its decision. Raises `InvalidInput` where nothing
    can be opened.
    """
    sites: dict[str, list[Node]] = {}
    for node in graph.nodes:
        if isinstance(node.op, Conv2d) and always(equal(*node.op.kernel)) and not isinstance(node.op.kernel[0], Choice):
            origin = node.origin
            follows = origin is not None and origin.recipe in ("compose", "merge", "dense")
            site = origin.sources[0 if origin.recipe == "merge" else -1] if follows and origin is not None else node.key
            sites.setdefault(site, []).append(node)
    opened = False
    for site, nodes in sites.items():
        ops = {node.key: node.op for node in nodes if isinstance(node.op, Conv2d)}
        given = int(next(iter(ops.values())).kernel[0])  # type: ignore[arg-type]
        others = [size for size in dict.fromkeys(sizes) if all(_fits(op, size) for op in ops.values())]
        if given < 2 or not others:
            continue
        decision = Decision(f"{site}.kernel", (given, *others))
        kernel = choose(decision, (given, *others))
        graph = with_ops(with_decision(graph, decision), {key: _with_kernel(op, kernel) for key, op in ops.items()})
        opened = True
    if not opened:
        raise InvalidInput(f"no convolution can take another kernel size out of {list(sizes)}; give other sizes")
    return graph


def _fits(op: Conv2d, size: int) -> bool:
    growth = size - op.kernel[0]
    if growth == 0 or growth % 2 or size < 1:
        return False
    return all(bounds(pad)[0] >= 0 for pad in _with_kernel(op, size).padding)


def _with_kernel(op: Conv2d, size: Value) -> Conv2d:
    top, left, bottom, right = op.padding
    rows, columns = (step * (size - op.kernel[0]) // 2 for step in op.dilation)
    return replace(op, kernel=(size, size), padding=(top + rows, left + columns, bottom + rows, right + columns))


@dataclass(frozen=True, slots=True)
class _Block:
    """A residual block: the tensor that it reads and the node that gives its result."""

    start: str
    end: str


def open_repeats(graph: Graph, least: int = 0) -> Graph:
    """Opens "<stage>.repeats" for every run of residual blocks: n, n - 1, … `least` of them, the last dropped first.

    A residual block adds what it computes from one tensor to that tensor, which must have the same shape; blocks that
    change the shape are not counted and never dropped. Raises `InvalidInput` where there is no run longer than `least`.
    """
    stages = [stage for stage in _stages(graph) if len(stage) > max(least, 0)]
    if least < 0 or not stages:
        raise InvalidInput(
            f"no run of more than {least} residual blocks (an addition of a tensor and what is computed from it alone, "
            "of equal shape) found that could be shortened; leave this edit out"
        )
    prefixes = [[_prefix([block.end for block in stage]), _prefix([stage[0].end]), stage[0].end] for stage in stages]
    for name, stage in zip(_unique(prefixes), stages, strict=True):
        count = len(stage)
        decision = Decision(f"{name}.repeats", tuple(range(count, least - 1, -1)))
        graph = with_decision(graph, decision)
        start = stage[0].start
        for position, block in enumerate(stage):
            if position >= least:
                index = choose(decision, tuple(int(position >= kept) for kept in decision.options))  # type: ignore[operator]
                key = unique_key(graph, f"{block.end}.skip")
                graph = add_alternative(graph, block.end, start, index, key)
                start = key
            else:
                start = block.end
    return graph


def _stages(graph: Graph) -> list[list[_Block]]:
    """Residual blocks in runs: each reads what the one before it gives."""
    blocks: dict[str, _Block] = {}
    for block in _residual_blocks(graph):
        blocks.setdefault(block.start, block)
    ends = {block.end for block in blocks.values()}
    stages: list[list[_Block]] = []
    for block in blocks.values():
        if block.start not in ends:
            stages.append([block])
            while (last := stages[-1][-1]).end in blocks:
                stages[-1].append(blocks[last.end])
    return stages


def _residual_blocks(graph: Graph) -> Iterator[_Block]:
    order = {key: position for position, key in enumerate(graph.shapes)}
    for node in graph.nodes:
        if not isinstance(node.op, Elementwise) or node.op.function != "add":
            continue
        a, b = graph.input_shapes(node)
        if len(a) != len(b) or not all(always(equal(p, q)) for p, q in zip(a, b, strict=True)):
            continue
        for start, computed in (node.inputs, node.inputs[::-1]):
            if start != computed and _depends_only(graph, computed, start, order):
                yield _Block(start, _end(graph, node, start))
                break


def _depends_only(graph: Graph, key: str, start: str, order: Mapping[str, int]) -> bool:
    """Whether the tensor `key` is computed from the tensor `start` and constants alone."""
    pending, seen, reached = [key], {key}, False
    while pending:
        name = pending.pop()
        node = graph.by_key.get(name)
        if name == start:
            reached = True
        elif node is None or (node.inputs and order[name] < order[start]):
            return False
        else:
            pending.extend(other for other in node.inputs if other not in seen)
            seen.update(node.inputs)
    return reached


def _end(graph: Graph, add: Node, start: str) -> str:
    """The addition, or the activation behind it where the block reads the result of the same activation."""
    behind = _only_reader(graph, add.key)
    before = graph.by_key.get(start)
    while before is not None and isinstance(before.op, Select):
        before = graph.by_key.get(before.inputs[0])
    if behind is None or before is None or not isinstance(graph.by_key[behind].op, Activation):
        return add.key
    return behind if graph.by_key[behind].op == before.op else add.key


def _depthwise(graph: Graph) -> list[Node]:
    """Depthwise convolutions with one filter per channel."""
    return [
        node
        for node in graph.nodes
        if isinstance(node.op, Conv2d)
        and is_depthwise(node.op, graph.input_shapes(node)[0][1])
        and always(equal(node.op.out, node.op.groups))
    ]


def _is_pointwise(op: Op) -> bool:
    if not isinstance(op, Conv2d) or not always(equal(op.groups, 1)):
        return False
    return (op.kernel, op.stride, op.padding) == ((1, 1), (1, 1), (0, 0, 0, 0))


def _narrows(graph: Graph, node: Node) -> bool:
    return always(graph.shapes[node.key][1] < graph.input_shapes(node)[0][1])


def _only_reader(graph: Graph, key: str) -> str | None:
    """The one node that reads a tensor, those apart that edits added; None where there are more, or it is an output."""
    readers = [node.key for node in graph.consumers[key] if node.origin is None]
    return readers[0] if len(readers) == 1 and key not in graph.outputs else None


def tail(graph: Graph, node: Node) -> tuple[Node, ...]:
    """The batch normalisation and the activation behind a node, where nothing else reads what is between."""
    found: list[Node] = []
    for kind in (BatchNorm, Activation):
        key = _only_reader(graph, (node, *found)[-1].key)
        if key is not None and isinstance(graph.by_key[key].op, kind):
            found.append(graph.by_key[key])
    return tuple(found)


def _chosen(what: str, names: Sequence[str] | None, known: Collection[str]) -> Sequence[str]:
    if unknown := [name for name in names or () if name not in known]:
        raise InvalidInput(f"there is no {what} {unknown[0]!r}; the graph has {', '.join(known)}")
    return list(known) if names is None else names


def _prefix(keys: Sequence[str]) -> str:
    """What keys have in common in front, in whole parts between dots or slashes; of one key, all but its last part."""
    parts = [re.split(r"([./])", key) for key in keys]
    count = 0
    while all(len(part) > count + 2 and part[: count + 1] == parts[0][: count + 1] for part in parts):
        count += 2
    return "".join(parts[0][: max(count - 1, 0)])


def _unique(candidates: Sequence[Sequence[str]]) -> list[str]:
    """One name for each list of candidates: the first that is no candidate of another; the last is always free."""
    counts = Counter(name for names in candidates for name in dict.fromkeys(names))
    return [next((name for name in names if name and counts[name] == 1), names[-1]) for names in candidates]

"""Channel groups: what shares a width, what cannot change and why, and that widths can then really be changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipfit.errors import InvalidInput
from chipfit.graph.build import Builder, conv_bn_act, inverted_bottleneck
from chipfit.graph.channels import channel_groups, channels, with_widths
from chipfit.graph.graph import Graph, Node
from chipfit.graph.ops import Concat, Opaque, Reshape, Select, Slice, Transpose
from chipfit.graph.values import Choice, Decision, choose


def mixed() -> Graph:
    """Residuals, concatenation, a gate, a depthwise convolution over a concatenation, tokens, and two flattenings."""
    b = Builder()
    x = b.input("image", (1, 3, 8, 8))
    x = conv_bn_act(b, x, 8, key="stem")
    x = inverted_bottleneck(b, x, 8, expansion=3, key="block")
    gate = b.reshape(b.global_pool(x, key="squeeze"), (8,), key="flat")
    gate = b.linear(b.activation(b.linear(gate, 4, key="reduce"), "relu", key="reduce.act"), 8, key="restore")
    x = b.elementwise(x, b.reshape(gate, (8, 1, 1), key="unflat"), "mul", key="gated")
    x = b.concat([x, b.conv(x, 6, key="branch")], key="cat")
    x = b.depthwise(x, key="over_both")
    tokens = b.add(Transpose((0, 2, 1)), b.reshape(x, (14, -1), key="rows"), key="tokens")
    hidden = b.linear(b.activation(b.linear(tokens, 20, key="up"), "gelu", key="up.act"), 5, key="down")
    out = b.linear(b.reshape(x, (14 * 64,), key="all"), 10, key="logits")
    return b.graph((out, b.activation(hidden, "relu", key="rows_out")))


def groups_of(graph: Graph) -> dict[str, tuple[tuple[str, ...], str | None]]:
    return {group.name: (group.producers, group.fixed) for group in channel_groups(graph)}


def test_groups_of_a_mixed_network() -> None:
    found = groups_of(mixed())
    assert {name: producers for name, (producers, _) in found.items()} == {
        "stem": ("stem", "block.project", "restore"),
        "block.expand": ("block.expand",),
        "reduce": ("reduce",),
        "branch": ("branch",),
        "up": ("up",),
        "down": ("down",),
        "logits": ("logits",),
    }
    assert {name for name, (_, fixed) in found.items() if fixed} == {"down", "logits"}
    assert found["down"][1] == "'rows_out' is an output of the network"


@given(st.data())
def test_free_widths_change_and_all_shapes_follow(data: st.DataObject) -> None:
    graph = mixed()
    free = [group.name for group in channel_groups(graph) if group.fixed is None]
    widths = {name: data.draw(st.integers(2, 40), label=name) for name in free}
    changed = with_widths(graph, widths)
    found = channels(changed)
    assert {group.name: group.width for group in found.groups if group.name in widths} == widths
    for key, axes in found.axes.items():
        for axis, size in zip(axes, changed.shapes[key], strict=True):
            if axis is not None:
                assert size == sum(found.groups[part.group].width * part.repeat for part in axis)
    assert [changed.shapes[key] for key in changed.outputs] == [graph.shapes[key] for key in graph.outputs]
    assert with_widths(changed, {group.name: group.width for group in channel_groups(graph)}) == graph


def test_open_widths_keep_the_groups() -> None:
    graph = mixed()
    decision = Decision("w", (8, 5))
    opened = Graph(graph.inputs, graph.nodes, graph.outputs, (decision,))
    opened = with_widths(opened, {"stem": choose(decision, (8, 5))})
    assert groups_of(opened) == groups_of(graph)
    assert isinstance(opened.shapes["block.depthwise"][1], int)
    assert opened.close([0]) == graph
    assert opened.close([1]).shapes["over_both"] == (1, 11, 8, 8)
    assert isinstance(opened.shapes["over_both"][1], Choice)


def test_a_select_joins_what_it_chooses_from() -> None:
    b = Builder()
    x = b.input("image", (1, 3, 4, 4))
    b.conv(x, 8, kernel=3, key="a")
    graph = b.graph(b.conv(b.conv(x, 8, kernel=5, key="b"), 2, key="out"))
    decision = Decision("which", ("a", "b"))
    pick = Node("pick", Select(choose(decision, (0, 1))), ("a", "b"))
    out = Node("out", graph.by_key["out"].op, ("pick",))
    graph = Graph(graph.inputs, (*graph.nodes[:2], pick, out), ("out",), (decision,))
    assert groups_of(graph)["a"] == (("a", "b"), None)
    assert set(channel_groups(graph)[0].members) == {"a", "b", "pick"}


def fixed_reason(kind: str) -> str | None:
    b = Builder()
    image = b.input("image", (1, 3, 4, 4))
    x = b.conv(image, 8, key="conv")
    match kind:
        case "grouped":
            x = b.conv(x, 8, groups=2, key="culprit")
        case "slice":
            x = b.add(Slice(1, 0, 4), x, key="culprit")
        case "opaque":
            x = b.add(Opaque("Odd", (1, 8, 4, 4)), x, key="culprit")
        case "reshape":
            x = b.add(Reshape((4, 2, 4, 4)), x, key="culprit")
            x = b.add(Reshape((8, 4, 4)), x, key="back")
        case "constant":
            x = b.elementwise(x, b.constant((1, 8, 1, 1), key="offset"), "add", key="culprit")
        case "input":
            x = b.elementwise(b.conv(image, 3, key="three"), image, "add", key="culprit")
        case "spread":
            x = b.elementwise(x, b.conv(x, 1, key="one"), "mul", key="culprit")
        case "unlike":
            pair = b.concat([b.conv(x, 3, key="p"), b.conv(x, 5, key="q")], key="pair")
            x = b.elementwise(pair, x, "add", key="culprit")
    b.conv(x, 4, key="last")
    found = groups_of(b.graph("last"))
    return {"input": found.get("three"), "spread": found.get("one")}.get(kind, found["conv"])[1]  # type: ignore[index]


@pytest.mark.parametrize("kind", ["grouped", "slice", "opaque", "reshape", "constant", "input", "spread", "unlike"])
def test_what_fixes_a_width_is_named(kind: str) -> None:
    reason = fixed_reason(kind)
    assert reason is not None
    assert "'culprit'" in reason


def test_nothing_fixes_the_width_of_a_plain_network() -> None:
    assert fixed_reason("nothing") is None


def test_an_input_beside_features_stays_as_it_is() -> None:
    b = Builder()
    image = b.input("image", (1, 3, 4, 4))
    x = b.add(Concat(1), image, b.conv(image, 8, key="conv"), key="cat")
    graph = b.graph(b.conv(x, 2, key="out"))
    assert groups_of(graph)["conv"] == (("conv",), None)
    assert with_widths(graph, {"conv": 5}).shapes["cat"] == (1, 8, 4, 4)


def test_too_many_widths_in_one_tensor_are_refused_in_words() -> None:
    b = Builder()
    image = b.input("image", (1, 3, 4, 4))
    decisions = tuple(Decision(f"w{i:02}", (4, 5, 6, 7)) for i in range(12))
    parts = [b.conv(image, 4, key=f"c{i}") for i in range(12)]
    graph = b.graph(b.concat(parts, key="cat"))
    graph = Graph(graph.inputs, graph.nodes, graph.outputs, decisions)
    widths = {part: choose(decision, (4, 5, 6, 7)) for part, decision in zip(parts, decisions, strict=True)}
    graph = with_widths(graph, widths)
    with pytest.raises(InvalidInput, match="too many open widths"):
        channel_groups(graph)

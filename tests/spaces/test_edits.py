"""Edits: the zero code is the network as given, every code is a network that runs, and what cannot be done is said."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.spaces.networks import NETWORKS, bottlenecks, imported, random_code, residuals, separables

from chipfit.errors import InvalidInput
from chipfit.graph.build import Builder, conv_bn_act
from chipfit.graph.canonical import canonical
from chipfit.graph.graph import Graph, Origin
from chipfit.graph.ops import Conv2d, GlobalPool, Op, Pool2d, Reshape, Resize
from chipfit.graph.totals import count_macs, count_parameters, macs, parameters
from chipfit.nets.load import load
from chipfit.nets.module import GraphModule
from chipfit.nets.network import initialise
from chipfit.spaces.edits import (
    SPACE_EDITS,
    factorise_kernels,
    fuse_inverted_bottlenecks,
    inverted_bottlenecks,
    merge_depthwise_separable,
    open_depth_multiplier,
    open_input_size,
    open_kernels,
    open_repeats,
    open_space,
    open_widths,
    standard_convolutions,
)

EDITS: dict[str, Callable[[Graph], Graph]] = {
    **SPACE_EDITS,
    "width": lambda graph: open_widths(graph, (1.0, 0.5, 1.5), divisor=4),
    "depth_multiplier": lambda graph: open_depth_multiplier(graph, divisor=4),
    "input_size": lambda graph: open_input_size(graph, (24, 8)),
    "factor": lambda graph: factorise_kernels(graph, channels=16),
}
LAYOUT = ("layout", "later", "steps", "output")
COPIES = (*LAYOUT, "pool")
SUITS = {
    "bottlenecks": tuple(edit for edit in EDITS if edit not in ("activation", "factor", "merge", *COPIES)),
    "separables": tuple(edit for edit in EDITS if edit not in ("activation", "factor", *COPIES)),
    "residuals": ("kernel", "factor", "repeats", "width", "depth_multiplier", "input_size"),
    "imported": tuple(edit for edit in EDITS if edit not in ("earlier", "merge", "factor", *COPIES)),
    "segmenter": (*LAYOUT, "kernel", "activation", "width", "input_size"),
    "decoder": ("output", "fuse", "standard", "width", "depth_multiplier", "input_size"),
}
PAIRS = [(name, edit) for name, edits in SUITS.items() for edit in edits]


def options_of(graph: Graph) -> dict[str, tuple[int | float | str, ...]]:
    return {decision.name: decision.options for decision in graph.decisions}


def check_runs(graph: Graph) -> None:
    module = GraphModule(graph, initialise(graph, np.random.default_rng(0))).eval()
    with torch.no_grad():
        result = module(torch.zeros(2, *graph.inputs[0].shape[1:]))
    assert tuple(result.shape) == (2, *graph.shapes[graph.outputs[0]][1:])


@pytest.mark.parametrize(("name", "edit"), PAIRS)
def test_zero_code_is_the_network_as_given(name: str, edit: str) -> None:
    graph = NETWORKS[name]()
    opened = EDITS[edit](graph)
    assert len(opened.decisions) > 0
    assert opened.close((0,) * len(opened.decisions)) == graph


@given(name=st.sampled_from(sorted(NETWORKS)), data=st.data())
@settings(max_examples=25)
def test_edits_combine_in_any_order(name: str, data: st.DataObject) -> None:
    graph = NETWORKS[name]()
    edits = data.draw(st.lists(st.sampled_from(SUITS[name]), min_size=2, unique=True))
    opened = graph
    for edit in edits:
        opened = EDITS[edit](opened)
    assert opened.close((0,) * len(opened.decisions)) == graph
    seed = data.draw(st.integers(0, 1000))
    check_runs(opened.close(random_code(opened, np.random.default_rng(seed))))


@pytest.mark.parametrize("name", NETWORKS)
def test_random_codes_of_all_edits_run(name: str) -> None:
    opened = NETWORKS[name]()
    for edit in SUITS[name]:
        opened = EDITS[edit](opened)
    generator = np.random.default_rng(5)
    for _ in range(5):
        check_runs(opened.close(random_code(opened, generator)))


@pytest.mark.parametrize(("name", "edit"), PAIRS)
def test_every_option_of_every_decision_changes_something(name: str, edit: str) -> None:
    opened = EDITS[edit](NETWORKS[name]())
    zero = (0,) * len(opened.decisions)
    given_graph = opened.close(zero)
    for axis, decision in enumerate(opened.decisions):
        seen = {given_graph.digest}
        for option in range(1, len(decision)):
            seen.add(opened.close((*zero[:axis], option, *zero[axis + 1 :])).digest)
        assert len(seen) == len(decision)


def test_fusion_replaces_expansion_and_depthwise_by_one_full_convolution() -> None:
    opened = fuse_inverted_bottlenecks(bottlenecks(), ["stage2.block1"])
    assert options_of(opened) == {"stage2.block1.fuse": ("separate", "fused")}
    fused = opened.close([1])
    node = fused.by_key["stage2.block1.fused"]
    assert node.op == Conv2d(48, (5, 5), (2, 2), (2, 2, 2, 2), bias=False)
    assert node.inputs == ("stage1.block3.add",)
    assert node.origin == Origin("compose", ("stage2.block1.expand", "stage2.block1.depthwise"))
    assert fused.by_key["stage2.block1.fused.bn"].origin == Origin("copy", ("stage2.block1.depthwise.bn",))
    assert fused.by_key["stage2.block1.project"].inputs == ("stage2.block1.fused.act",)
    assert not {"stage2.block1.expand", "stage2.block1.depthwise"} & set(fused.by_key)


def test_blocks_right_behind_each_other_read_what_was_chosen_before() -> None:
    b = Builder()
    x = b.depthwise(b.input("x", (1, 8, 9, 9)), key="first")
    for index in range(3):
        x = b.depthwise(b.conv(x, 8, key=f"block{index}.expand"), key=f"block{index}.depthwise")
    graph = b.graph(b.depthwise(x, key="last"))
    fused = fuse_inverted_bottlenecks(graph).close([1, 1, 1])
    assert list(fused.by_key) == ["first", "block0.fused", "block1.fused", "block2.fused", "last"]
    standard = standard_convolutions(graph).close([1] * 5)
    assert [key for key in standard.by_key if key.endswith("depthwise")] == []
    assert standard.by_key["last.standard"].inputs == ("block2.depthwise.standard",)


def test_bottlenecks_of_an_imported_network_are_found_by_structure() -> None:
    found = inverted_bottlenecks(imported())
    assert [(item.first.key, item.second.key) for item in found.values()] == [
        ("/f/Conv_2", "/f/Conv_4"),
        ("/f/Conv_14", "/f/Conv_15"),
    ]
    assert list(found) == ["/f/Conv_4", "/f/Conv_15"]


def test_an_expansion_that_others_read_is_not_fused() -> None:
    b = Builder()
    wide = b.conv(b.input("x", (1, 4, 8, 8)), 8, key="wide")
    b.depthwise(wide, key="cheap")
    graph = b.graph(b.concat([wide, "cheap"], key="ghost"))
    with pytest.raises(InvalidInput, match="no inverted bottleneck found"):
        fuse_inverted_bottlenecks(graph)


def test_fused_and_standard_branches_follow_widths_and_kernels() -> None:
    graph = open_space(bottlenecks(), {"fuse": True, "standard": True, "kernel": [3, 5], "width": {"divisor": 4}})
    names = [decision.name for decision in graph.decisions]
    chosen = {"stage1.block2.fuse": 1, "stage1.block2.depthwise.kernel": 1, "stage1.block2.expand.width": 2}
    fused = graph.close([chosen.get(name, 0) for name in names]).by_key["stage1.block2.fused"].op
    assert fused == Conv2d(16, (5, 5), padding=(2, 2, 2, 2), bias=False)
    chosen = {"stage1.block2.depthwise": 1, "stage1.block2.depthwise.kernel": 1, "stage1.block2.expand.width": 2}
    standard = graph.close([chosen.get(name, 0) for name in names]).by_key["stage1.block2.depthwise.standard"].op
    assert standard == Conv2d(16, (5, 5), padding=(2, 2, 2, 2), bias=False)
    assert not any("fused" in name or "standard" in name for name in names)


def test_merging_replaces_depthwise_and_pointwise_by_one_full_convolution() -> None:
    opened = merge_depthwise_separable(separables(), ["block2"])
    assert options_of(opened) == {"block2.merge": ("separate", "merged")}
    merged = opened.close([1])
    node = merged.by_key["block2.merged"]
    assert node.op == Conv2d(12, (3, 3), (2, 2), (1, 1, 1, 1), bias=False)
    assert node.inputs == ("block1.pointwise.act",)
    assert node.origin == Origin("merge", ("block2.depthwise", "block2.pointwise"))
    assert merged.by_key["block2.merged.bn"].origin == Origin("copy", ("block2.pointwise.bn",))
    assert merged.by_key["bare.depthwise"].inputs == ("block2.merged.act",)
    assert not any(key.startswith(("block2.depthwise", "block2.pointwise")) for key in merged.by_key)
    assert merged.shapes[merged.outputs[0]] == separables().shapes[merged.outputs[0]]


def test_merging_leaves_inverted_bottlenecks_to_fusion() -> None:
    opened = merge_depthwise_separable(separables())
    assert list(options_of(opened)) == ["block1.merge", "block2.merge", "bare.merge"]
    with pytest.raises(InvalidInput, match="no depthwise separable convolution 'down'"):
        merge_depthwise_separable(separables(), ["down"])
    b = Builder()
    x = b.depthwise(b.conv(b.input("x", (1, 4, 8, 8)), 8, key="wide"), key="each")
    with pytest.raises(InvalidInput, match="no depthwise separable convolution found"):
        merge_depthwise_separable(b.graph(b.conv(x, 4, key="narrow")))
    assert list(options_of(merge_depthwise_separable(load("mobilenet_v1-0.25-96").graph))) == ["block1.merge"]
    b = Builder()
    x = b.depthwise(b.input("x", (1, 4, 8, 8)), key="each")
    b.conv(x, 4, key="mixed")
    with pytest.raises(InvalidInput, match="no depthwise separable convolution found"):
        merge_depthwise_separable(b.graph(b.concat([x, "mixed"], key="both")))


def test_a_fusion_holds_before_merges_that_need_the_same_layers() -> None:
    space = open_space(separables(), {"merge": True, "fuse": True})
    names = [decision.name for decision in space.decisions]
    closed = space.close([int(name in ("block1.merge", "bare.merge", "bare.depthwise.fuse")) for name in names])
    assert {"block1.merged", "bare.depthwise.fused", "bare.pointwise"} <= set(closed.by_key)
    assert "bare.merged" not in closed.by_key
    same = canonical(space)(np.array([[int(name != "block2.depthwise.fuse") for name in names]]))[0]
    chosen = [name for name, option in zip(names, same, strict=True) if option]
    assert chosen == ["bare.depthwise.fuse", "down.fuse", "flat.fuse", "block1.merge"]


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25)
def test_a_space_of_merges_and_fusions_costs_what_each_of_its_networks_does(seed: int) -> None:
    options = {
        "fuse": True,
        "earlier": True,
        "merge": True,
        "standard": True,
        "kernel": [3, 5],
        "width": {"divisor": 4},
    }
    space = open_space(separables(), options)
    code = random_code(space, np.random.default_rng(seed))
    closed = space.close(code)
    assert macs(space).at(np.array([code]))[0, 0] == count_macs(closed)
    assert parameters(space).at(np.array([code]))[0, 0] == count_parameters(closed)
    assert closed.shapes[closed.outputs[0]] == separables().shapes[closed.outputs[0]]


def test_a_merged_convolution_takes_the_strides_that_the_two_have() -> None:
    space = open_space(separables(), {"earlier": True, "merge": ["block1", "block2"]})
    chosen = {"block2.depthwise.earlier": 1, "block1.merge": 1, "block2.merge": 1}
    closed = space.close([chosen.get(decision.name, 0) for decision in space.decisions])
    strides = {key: node.op.stride for key, node in closed.by_key.items() if isinstance(node.op, Conv2d)}
    assert (strides["block1.merged"], strides["block2.merged"]) == ((2, 2), (1, 1))


def test_widths_are_channel_counts_rounded_within_the_width() -> None:
    options = options_of(open_widths(bottlenecks()))
    assert options["stage2.block1.expand.width"] == (48, 40, 24)
    assert options["stage1.block1.project.width"] == (16, 8)
    assert "stem.width" not in options
    assert options_of(open_widths(bottlenecks(), groups={"stem": [5, 12]})) == {"stem.width": (8, 5, 12)}
    assert options_of(open_widths(bottlenecks(), (1.5, 0.5), groups=["stem"])) == {"stem.width": (8, 16)}


@given(st.integers(1, 300), st.floats(0.05, 2), st.sampled_from([1, 2, 4, 8, 16]))
def test_widths_never_reach_zero_nor_grow_unasked(width: int, factor: float, divisor: int) -> None:
    b = Builder()
    x = b.conv(b.input("x", (1, 3, 4, 4)), width, key="c")
    graph = b.graph(b.conv(x, 2, key="out"))
    other = width_option(graph, factor, divisor)
    assert other >= 1
    assert factor > 1 or other <= width
    assert other % divisor == 0 or other == width
    assert abs(other - factor * width) <= max(divisor / 2, divisor - factor * width) or other == width


def width_option(graph: Graph, factor: float, divisor: int) -> int:
    try:
        opened = open_widths(graph, (factor,), divisor, ["c"])
    except InvalidInput:
        return int(graph.shapes["c"][1])
    return int(opened.close([1]).shapes["c"][1])


def test_depth_multiplier_applies_on_top_of_widths() -> None:
    opened = open_space(
        bottlenecks(), {"depth_multiplier": [1.0, 0.5], "width": {"groups": {"stage2.block1.expand": [32]}}}
    )
    assert options_of(opened) == {"stage2.block1.expand.width": (48, 32), "depth_multiplier": (1.0, 0.5)}
    closed = opened.close([1, 1])
    assert closed.shapes["stage2.block1.expand"][1] == 16
    assert closed.shapes["stage2.block1.project"][1] == 16
    assert closed.shapes["stem"][1] == 8
    assert closed.shapes["classifier"] == (1, 4)


def test_repeats_drop_the_last_blocks_of_a_stage() -> None:
    opened = open_repeats(bottlenecks())
    assert options_of(opened) == {"stage1.repeats": (2, 1, 0)}
    keys = [set(opened.close([option]).by_key) for option in range(3)]
    assert {"stage1.block2.add", "stage1.block3.add"} <= keys[0]
    assert "stage1.block2.add" in keys[1]
    assert not any(key.startswith("stage1.block3") for key in keys[1])
    assert not any(key.startswith(("stage1.block2", "stage1.block3")) for key in keys[2])
    assert options_of(open_repeats(bottlenecks(), least=1)) == {"stage1.repeats": (2, 1)}
    with pytest.raises(InvalidInput, match="no run of more than 2"):
        open_repeats(bottlenecks(), least=2)


def test_residual_blocks_are_dropped_with_their_last_activation() -> None:
    opened = open_repeats(residuals())
    assert options_of(opened) == {"block0.repeats": (2, 1, 0)}
    assert opened.close([1]).by_key["block2.conv1"].inputs == ("block0.act",)
    assert opened.close([2]).by_key["block2.conv1"].inputs == ("stem.act",)


def test_kernels_keep_output_sizes() -> None:
    graph = bottlenecks()
    opened = open_kernels(graph, (1, 2, 3, 5, 7))
    assert options_of(opened)["stage2.block1.depthwise.kernel"] == (5, 1, 3, 7)
    for option in range(4):
        closed = opened.close([option] * len(opened.decisions))
        assert {key: closed.shapes[key] for key in closed.shapes} == dict(graph.shapes)


def test_unpadded_kernels_are_not_grown_beyond_what_fits() -> None:
    b = Builder()
    x = conv_bn_act(b, b.input("x", (1, 3, 9, 9)), 4, kernel=5, padding=0, key="conv")
    assert options_of(open_kernels(b.graph(x), (3, 7))) == {"conv.kernel": (5, 7)}
    with pytest.raises(InvalidInput, match="no convolution can take another kernel"):
        open_kernels(b.graph(x), (3,))


def test_input_size_keeps_the_ratio_and_names_what_depends_on_it() -> None:
    def behind_a_convolution(op: Op) -> Graph:
        b = Builder()
        x = b.conv(b.input("x", (1, 3, 8, 16)), 4, kernel=3, stride=2, key="conv")
        return b.graph(b.add(op, x, key="last"))

    opened = open_input_size(behind_a_convolution(GlobalPool()), (6,))
    assert options_of(opened) == {"input.size": (8, 6)}
    assert opened.close([1]).inputs[0].shape == (1, 3, 6, 12)
    for op, size, message in (
        (Resize("bilinear", size=(8, 16)), 6, "'last' resizes to the fixed size"),
        (Reshape((4 * 32,)), 6, "'last'"),
        (Pool2d("average", (4, 4), (4, 4)), 4, "'last'"),
        (GlobalPool(), 0, "0"),
    ):
        with pytest.raises(InvalidInput, match=message):
            open_input_size(behind_a_convolution(op), (size,))


def test_edits_say_when_nothing_matches() -> None:
    graph = residuals()
    for edit, message in (
        (fuse_inverted_bottlenecks, "no inverted bottleneck found"),
        (merge_depthwise_separable, "no depthwise separable convolution found"),
        (standard_convolutions, "no depthwise convolution found"),
    ):
        with pytest.raises(InvalidInput, match=message):
            edit(graph)
    b = Builder()
    plain = b.graph(b.linear(b.input("x", (1, 4)), 2, key="out"))
    for edit, message in (
        (open_widths, "'out' is an output"),
        (open_depth_multiplier, "'out' is an output"),
        (open_repeats, "no run"),
        (open_kernels, "no convolution"),
        (lambda net: open_input_size(net, (3,)), "one image input"),
    ):
        with pytest.raises(InvalidInput, match=message):
            edit(plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wings": True}, "no edit 'wings'"),
        ({"kernel": "large"}, "kernel = 'large'"),
        ({"width": {"factor": [0.5]}}, "factor"),
        ({"width": {"groups": ["nobody"]}}, "no channel group 'nobody'"),
        ({"width": {"groups": ["classifier"]}}, "is an output of the network"),
        ({"width": {"factors": [0.0]}}, "above 0"),
        ({"fuse": ["nobody"]}, "no inverted bottleneck 'nobody'"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        open_space(bottlenecks(), options)


def test_an_edit_is_applied_once() -> None:
    with pytest.raises(InvalidInput, match="open already"):
        fuse_inverted_bottlenecks(fuse_inverted_bottlenecks(bottlenecks()))

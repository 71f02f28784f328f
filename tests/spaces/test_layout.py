"""Edits of layout: what is promised to be the same function is, and smaller outputs are half as large."""

from __future__ import annotations

import numpy as np
import pytest
from tests.spaces.networks import decoder, segmenter, with_weights
from tests.spaces.opened import inherited, labelled, options_of, output

from chipfit.errors import InvalidInput
from chipfit.graph.build import Builder
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Pool2d
from chipfit.graph.totals import count_macs
from chipfit.nets.zoo import ibn_detector, ibn_segmenter
from chipfit.spaces.edits import (
    open_space,
    pool_earlier,
    remove_layout_changes,
    resize_in_steps,
    resize_later,
    shrink_outputs,
)


def test_layout_changes_are_left_out_and_the_outputs_stay_the_same() -> None:
    graph = segmenter()
    space = remove_layout_changes(graph)
    assert set(options_of(space)) == {f"{key}.layout" for key in ("back", "first", "second", "again")}
    network = with_weights(graph)
    wanted = output(graph, network.weights)
    for decision in space.decisions:
        closed, result = inherited(network, space, {decision.name: "removed"})
        assert np.array_equal(output(closed, result.weights), wanted)
        assert labelled(result, "exact") == set(closed.by_key)
    closed, result = inherited(network, space, dict.fromkeys(options_of(space), "removed"))
    assert np.array_equal(output(closed, result.weights), wanted)
    assert not {"there", "back", "first", "second", "again"} & set(closed.by_key)


def test_images_grow_later_with_the_same_outputs_and_fewer_macs() -> None:
    graph = segmenter()
    space = resize_later(graph)
    assert set(options_of(space)) == {"up.later", "large.later"}
    network = with_weights(graph)
    wanted = output(graph, network.weights)
    for name in options_of(space):
        closed, result = inherited(network, space, {name: "later"})
        assert np.allclose(output(closed, result.weights), wanted, atol=1e-5)
        assert labelled(result, "exact") == set(closed.by_key)
        assert count_macs(closed) < count_macs(graph)
    later = space.close([1, 0])
    # Behind the nearest pixel's value an activation moves as well.
    assert later.by_key["up.after"].inputs == ("mix.act.small",)
    assert later.by_key["deep"].inputs == ("up.after",)


def test_interpolated_values_are_not_activated_early() -> None:
    b = Builder()
    x = b.resize(b.input("x", (1, 4, 6, 6)), 2, mode="bilinear", key="up")
    graph = b.graph(b.activation(b.conv(x, 4, key="mix"), "relu", key="act"))
    closed = resize_later(graph).close([1])
    assert closed.by_key["act"].inputs == ("up.after",)


def test_outputs_of_half_the_size_with_and_without_a_later_resize() -> None:
    graph = segmenter()
    space = open_space(graph, {"later": True, "output": True})
    assert options_of(space)["large.output"] == ("as given", "half")
    names = list(options_of(space))
    for later in ("as given", "later"):
        code = [0] * len(names)
        code[names.index("large.output")] = 1
        code[names.index("large.later")] = int(later == "later")
        closed = space.close(code)
        before, after = graph.shapes[graph.outputs[0]], closed.shapes[closed.outputs[0]]
        assert after[:2] == before[:2]
        assert [2 * size for size in after[2:]] == list(before[2:])  # type: ignore[operator]


def test_a_doubling_that_goes_leaves_what_it_read() -> None:
    b = Builder()
    x = b.conv(b.input("x", (1, 3, 8, 8)), 2, key="head")
    graph = b.graph(b.softmax(b.resize(x, 2, mode="bilinear", key="up"), axis=1, key="out"))
    closed = shrink_outputs(graph).close([1])
    assert closed.by_key["out"].inputs == ("head",)


def test_a_decoder_may_stop_at_any_step() -> None:
    graph = decoder()
    space, network = shrink_outputs(graph), with_weights(graph)
    assert options_of(space) == {"sum0.output": ("as given", "half", "quarter")}
    for size, (option, left_out) in enumerate(
        (("half", {"side0", "sum0"}), ("quarter", {"side0", "side1", "sum1"})), 1
    ):
        closed, result = inherited(network, space, {"sum0.output": option})
        assert closed.shapes["out"] == (1, 3, 8 >> size, 8 >> size)
        assert not left_out & set(closed.by_key)
        # All weights are kept, but the first node behind reads what it did not read before.
        assert labelled(result, "exact") == set(closed.by_key) - {"block"}
        assert all(np.array_equal(array, network.weights[key]) for key, array in result.weights.items())
        assert count_macs(closed) < count_macs(graph)
        assert np.isfinite(output(closed, result.weights)).all()


def test_the_segmenter_with_a_step_less_is_the_one_that_was_built_so() -> None:
    finer, coarser = ibn_segmenter(3, 32, 0.25, output_stride=2), ibn_segmenter(3, 32, 0.25, output_stride=4)
    network, space = with_weights(finer), shrink_outputs(finer)
    (decision,) = space.decisions
    closed, result = inherited(network, space, {decision.name: "half"})
    assert decision.options == ("as given", "half", "quarter", "eighth")
    names = {f"neck.lateral{level + 1}": f"neck.lateral{level}" for level in (1, 2, 3)}
    weights = {
        next((new + key.removeprefix(old) for old, new in names.items() if key.startswith(old)), key): array
        for key, array in result.weights.items()
    }
    np.testing.assert_array_equal(output(closed, result.weights), output(coarser, weights))
    assert count_macs(closed) == count_macs(coarser)


def test_both_outputs_of_a_detector_shrink_together() -> None:
    space = shrink_outputs(ibn_detector(0.25, 64, 2))
    closed = space.close([1])
    assert [closed.shapes[key] for key in closed.outputs] == [(1, 2, 4, 4), (1, 4, 4, 4)]


@pytest.mark.parametrize("behind", ["sum", "flat"])
def test_a_decoder_whose_size_something_else_needs_stays(behind: str) -> None:
    b = Builder()
    given = b.input("x", (1, 4, 8, 8))
    small = b.conv(given, 4, kernel=3, stride=2, padding=1, key="down")
    x = b.elementwise(b.conv(given, 4, key="side"), b.resize(small, 2, key="up"), "add", key="step")
    x = b.conv(x, 4, key="mix")
    graph = b.graph(b.elementwise(x, given, "mul", key="sum") if behind == "sum" else b.reshape(x, (-1,), key="flat"))
    with pytest.raises(InvalidInput, match="leave this edit out"):
        shrink_outputs(graph)


def test_four_times_is_twice_twice() -> None:
    b = Builder()
    x = b.resize(b.conv(b.input("x", (1, 3, 4, 4)), 4, key="mix"), 4, mode="nearest", key="up")
    graph = b.graph(b.conv(x, 2, kernel=3, padding=1, key="head"))
    network, space = with_weights(graph), resize_in_steps(graph)
    assert options_of(space) == {"up.steps": ("once", "doubled")}
    closed, result = inherited(network, space, {"up.steps": "doubled"})
    assert np.array_equal(output(closed, result.weights), output(graph, network.weights))
    assert closed.by_key["head"].inputs == ("up.double.2",)


def headed(activation: str | None, whole: bool = False) -> Graph:
    """A classifier whose last convolution is pooled: by a global mean, or by a window as large as the image."""
    b = Builder()
    x = b.batch_norm(b.conv(b.input("x", (1, 6, 5, 5)), 12, key="head"), key="head.bn")
    x = b.activation(x, activation, key="head.act") if activation else x
    x = b.add(Pool2d("average", (5, 5), (1, 1)), x, key="mean") if whole else b.global_pool(x, key="mean")
    return b.graph(b.linear(b.reshape(x, (-1,), key="flat"), 3, key="out"))


@pytest.mark.parametrize("whole", [False, True])
def test_the_mean_comes_before_the_last_convolution(whole: bool) -> None:
    graph = headed("relu", whole)
    space, network = pool_earlier(graph), with_weights(graph)
    assert options_of(space) == {"mean.pool": ("as given", "earlier")}
    closed, result = inherited(network, space, {"mean.pool": "earlier"})
    assert count_macs(closed) == count_macs(graph) - 24 * 6 * 12
    assert closed.by_key["flat"].inputs == ("head.act.pooled",)
    assert "reinitialised" not in result.labels.values()
    straight = headed(None, whole)
    closed, result = inherited(with_weights(straight), pool_earlier(straight), {"mean.pool": "earlier"})
    wanted = output(straight, with_weights(straight).weights)
    assert np.allclose(output(closed, result.weights), wanted, atol=1e-5)


def test_what_others_read_or_windows_in_part_are_no_mean_to_move() -> None:
    b = Builder()
    x = b.conv(b.input("x", (1, 6, 5, 5)), 12, key="head")
    gated = b.elementwise(x, b.global_pool(x, key="mean"), "mul", key="gated")
    graph = b.graph(b.add(Pool2d("average", (3, 3), (1, 1)), b.conv(gated, 4, key="mix"), key="part"))
    with pytest.raises(InvalidInput, match="leave this edit out"):
        pool_earlier(graph)


@pytest.mark.parametrize("edit", [pool_earlier, remove_layout_changes, resize_later, resize_in_steps, shrink_outputs])
def test_where_there_is_nothing_it_says_so(edit: object) -> None:
    b = Builder()
    graph: Graph = b.graph(b.conv(b.input("x", (1, 3, 8, 8)), 4, kernel=3, padding=1, key="only"))
    with pytest.raises(InvalidInput, match="leave this edit out"):
        edit(graph)  # type: ignore[operator]

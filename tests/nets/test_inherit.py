"""Inherited weights: where all is called exact the outputs are those of the network that was given."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.spaces.networks import NETWORKS, bottlenecks, imported, random_code, residuals, separables, with_weights

from chipfit.errors import InvalidInput
from chipfit.graph.build import Builder, conv_bn_act
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Conv2d, LayerNorm
from chipfit.nets.inherit import Inherited, inherit
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network, Weights, check_weights, initialise
from chipfit.spaces.edits import (
    fuse_inverted_bottlenecks,
    merge_depthwise_separable,
    open_depth_multiplier,
    open_input_size,
    open_kernels,
    open_repeats,
    open_widths,
    remove_layout_changes,
    resize_later,
    shrink_outputs,
    standard_convolutions,
)

SPACES = {
    "bottlenecks": lambda graph: open_input_size(
        open_depth_multiplier(
            open_widths(open_repeats(open_kernels(standard_convolutions(fuse_inverted_bottlenecks(graph)))), divisor=4),
            divisor=4,
        ),
        (24,),
    ),
    "separables": lambda graph: open_widths(
        open_kernels(standard_convolutions(merge_depthwise_separable(fuse_inverted_bottlenecks(graph)))), divisor=4
    ),
    "residuals": lambda graph: open_widths(open_repeats(open_kernels(graph, (3, 5))), (1.0, 0.5, 1.5), divisor=4),
    "imported": lambda graph: open_repeats(
        open_widths(open_kernels(standard_convolutions(fuse_inverted_bottlenecks(graph))), (1.0, 0.5, 1.5))
    ),
    "segmenter": lambda graph: open_widths(open_kernels(resize_later(remove_layout_changes(graph))), (1.0, 0.5, 1.5)),
    "decoder": lambda graph: open_widths(fuse_inverted_bottlenecks(shrink_outputs(graph)), (1.0, 0.5, 1.5), divisor=4),
}


def output(graph: Graph, weights: Weights, seed: int = 0) -> NDArray[np.float32]:
    shape = graph.inputs[0].shape[1:]
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return GraphModule(graph, weights).eval()(images).numpy()


def inherited(
    network: Network, space: Graph, code: list[int] | Mapping[str, int], seed: int = 0
) -> tuple[Graph, Inherited]:
    if isinstance(code, Mapping):
        code = [code.get(decision.name, 0) for decision in space.decisions]
    closed = space.close(code)
    result = inherit(network, space, code, np.random.default_rng(seed))
    check_weights(closed, result.weights)
    assert set(result.labels) == set(closed.by_key)
    return closed, result


def check_same(network: Network, closed: Graph, result: Inherited) -> None:
    assert set(result.labels.values()) == {"exact"}, result.notes
    np.testing.assert_allclose(
        output(closed, result.weights), output(network.graph, network.weights), rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_zero_code_inherits_everything(name: str) -> None:
    network = with_weights(NETWORKS[name]())
    space = SPACES[name](network.graph)
    closed, result = inherited(network, space, [0] * len(space.decisions))
    assert closed == network.graph
    assert set(result.labels.values()) == {"exact"}
    assert result.notes == ()
    assert set(result.weights) == set(network.weights)
    assert all(np.array_equal(result.weights[key], network.weights[key]) for key in network.weights)


@given(name=st.sampled_from(sorted(NETWORKS)), seed=st.integers(0, 10_000))
@settings(max_examples=40)
def test_any_code_inherits_weights_that_run_and_exact_ones_keep_the_outputs(name: str, seed: int) -> None:
    network = with_weights(NETWORKS[name]())
    space = SPACES[name](network.graph)
    generator = np.random.default_rng(seed)
    # Few decisions at a time, so that exact networks come up as well.
    code = [option if generator.random() < 0.2 else 0 for option in random_code(space, generator)]
    closed, result = inherited(network, space, code)
    assert np.isfinite(output(closed, result.weights)).all()
    if set(result.labels.values()) == {"exact"} and closed.inputs == network.graph.inputs:
        check_same(network, closed, result)
    again = inherit(network, closed, (), np.random.default_rng(0))
    assert again.labels == result.labels
    assert all(np.array_equal(again.weights[key], result.weights[key]) for key in result.weights)


@pytest.mark.parametrize("name", ["bottlenecks", "separables", "imported"])
def test_depthwise_as_standard_convolutions_compute_the_same(name: str) -> None:
    network = with_weights(NETWORKS[name]())
    space = standard_convolutions(network.graph)
    check_same(network, *inherited(network, space, [1] * len(space.decisions)))


@pytest.mark.parametrize("name", NETWORKS)
def test_larger_kernels_compute_the_same(name: str) -> None:
    network = with_weights(NETWORKS[name]())
    space = open_kernels(network.graph, (7,))
    check_same(network, *inherited(network, space, [1] * len(space.decisions)))


def test_smaller_kernels_keep_the_centre() -> None:
    network = with_weights(bottlenecks())
    space = open_kernels(network.graph, (3,))
    _, result = inherited(network, space, [1])
    key = "stage2.block1.depthwise"
    assert np.array_equal(result.weights[f"{key}.weight"], network.weights[f"{key}.weight"][:, :, 1:-1, 1:-1])
    assert {name for name, label in result.labels.items() if label != "exact"} == {key}


@pytest.mark.parametrize("name", NETWORKS)
def test_wider_networks_compute_the_same(name: str) -> None:
    network = with_weights(NETWORKS[name]())
    space = open_widths(network.graph, (1.0, 1.5), divisor=4)
    check_same(network, *inherited(network, space, [1] * len(space.decisions)))


def silenced(network: Network, producers: Mapping[str, str | None], channels: NDArray[np.int64]) -> Network:
    """The network with these channels of convolutions (and the normalisation behind each) at zero."""
    weights = {key: array.copy() for key, array in network.weights.items()}
    for conv, norm in producers.items():
        weights[f"{conv}.weight"][channels] = 0
        for name in ("bias", "running_mean"):
            for key in (conv, norm):
                if f"{key}.{name}" in weights:
                    weights[f"{key}.{name}"][channels] = 0
    return Network(network.name, network.graph, weights)


@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_dropping_channels_that_are_zero_keeps_the_outputs(seed: int) -> None:
    generator = np.random.default_rng(seed)
    network = with_weights(bottlenecks(), seed)
    trunk = {f"stage1.block{i}.project": f"stage1.block{i}.project.bn" for i in (1, 2, 3)}
    network = silenced(network, trunk, generator.permutation(16)[:8])
    hidden = {f"stage2.block1.{part}": f"stage2.block1.{part}.bn" for part in ("expand", "depthwise")}
    network = silenced(network, hidden, generator.permutation(48)[:24])
    space = open_widths(network.graph, (1.0, 0.5), groups=["stage1.block1.project", "stage2.block1.expand"])
    check_same(network, *inherited(network, space, [1, 1]))


def test_dropping_channels_before_a_flattening_keeps_the_outputs() -> None:
    network = with_weights(residuals())
    gone = np.arange(1, 32, 2)
    network = silenced(network, {"block2.conv2": "block2.conv2.bn", "block2.shortcut": None}, gone)
    space = open_widths(network.graph, (1.0, 0.5), groups=["block2.conv2"])
    check_same(network, *inherited(network, space, [1]))


def test_dropping_channels_that_matter_is_called_approximate() -> None:
    network = with_weights(bottlenecks())
    space = open_widths(network.graph, (1.0, 0.5), groups=["stage2.block1.expand"])
    _, result = inherited(network, space, [1])
    assert [key for key, label in result.labels.items() if label != "exact"] == ["stage2.block1.project"]
    assert any("24 of 48 channels kept" in note for note in result.notes)
    norms = np.linalg.norm(network.weights["stage2.block1.expand.weight"].reshape(48, -1), axis=1)
    weights = {name: network.weights[f"stage2.block1.expand.bn.{name}"] for name in ("weight", "running_var")}
    kept = np.sort(np.argsort(-norms * weights["weight"] / np.sqrt(weights["running_var"] + 1e-5))[:24])
    for part in ("expand.weight", "depthwise.weight", "depthwise.bn.running_mean"):
        key = f"stage2.block1.{part}"
        assert np.array_equal(result.weights[key], network.weights[key][kept])


def plain_bottleneck(padding: int, activation: str | None, bias: bool, norm: bool) -> Graph:
    """Expansion and depthwise convolution with or without normalisation, bias, and an activation between."""
    b = Builder()
    x = b.input("x", (1, 3, 9, 9))
    x = b.conv(x, 8, bias=bias, key="wide")
    x = b.batch_norm(x, key="wide_norm") if norm else x
    x = b.activation(x, activation, key="wide_act") if activation else x
    x = b.conv(x, 8, kernel=3, padding=padding, groups=8, bias=bias, key="each")
    x = b.batch_norm(x, key="each_norm") if norm else x
    return b.graph(b.conv(b.activation(x, "relu", key="each_act"), 4, key="narrow"))


@pytest.mark.parametrize(("bias", "norm"), [(True, False), (True, True), (False, True), (False, False)])
def test_fusion_without_activation_between_is_exact(bias: bool, norm: bool) -> None:
    network = with_weights(plain_bottleneck(0, None, bias, norm))
    space = fuse_inverted_bottlenecks(network.graph)
    check_same(network, *inherited(network, space, [1]))


@pytest.mark.parametrize(("bias", "norm"), [(True, False), (True, True), (False, True)])
def test_fusion_over_padding_differs_at_the_border_only_and_says_so(bias: bool, norm: bool) -> None:
    network = with_weights(plain_bottleneck(1, None, bias, norm))
    closed, result = inherited(network, fuse_inverted_bottlenecks(network.graph), [1])
    fused = next(node.key for node in closed.nodes if node.origin and node.origin.recipe == "compose")
    assert {key for key, label in result.labels.items() if label != "exact"} == {fused}
    assert any("zero padding" in note for note in result.notes)
    new, old = output(closed, result.weights), output(network.graph, network.weights)
    np.testing.assert_allclose(new[..., 1:-1, 1:-1], old[..., 1:-1, 1:-1], rtol=1e-3, atol=1e-4)
    assert np.abs(new - old).max() > 1e-3


def test_fusion_over_padding_without_a_constant_is_exact() -> None:
    network = with_weights(plain_bottleneck(1, None, bias=False, norm=False))
    check_same(network, *inherited(network, fuse_inverted_bottlenecks(network.graph), [1]))


@pytest.mark.parametrize("activation", ["relu", "relu6", "hard_swish", "silu", "prelu"])
def test_fusion_over_an_activation_is_a_warm_start(activation: str) -> None:
    network = with_weights(plain_bottleneck(1, activation, bias=False, norm=True))
    closed, result = inherited(network, fuse_inverted_bottlenecks(network.graph), [1])
    assert "approximate" in result.labels.values()
    assert any("straight line" in note for note in result.notes)
    old = output(network.graph, network.weights)
    warm = np.abs(output(closed, result.weights) - old).mean()
    narrow = {key: array for key, array in network.weights.items() if key.startswith("narrow")}
    cold = [
        np.abs(output(closed, initialise(closed, np.random.default_rng(seed)) | narrow) - old).mean()
        for seed in range(5)
    ]
    assert warm < min(cold)


def test_a_relu_between_becomes_its_best_straight_line() -> None:
    """Under N(beta, gamma^2) the line has the slope P(z > 0) and the constant gamma * density(beta / gamma)."""
    network = with_weights(plain_bottleneck(0, "relu", bias=False, norm=True))
    _, result = inherited(network, fuse_inverted_bottlenecks(network.graph), [1])
    weights = {key: array.astype(np.float64) for key, array in network.weights.items()}
    gamma, beta = weights["wide_norm.weight"], weights["wide_norm.bias"]
    scale = gamma / np.sqrt(weights["wide_norm.running_var"] + 1e-5)
    slope = np.array([(1 + math.erf(ratio / math.sqrt(2))) / 2 for ratio in beta / gamma])
    constant = gamma * np.exp(-((beta / gamma) ** 2) / 2) / math.sqrt(2 * math.pi)
    expected = (
        weights["each.weight"] * (weights["wide.weight"][:, :, 0, 0] * (scale * slope)[:, None])[:, :, None, None]
    )
    offset = slope * (beta - weights["wide_norm.running_mean"] * scale) + constant
    shift = offset * weights["each.weight"].sum((1, 2, 3))
    fused = next(key for key in result.weights if key.endswith("fused.weight")).removesuffix(".weight")
    np.testing.assert_allclose(result.weights[f"{fused}.weight"], expected, rtol=0.05)
    mean = weights["each_norm.running_mean"] - shift
    np.testing.assert_allclose(result.weights[f"{fused}.bn.running_mean"], mean, atol=0.02)


@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
    dilation=st.integers(1, 2),
    bias=st.tuples(st.booleans(), st.booleans()),
    norm=st.tuples(st.booleans(), st.booleans()),
    seed=st.integers(0, 100),
)
@settings(max_examples=30)
def test_merging_without_activation_between_is_exact(
    kernel: int,
    stride: int,
    padding: tuple[int, int, int, int],
    dilation: int,
    bias: tuple[bool, bool],
    norm: tuple[bool, bool],
    seed: int,
) -> None:
    """At the border too: what is padded is the same, and what is added comes behind it."""
    b = Builder()
    x = b.input("x", (1, 6, 11, 12))
    x = b.conv(
        x, 6, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=6, bias=bias[0], key="each"
    )
    x = b.batch_norm(x, key="each_norm") if norm[0] else x
    x = b.conv(x, 4, bias=bias[1], key="mix")
    x = b.batch_norm(x, key="mix_norm") if norm[1] else x
    network = with_weights(b.graph(b.activation(x, "relu", key="act")), seed)
    closed, result = inherited(network, merge_depthwise_separable(network.graph), [1])
    assert [type(node.op) for node in closed.nodes].count(Conv2d) == 1
    check_same(network, closed, result)


@pytest.mark.parametrize("activation", ["relu", "hard_swish", "prelu"])
@pytest.mark.parametrize("norm", [True, False])
def test_merging_over_an_activation_is_a_warm_start(activation: str, norm: bool) -> None:
    b = Builder()
    x = b.depthwise(b.input("x", (1, 8, 9, 9)), bias=not norm, key="each")
    x = b.batch_norm(x, key="each_norm") if norm else x
    x = b.conv(b.activation(x, activation, key="each_act"), 6, bias=True, key="mix")
    network = with_weights(b.graph(x))
    closed, result = inherited(network, merge_depthwise_separable(network.graph), [1])
    assert list(result.labels.values()) == ["approximate"]
    assert any("'each_act' became a straight line" in note for note in result.notes)
    assert not any("padding" in note for note in result.notes)
    old = output(network.graph, network.weights)
    warm = np.abs(output(closed, result.weights) - old).mean()
    cold = [np.abs(output(closed, initialise(closed, np.random.default_rng(seed))) - old).mean() for seed in range(5)]
    assert warm < min(cold)


def test_merged_convolutions_follow_widths_and_windows() -> None:
    network = with_weights(separables())
    space = open_widths(
        open_kernels(merge_depthwise_separable(network.graph), (3, 5)), (1.0, 0.5), groups=["block1.pointwise"]
    )
    chosen = dict.fromkeys(["block1.merge", "bare.merge", "block1.depthwise.kernel", "block1.pointwise.width"], 1)
    closed, result = inherited(network, space, chosen)
    weight = result.weights["block1.merged.weight"]
    assert weight.shape == (8, 20, 5, 5)
    assert not weight[:, :, [0, -1]].any()
    assert weight[:, :, 1:-1, 1:-1].all()
    assert result.labels["bare.merged"] == "exact", result.notes
    assert closed.shapes["block2.depthwise"][1] == 8


def test_a_standard_convolution_gives_the_channels_that_it_reads() -> None:
    network = with_weights(bottlenecks())
    space = open_widths(standard_convolutions(network.graph), (1.0, 0.5), groups=["stage2.block1.expand"])
    _, result = inherited(network, space, {"stage2.block1.depthwise": 1, "stage2.block1.expand.width": 1})
    weight = result.weights["stage2.block1.depthwise.standard.weight"]
    assert weight.shape == (24, 24, 5, 5)
    assert np.array_equal(weight.any(axis=(2, 3)), np.eye(24, dtype=bool))


def test_a_block_that_adds_zero_is_dropped_exactly() -> None:
    network = with_weights(bottlenecks())
    last = {"stage1.block3.project": "stage1.block3.project.bn"}
    network = silenced(network, last, np.arange(16))
    space = open_repeats(network.graph)
    check_same(network, *inherited(network, space, [1]))
    _, result = inherited(network, space, [2])
    assert [key for key, label in result.labels.items() if label != "exact"] == ["stage2.block1.expand"]
    assert any("nodes are gone" in note for note in result.notes)


def test_a_residual_block_with_its_activation_is_dropped_exactly() -> None:
    network = silenced(with_weights(residuals()), {"block1.conv2": "block1.conv2.bn"}, np.arange(16))
    check_same(network, *inherited(network, open_repeats(network.graph), [1]))


def test_other_input_sizes_reinitialise_only_what_depends_on_them() -> None:
    network = with_weights(residuals())
    _, result = inherited(network, open_input_size(network.graph, (24,)), [1])
    assert [key for key, label in result.labels.items() if label != "exact"] == ["classifier"]
    assert result.labels["classifier"] == "reinitialised"


def test_mixing_over_fewer_channels_is_called_approximate() -> None:
    b = Builder()
    x = b.linear(b.input("x", (1, 6, 4)), 8, key="up")
    x = b.linear(b.add(LayerNorm(), x, key="norm"), 3, key="down")
    network = with_weights(b.graph(x))
    weights = {key: array.copy() for key, array in network.weights.items()}
    weights["down.weight"][:, 4:] = weights["up.weight"][4:] = weights["up.bias"][4:] = 0
    network = Network("given", network.graph, weights)
    _, result = inherited(network, open_widths(network.graph, (1.0, 0.5), 4), [1])
    assert [key for key, label in result.labels.items() if label != "exact"] == ["norm"]


def test_nothing_in_common_is_reinitialised_by_the_seed() -> None:
    b = Builder()
    other = b.graph(conv_bn_act(b, b.input("x:0", (1, 3, 16, 16)), 4, key="elsewhere"))
    network = with_weights(imported())
    _, first = inherited(network, other, [], seed=3)
    assert first.labels == {
        "elsewhere": "reinitialised",
        "elsewhere.bn": "reinitialised",
        "elsewhere.act": "approximate",
    }
    fresh = initialise(other, np.random.default_rng(3))
    assert all(np.array_equal(first.weights[key], fresh[key]) for key in fresh)


def test_an_open_network_is_refused() -> None:
    network = with_weights(bottlenecks())
    space = open_repeats(network.graph)
    with pytest.raises(InvalidInput, match="is open"):
        inherit(Network("open", space, network.weights), space, (0,), np.random.default_rng(0))

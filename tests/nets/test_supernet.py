"""Every network of a space is a window into shared weights: the one interpreter, the same bits."""

import itertools
from collections.abc import Callable

import numpy as np
import pytest
import torch

from chipfit.errors import UnsupportedOperator
from chipfit.graph.build import Builder, conv_bn_act, inverted_bottleneck
from chipfit.graph.graph import Graph
from chipfit.graph.ops import LayerNorm, Opaque, Slice, Transpose
from chipfit.graph.totals import count_macs
from chipfit.graph.values import choose
from chipfit.nets.module import GraphModule, parameter_name
from chipfit.nets.network import Network, initialise
from chipfit.nets.supernet import KEPT, Supernet
from chipfit.spaces.edits import open_space

EDITS = {
    "fuse": True,
    "kernel": [3, 5],
    "repeats": True,
    "width": [1.0, 0.5, 1.5],
    "input_size": [16, 24],
}


def plain() -> Graph:
    b = Builder()
    x = conv_bn_act(b, b.input("input", (1, 3, 16, 16)), 8, stride=2, key="stem")
    x = inverted_bottleneck(b, x, 8, expansion=4, key="block1")
    x = inverted_bottleneck(b, x, 16, expansion=2, stride=2, key="block2")
    x = b.reshape(b.global_pool(x, key="pool"), (-1,), key="flatten")
    return b.graph(b.linear(x, 3, key="classifier"))


def edited() -> Graph:
    return open_space(plain(), EDITS)


def side_by_side() -> Graph:
    """Two open widths put together, read by a convolution, a depthwise one, a normalisation and a linear layer."""
    b = Builder()
    x = b.input("input", (1, 3, 4, 4))
    left = b.conv(x, choose(b.decide("left", (8, 4)), (8, 4)), kernel=3, key="a")
    right = b.conv(x, choose(b.decide("right", (6, 2)), (6, 2)), kernel=1, bias=True, key="b")
    x = b.batch_norm(b.concat((left, right), key="both"), key="bn")
    x = b.depthwise(x, kernel=choose(b.decide("kernel", (3, 5)), (3, 5)), key="each")
    x = b.conv(x, 5, key="mix")
    return b.graph(b.linear(b.reshape(x, (-1,), key="flat"), 2, key="classifier"))


def anti() -> Graph:
    """One decision makes one tensor wide and the other narrow: together they never grow as their parts do."""
    b = Builder()
    x, decision = b.input("input", (1, 3, 4, 4)), b.decide("share", (6, 2))
    left = b.conv(x, choose(decision, (6, 2)), key="a")
    right = b.conv(x, choose(decision, (2, 6)), key="b")
    return b.graph(b.conv(b.concat((left, right), key="both"), 5, key="mix"))


def grouped() -> Graph:
    b = Builder()
    x = b.conv(b.input("input", (1, 4, 5, 5)), 8, key="first")
    x = b.conv(x, choose(b.decide("width", (12, 6)), (12, 6)), kernel=3, groups=2, key="halves")
    return b.graph(b.conv(x, 4, key="last"))


def flat() -> Graph:
    """Channels of an open width, flattened with their pixels."""
    b = Builder()
    x = b.conv(b.input("input", (1, 3, 4, 4)), choose(b.decide("width", (6, 3)), (6, 3)), key="first")
    return b.graph(b.linear(b.reshape(x, (-1,), key="flat"), 2, key="classifier"))


def pieces() -> Graph:
    """A slice of a concatenation, and a transposed convolution."""
    b = Builder()
    x = b.input("input", (1, 3, 4, 4))
    a = b.conv(x, choose(b.decide("width", (6, 4)), (6, 4)), key="a")
    a = b.add(Slice(1, 2, 6), b.concat((a, b.conv(x, 4, key="b")), key="both"), key="slice")
    a = b.conv_transpose(a, choose(b.decide("up", (5, 3)), (5, 3)), kernel=4, stride=2, padding=1, key="up")
    return b.graph(b.activation(b.conv(a, 4, key="last"), "prelu", key="act"))


def tokens() -> Graph:
    """Pixels as tokens: normalisation over channels, linear layers over the last axis, a learned position."""
    b = Builder()
    x = b.input("input", (1, 3, 4, 4))
    x = b.conv(x, choose(b.decide("width", (8, 4)), (8, 4)), key="patches")
    x = b.add(Transpose((0, 2, 1)), b.reshape(x, (b.channels(x), 16), key="flat"), key="tokens")
    x = b.linear(b.add(LayerNorm(), x, key="norm"), choose(b.decide("hidden", (12, 6)), (12, 6)), key="grow")
    x = b.linear(b.activation(x, "gelu", key="act"), 4, key="shrink")
    return b.graph(b.elementwise(x, b.constant((1, 16, 4), key="place"), "add", key="add"))


SPACES = [tokens, edited, side_by_side, anti, grouped, flat, pieces, plain]


def codes_of(space: Graph, count: int, seed: int = 0) -> list[tuple[int, ...]]:
    generator = np.random.default_rng(seed)
    drawn = generator.integers(0, space.cardinalities, (count, len(space.decisions))) if space.decisions else []
    return [tuple(int(option) for option in row) for row in drawn] or [()]


@pytest.mark.parametrize("make", SPACES)
def test_a_network_runs_in_the_supernet_as_it_does_alone(make: Callable[[], Graph]) -> None:
    space = make()
    supernet = Supernet(space, 0)
    for code in dict.fromkeys((supernet.largest_code, supernet.smallest_code, *codes_of(space, 12))):
        network = supernet.network(code)
        assert network.graph == space.close(code)
        images = torch.rand((3, *(int(size) for size in network.graph.inputs[0].shape[1:])))  # type: ignore[arg-type]
        for training in (True, False):
            alone = GraphModule(network.graph, network.weights).train(training)
            torch.testing.assert_close(supernet.train(training)(code, images), alone(images), rtol=0, atol=0)


def test_each_network_takes_the_parts_that_are_left() -> None:
    supernet = Supernet(side_by_side(), 0)
    whole = {name: tensor.detach().numpy() for name, tensor in supernet.named_parameters()}
    weights = supernet.network((1, 1, 0)).weights
    both = [0, 1, 2, 3, 8, 9]
    assert np.array_equal(weights["a.weight"], whole[parameter_name("a.weight")][:4])
    assert np.array_equal(weights["b.bias"], whole[parameter_name("b.bias")][:2])
    assert np.array_equal(weights["bn.weight"], whole[parameter_name("bn.weight")][both])
    assert np.array_equal(weights["each.weight"], whole[parameter_name("each.weight")][both, :, 1:4, 1:4])
    assert np.array_equal(weights["mix.weight"], whole[parameter_name("mix.weight")][:, both])
    assert np.array_equal(supernet.network((0, 0, 1)).weights["each.weight"], whole[parameter_name("each.weight")])


def test_what_excludes_itself_has_room_for_both() -> None:
    supernet = Supernet(anti(), 0)
    mix = dict(supernet.named_parameters())[parameter_name("mix.weight")].detach().numpy()
    assert mix.shape[1] == 12
    assert np.array_equal(supernet.network((0,)).weights["mix.weight"], mix[:, [0, 1, 2, 3, 4, 5, 6, 7]])
    assert np.array_equal(supernet.network((1,)).weights["mix.weight"], mix[:, [0, 1, *range(6, 12)]])


def test_groups_keep_their_own_channels() -> None:
    supernet = Supernet(grouped(), 0)
    whole = {name: tensor.detach().numpy() for name, tensor in supernet.named_parameters()}
    kept = [0, 1, 2, 6, 7, 8]
    weights = supernet.network((1,)).weights
    assert np.array_equal(weights["halves.weight"], whole[parameter_name("halves.weight")][kept])
    assert np.array_equal(weights["last.weight"], whole[parameter_name("last.weight")][:, kept])


def test_flattened_channels_keep_their_pixels() -> None:
    supernet = Supernet(flat(), 0)
    whole = dict(supernet.named_parameters())[parameter_name("classifier.weight")].detach().numpy()
    assert np.array_equal(supernet.network((1,)).weights["classifier.weight"], whole[:, : 3 * 16])


def test_alternatives_have_weights_of_their_own() -> None:
    space = open_space(plain(), {"fuse": True})
    supernet = Supernet(space, 0)
    separate, fused = supernet.network((0, 0)), supernet.network((1, 1))
    assert "block1.expand.weight" in separate.weights
    assert "block1.fused.weight" in fused.weights
    assert not any("fused" in name for name in separate.weights)


def test_the_zero_code_is_the_network_that_was_given() -> None:
    given = Network("given", plain(), initialise(plain(), np.random.default_rng(5)))
    space = edited()
    supernet = Supernet(space, 0, given=given)
    zero = supernet.network((0,) * len(space.decisions))
    assert zero.weights.keys() == given.weights.keys()
    assert all(np.array_equal(zero.weights[name], given.weights[name]) for name in given.weights)


def test_weights_that_are_written_are_read_again() -> None:
    space = edited()
    supernet = Supernet(space, 0)
    for code in codes_of(space, 6):
        weights = initialise(space.close(code), np.random.default_rng(7))
        supernet.load(code, weights)
        found = supernet.network(code).weights
        assert all(np.array_equal(found[name], weights[name]) for name in weights)


def test_the_same_seed_gives_the_same_weights() -> None:
    one, two, other = (Supernet(edited(), seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("make", [side_by_side, anti, grouped])
def test_the_largest_and_the_smallest_network_are_that(make: Callable[[], Graph]) -> None:
    space = make()
    supernet = Supernet(space, 0)
    every = itertools.product(*(range(options) for options in space.cardinalities))
    macs = [count_macs(space.close(code)) for code in every]
    assert count_macs(space.close(supernet.largest_code)) == max(macs)
    assert count_macs(space.close(supernet.smallest_code)) == min(macs)


def test_sizes_are_those_that_networks_take() -> None:
    supernet = Supernet(edited(), 0)
    assert supernet.sizes == ((16, 16), (24, 24))
    assert {supernet.size(code) for code in codes_of(supernet.space, 20)} == set(supernet.sizes)


def test_only_some_programs_are_kept() -> None:
    supernet = Supernet(edited(), 0)
    for code in codes_of(supernet.space, KEPT + 20):
        supernet.size(code)
    assert len(supernet._known) == KEPT


def test_an_operator_that_cannot_run_is_named() -> None:
    b = Builder()
    x = b.conv(b.input("input", (1, 3, 4, 4)), choose(b.decide("width", (4, 2)), (4, 2)), key="a")
    supernet = Supernet(b.graph(b.add(Opaque("Strange", (1, 2)), x, key="odd")), 0)
    with pytest.raises(UnsupportedOperator, match="'odd' is the operator 'Strange'"):
        supernet.network((0,))

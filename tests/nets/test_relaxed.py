"""All options at once: with gates of 0 and 1 the network that they choose, and a gradient for each option."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from chipfit.errors import InvalidInput
from chipfit.graph.build import Builder, conv_bn_act, inverted_bottleneck
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Conv2d, LayerNorm
from chipfit.graph.values import choose
from chipfit.nets.relaxed import Relaxed
from chipfit.nets.supernet import Supernet
from chipfit.spaces.edits import open_space

EDITS = {"fuse": True, "kernel": [3, 5], "repeats": True, "width": [1.0, 0.5, 1.5]}


def plain() -> Graph:
    b = Builder()
    x = conv_bn_act(b, b.input("input", (1, 3, 16, 16)), 8, stride=2, key="stem")
    x = inverted_bottleneck(b, x, 8, expansion=4, key="block1")
    x = inverted_bottleneck(b, x, 16, expansion=2, stride=2, key="block2")
    x = b.reshape(b.global_pool(x, key="pool"), (-1,), key="flatten")
    return b.graph(b.linear(x, 3, key="classifier"))


def edited() -> Graph:
    return open_space(plain(), EDITS)


def multiplied() -> Graph:
    """Widths that depend on two decisions at once."""
    return open_space(plain(), {"width": [1.0, 0.5], "depth_multiplier": [1.0, 0.5]})


def side_by_side() -> Graph:
    b = Builder()
    x = b.input("input", (1, 3, 4, 4))
    left = b.conv(x, choose(b.decide("left", (8, 4)), (8, 4)), kernel=3, key="a")
    x = b.batch_norm(b.concat((left, b.conv(x, 3, key="b")), key="both"), key="bn")
    x = b.reshape(b.depthwise(x, kernel=3, key="each"), (-1,), key="flat")
    return b.graph(b.linear(x, 2, key="classifier"))


def gates_of(space: Graph, code: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {d.name: torch.eye(len(d))[option] for d, option in zip(space.decisions, code, strict=True)}


@pytest.mark.parametrize("make", [edited, multiplied, side_by_side])
def test_gates_of_zero_and_one_choose_a_network(make: Callable[[], Graph]) -> None:
    space = make()
    supernet = Supernet(space, 0).train()
    relaxed = Relaxed(supernet)
    generator = np.random.default_rng(1)
    for _ in range(12):
        code = tuple(int(option) for option in generator.integers(0, space.cardinalities))
        images = torch.rand((4, *(int(size) for size in space.inputs[0].shape[1:])))  # type: ignore[arg-type]
        torch.testing.assert_close(relaxed(gates_of(space, code), images), supernet(code, images), rtol=1e-4, atol=1e-4)


def test_every_option_has_a_gradient() -> None:
    space = edited()
    relaxed = Relaxed(Supernet(space, 0).train())
    gates = {d.name: torch.full((len(d),), 1 / len(d), requires_grad=True) for d in space.decisions}
    relaxed(gates, torch.rand(4, 3, 16, 16)).square().sum().backward()  # type: ignore[no-untyped-call]
    for name, gate in gates.items():
        assert gate.grad is not None, name
        assert (gate.grad != 0).all(), name


def test_what_is_no_width_window_or_alternative_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"input\.size: what it changes at 'input' .* use the policy method"):
        Relaxed(Supernet(open_space(plain(), {"input_size": [16, 24]}), 0))
    b = Builder()
    x = b.input("input", (1, 4, 9, 9))
    padding = choose(b.decide("pad", (1, 0)), (1, 0))
    x = b.add(Conv2d(4, (3, 3), padding=(padding,) * 4), x, key="conv")
    with pytest.raises(InvalidInput, match="pad: what it changes"):
        Relaxed(Supernet(b.graph(x), 0))


def test_mixing_channels_of_an_open_width_is_refused() -> None:
    b = Builder()
    x = b.conv(b.input("input", (1, 3, 4, 4)), choose(b.decide("width", (4, 2)), (4, 2)), key="a")
    x = b.add(LayerNorm(3), x, key="norm")
    with pytest.raises(InvalidInput, match=r"'norm' \(LayerNorm\) computes across channels of an open width"):
        Relaxed(Supernet(b.graph(b.conv(x, 2, key="b")), 0))

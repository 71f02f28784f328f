"""Networks with sites for the edits of operators, their spaces, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from tests.spaces.networks import bottlenecks, random_code

from chipfit.graph.build import Builder, conv_bn_act, depthwise_separable, inverted_bottleneck
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Conv2d
from chipfit.nets.inherit import Inherited, inherit
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network, Weights, check_weights
from chipfit.spaces.edits import (
    factorise_kernels,
    open_activations,
    open_space,
    stride_earlier,
)


def windows() -> Graph:
    """Large windows: with a stride, with normalisation and activation behind, and alone."""
    b = Builder()
    x = conv_bn_act(b, b.input("x", (1, 8, 20, 18)), 8, kernel=7, activation="silu", key="seven")
    x = conv_bn_act(b, x, 12, kernel=5, stride=2, activation="silu", key="five")
    x = b.conv(x, 12, kernel=3, key="three")
    return b.graph(b.linear(b.reshape(b.global_pool(x, key="pool"), (-1,), key="flat"), 3, key="out"))


def gated() -> Graph:
    """Every kind of activation that has a cheaper one, and sigmoids as a gate and as an output."""
    b = Builder()
    x = b.input("x", (1, 4, 12, 12))
    for function in ("hard_swish", "silu", "gelu", "gelu_tanh", "leaky_relu", "prelu", "relu6", "tanh"):
        x = b.activation(b.conv(x, 8, kernel=3, padding=1, key=f"{function}_conv"), function, key=function)
    for function in ("sigmoid", "hard_sigmoid"):
        gate = b.activation(
            b.conv(b.global_pool(x, key=f"{function}_pool"), 8, key=f"{function}_scale"),
            function,
            key=f"{function}_gate",
        )
        x = b.elementwise(x, gate, "mul", key=f"{function}_gated")
    return b.graph(b.activation(b.conv(x, 2, key="head"), "sigmoid", key="mask"))


def strided() -> Graph:
    """Strides of 2 behind pointwise and full convolutions, and two that cannot move."""
    b = Builder()
    x = conv_bn_act(b, b.input("x", (1, 3, 24, 24)), 8, kernel=3, stride=2, key="stem")
    x = inverted_bottleneck(b, x, 8, expansion=2, key="flat")
    x = inverted_bottleneck(b, x, 12, expansion=2, kernel=5, stride=2, key="down")
    x = depthwise_separable(b, x, 16, stride=1, key="pair")
    x = depthwise_separable(b, x, 16, stride=2, key="last")
    return b.graph(x)


SPACES: Mapping[str, Callable[[], Graph]] = {
    "windows": lambda: factorise_kernels(windows(), channels=8),
    "gated": lambda: open_activations(gated()),
    "strided": lambda: stride_earlier(strided()),
    "all of windows": lambda: open_space(windows(), {"factor": {"channels": 8}, "activation": True, "kernel": [3, 5]}),
    "all of bottlenecks": lambda: open_space(
        bottlenecks("hard_swish"),
        {
            "fuse": True,
            "earlier": True,
            "standard": True,
            "kernel": [3, 5],
            "activation": True,
            "width": {"divisor": 4},
        },
    ),
}
GIVEN = {
    "windows": windows,
    "gated": gated,
    "strided": strided,
    "all of windows": windows,
    "all of bottlenecks": lambda: bottlenecks("hard_swish"),
}


def options_of(graph: Graph) -> dict[str, tuple[int | float | str, ...]]:
    return {decision.name: decision.options for decision in graph.decisions}


def code_of(space: Graph, chosen: Mapping[str, object]) -> list[int]:
    return [item.options.index(chosen[item.name]) if item.name in chosen else 0 for item in space.decisions]  # type: ignore[arg-type]


def images(graph: Graph) -> torch.Tensor:
    return torch.randn(2, *graph.inputs[0].shape[1:], generator=torch.Generator().manual_seed(0))


def output(graph: Graph, weights: Weights) -> NDArray[np.float32]:
    with torch.no_grad():
        return GraphModule(graph, weights).eval()(images(graph)).numpy()


def inherited(network: Network, space: Graph, chosen: Mapping[str, object]) -> tuple[Graph, Inherited]:
    code = code_of(space, chosen)
    closed = space.close(code)
    result = inherit(network, space, code, np.random.default_rng(0))
    check_weights(closed, result.weights)
    return closed, result


def labelled(result: Inherited, label: str) -> set[str]:
    return {key for key, found in result.labels.items() if found == label}


def sampled(space: Graph, count: int = 12) -> NDArray[np.int64]:
    generator = np.random.default_rng(4)
    zero, ones = [0] * len(space.decisions), [1] * len(space.decisions)
    return np.array([zero, ones, *(random_code(space, generator) for _ in range(count - 2))])


def between(graph: Graph, site: str) -> set[str]:
    """The tensors from the convolution before a site up to what the site reads."""
    found: set[str] = set()
    key = graph.by_key[site].inputs[0]
    while not any(isinstance(graph.by_key[done].op, Conv2d) for done in found):
        found.add(key)
        key = graph.by_key[key].inputs[0]
    return found

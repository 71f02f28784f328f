"""Small networks for tests of edits: of the builder, and as an importer would give them."""

from __future__ import annotations

import numpy as np

from chipfit.graph.build import Builder, conv_bn_act, depthwise_separable, inverted_bottleneck, residual_block
from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.ops import Activation, Conv2d, Elementwise, GlobalPool, Linear, Reshape, Slice, Transpose
from chipfit.nets.network import Network, initialise


def bottlenecks(activation: str = "relu6") -> Graph:
    """Inverted bottlenecks with two that can be dropped."""
    b = Builder()
    x = conv_bn_act(b, b.input("input", (1, 3, 16, 16)), 8, stride=2, key="stem")
    for index in range(3):
        x = inverted_bottleneck(b, x, 16, expansion=2, activation=activation, key=f"stage1.block{index + 1}")
    x = inverted_bottleneck(b, x, 24, expansion=3, kernel=5, stride=2, activation=activation, key="stage2.block1")
    x = b.reshape(b.global_pool(x, key="pool"), (-1,), key="flat")
    return b.graph(b.linear(x, 4, key="classifier"))


def separables(activation: str = "relu") -> Graph:
    """Depthwise separable convolutions that narrow, one of them bare and padded unevenly, then inverted bottlenecks."""
    b = Builder()
    x = conv_bn_act(b, b.input("input", (1, 3, 17, 17)), 20, stride=2, activation=activation, key="stem")
    for index, (out, stride) in enumerate(((16, 1), (12, 2)), start=1):
        x = depthwise_separable(b, x, out, stride=stride, activation=activation, key=f"block{index}")
    x = b.conv(b.depthwise(x, padding=(0, 1, 2, 0), bias=True, key="bare.depthwise"), 14, key="bare.pointwise")
    x = inverted_bottleneck(b, x, 16, expansion=2, stride=2, activation=activation, key="down")
    x = inverted_bottleneck(b, x, 16, expansion=2, activation=activation, key="flat")
    x = b.reshape(b.global_pool(x, key="pool"), (-1,), key="vector")
    return b.graph(b.linear(x, 4, key="classifier"))


def residuals() -> Graph:
    """Basic residual blocks, and a linear layer behind a flattening."""
    b = Builder()
    x = conv_bn_act(b, b.input("input", (1, 1, 12, 12)), 16, activation="relu", key="stem")
    for index, (out, stride) in enumerate(((16, 1), (16, 1), (32, 2))):
        x = residual_block(b, x, out, stride=stride, key=f"block{index}")
    return b.graph(b.linear(b.reshape(x, (-1,), key="flat"), 4, key="classifier"))


def imported() -> Graph:
    """As from an ONNX file: normalisation folded into biases, numbered names, a gate, a reshape to explicit sizes."""

    def conv(key: str, source: str, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> Node:
        pad = kernel // 2
        return Node(key, Conv2d(out, (kernel, kernel), (stride, stride), (pad,) * 4, groups=groups), (source,))

    nodes = (
        conv("/f/Conv_0", "x:0", 8, 3, 2),
        Node("/f/Clip_1", Activation("relu6"), ("/f/Conv_0",)),
        conv("/f/Conv_2", "/f/Clip_1", 16),
        Node("/f/HardSwish_3", Activation("hard_swish"), ("/f/Conv_2",)),
        conv("/f/Conv_4", "/f/HardSwish_3", 16, 3, 1, 16),
        Node("/f/HardSwish_5", Activation("hard_swish"), ("/f/Conv_4",)),
        Node("/f/Pool_6", GlobalPool(), ("/f/HardSwish_5",)),
        conv("/f/Conv_7", "/f/Pool_6", 8),
        Node("/f/Relu_8", Activation("relu"), ("/f/Conv_7",)),
        conv("/f/Conv_9", "/f/Relu_8", 16),
        Node("/f/HardSigmoid_10", Activation("hard_sigmoid"), ("/f/Conv_9",)),
        Node("/f/Mul_11", Elementwise("mul"), ("/f/HardSigmoid_10", "/f/HardSwish_5")),
        conv("/f/Conv_12", "/f/Mul_11", 8),
        Node("/f/Add_13", Elementwise("add"), ("/f/Conv_12", "/f/Clip_1")),
        conv("/f/Conv_14", "/f/Add_13", 24),
        conv("/f/Conv_15", "/f/Conv_14", 24, 3, 1, 24),
        Node("/Pool_16", GlobalPool(), ("/f/Conv_15",)),
        Node("/Reshape_17", Reshape((24,)), ("/Pool_16",)),
        Node("y:0", Linear(3), ("/Reshape_17",)),
    )
    return Graph((Input("x:0", (1, 3, 16, 16)),), nodes, ("y:0",))


def segmenter() -> Graph:
    """Images that grow again, with layout changes on the way that undo each other."""
    b = Builder()
    x = conv_bn_act(b, b.input("x", (1, 3, 16, 16)), 8, stride=2, activation="hard_swish", key="stem")
    there = b.add(Transpose((0, 2, 3, 1)), x, key="there")
    x = b.add(Transpose((0, 3, 1, 2)), there, key="back")
    joined = b.concat([x, b.conv(x, 8, kernel=3, padding=1, key="side")], key="join")
    first = b.add(Slice(1, 0, 8), joined, key="first")
    second = b.add(Slice(1, 8, 16), joined, key="second")
    x = b.concat([first, second], key="again")
    x = b.elementwise(x, b.conv(first, 16, key="short"), "add", key="sum")
    x = b.resize(x, 2, mode="nearest", key="up")
    x = b.activation(b.batch_norm(b.conv(x, 12, key="mix"), key="mix.bn"), "hard_swish", key="mix.act")
    x = b.conv(x, 12, kernel=3, stride=4, padding=1, key="deep")
    x = b.resize(x, 4, mode="bilinear", key="large")
    return b.graph(b.conv(x, 2, key="head"))


def decoder() -> Graph:
    """Features that are enlarged and added to earlier ones, step by step."""
    b = Builder()
    features = [conv_bn_act(b, b.input("x", (1, 3, 16, 16)), 8, stride=2, key="stem")]
    for level in (1, 2):
        features.append(inverted_bottleneck(b, features[-1], 8 + 4 * level, expansion=2, stride=2, key=f"down{level}"))
    x = b.conv(features[2], 8, key="side2")
    for level in (1, 0):
        larger = b.resize(x, 2, mode="bilinear", key=f"larger{level}")
        x = b.elementwise(b.conv(features[level], 8, key=f"side{level}"), larger, "add", key=f"sum{level}")
    x = conv_bn_act(b, x, 8, key="block")
    return b.graph(b.softmax(b.conv(x, 3, key="head"), axis=1, key="out"))


NETWORKS = {
    "bottlenecks": bottlenecks,
    "separables": separables,
    "residuals": residuals,
    "imported": imported,
    "segmenter": segmenter,
    "decoder": decoder,
}


def with_weights(graph: Graph, seed: int = 0) -> Network:
    """A network with weights as after training: no bias and no statistic is left at its start."""
    generator = np.random.default_rng(seed)
    weights = initialise(graph, generator)
    for name, array in weights.items():
        kind = name.rpartition(".")[2]
        if kind in ("bias", "running_mean"):
            weights[name] = generator.normal(0, 0.3, array.shape).astype(np.float32)
        elif array.ndim == 1:
            weights[name] = generator.uniform(0.5, 1.5, array.shape).astype(np.float32)
    return Network("given", graph, weights)


def random_code(graph: Graph, generator: np.random.Generator) -> list[int]:
    """A code drawn evenly."""
    return [int(generator.integers(length)) for length in graph.cardinalities]

"""The MnasNet-like space of Accel-NASBench (Ahmad et al., CVPR Workshops 2024): 7 stages of inverted bottlenecks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from chipfit.errors import InvalidInput
from chipfit.graph.build import Builder, conv_bn_act
from chipfit.graph.graph import Graph
from chipfit.graph.values import Value, choose, where

EXPANSIONS = (1, 4, 6)
KERNELS = (3, 5)
EXCITATION = ("none", "squeeze_excite")
STAGES = ((16, 1, 3), (24, 2, 3), (40, 2, 3), (80, 2, 3), (112, 1, 3), (192, 2, 4), (320, 1, 3))
"""Output channels, stride of the first layer and most layers of each stage; every stage has at least one layer."""

_STEM, _HEAD, _SQUEEZE = 32, 1280, 4

Code = tuple[int, ...]


@cache
def space(classes: int = 1000, *, resolution: int = 224) -> Graph:
    """All networks of the space, open over expansion, kernel, layers and squeeze-and-excitation of each stage.

    Widths, strides and squeezing (a quarter of a layer's input) are those with which the parameters and MACs of every
    row of the public table come out; which activation its networks have does not show there: MnasNet's, ReLU.
    """
    b = Builder()
    x = conv_bn_act(b, b.input("input", (1, 3, resolution, resolution)), _STEM, stride=2, activation="relu", key="stem")
    for stage, (out, stride, most) in enumerate(STAGES):
        name = f"block{stage}"
        expansion = choose(decision := b.decide(f"{name}_e", EXPANSIONS), EXPANSIONS)
        expands = choose(decision, (0, 1, 1))
        kernel = choose(b.decide(f"{name}_k", KERNELS), KERNELS)
        layers = choose(decision := b.decide(f"{name}_l", tuple(range(1, most + 1))), tuple(range(1, most + 1)))
        excited = choose(b.decide(f"{name}_se", EXCITATION), (0, 1))
        for layer in range(most):
            given, key = x, f"{name}.layer{layer + 1}"
            x = _layer(b, given, out, expansion, expands, kernel, stride if layer == 0 else 1, excited, key)
            if layer:
                x = b.elementwise(given, x, "add", key=f"{key}.add")
                x = b.select(where(layers > layer, 1, 0), (given, x), key=key)  # type: ignore[operator]
    x = conv_bn_act(b, x, _HEAD, kernel=1, activation="relu", key="head")
    return b.graph(b.linear(b.reshape(b.global_pool(x, key="pool"), (-1,), key="flatten"), classes, key="classifier"))


def code_of(row: Mapping[str, str]) -> Code:
    """The code of a row of the public table, from its columns `block0_e` … `block6_se`.

    Raises `InvalidInput` naming the column that is missing or holds no option.
    """
    code: list[int] = []
    for decision in space().decisions:
        text = row.get(decision.name, "")
        options = ["False", "True"] if decision.name.endswith("_se") else [str(option) for option in decision.options]
        if text not in options:
            raise InvalidInput(f"column {decision.name} of an Accel-NASBench row is {text!r}, not one of {options}")
        code.append(options.index(text))
    return tuple(code)


def _layer(
    b: Builder,
    x: str,
    out: int,
    expansion: Value,
    expands: Value,
    kernel: Value,
    stride: int,
    excited: Value,
    key: str,
) -> str:
    channels = b.channels(x)
    wide = conv_bn_act(b, x, channels * expansion, kernel=1, activation="relu", key=f"{key}.expand")
    hidden = b.select(expands, (x, wide), key=f"{key}.hidden")
    width = b.channels(hidden)
    hidden = conv_bn_act(
        b, hidden, width, kernel=kernel, stride=stride, groups=width, activation="relu", key=f"{key}.depthwise"
    )
    squeezed = b.conv(b.global_pool(hidden, key=f"{key}.squeeze"), channels // _SQUEEZE, bias=True, key=f"{key}.reduce")
    gates = b.conv(b.activation(squeezed, "relu", key=f"{key}.reduce.act"), width, bias=True, key=f"{key}.gate")
    gated = b.elementwise(hidden, b.activation(gates, "sigmoid", key=f"{key}.gate.act"), "mul", key=f"{key}.excite")
    hidden = b.select(excited, (hidden, gated), key=f"{key}.excited")
    return conv_bn_act(b, hidden, out, kernel=1, activation=None, key=f"{key}.project")

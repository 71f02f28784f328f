"""Whole networks drawn at random, to check predictions on networks that no one tuned for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from chipfit.graph.build import (
    Builder,
    conv_bn_act,
    depthwise_separable,
    fused_inverted_bottleneck,
    inverted_bottleneck,
    residual_block,
)
from chipfit.graph.graph import Graph

Generator = np.random.Generator


def random_networks(count: int, generator: Generator) -> list[Graph]:
    """`count` closed networks: inverted bottlenecks, residual, plain, separable, with an encoder and decoder, or on
    sequences; widths, depths, kernels, resolutions and heads at random, widths aligned or odd."""
    return [_FAMILIES[int(generator.integers(len(_FAMILIES)))](generator) for _ in range(count)]


def _pick(generator: Generator, *options: int) -> int:
    return options[int(generator.integers(len(options)))]


def _width(generator: Generator, low: int, high: int) -> int:
    """Channels, even in logarithmic scale; two of three networks' layers are aligned."""
    width = low * (high / low) ** generator.random()
    step = _pick(generator, 1, 8, 16)
    return max(low, round(width / step) * step)


def _stem(b: Builder, generator: Generator, activation: str) -> str:
    height = _pick(generator, 32, 48, 64, 96, 128, 160, 192, 224, 256, 320)
    width = height if generator.random() < 0.75 else height * 3 // 4
    x = b.input("input", (1, _pick(generator, 1, 3, 3, 3), height, width))
    stride = 2 if height >= 96 else _pick(generator, 1, 2)
    return conv_bn_act(
        b, x, _width(generator, 8, 64), kernel=_pick(generator, 3, 3, 5, 7), stride=stride, activation=activation,
        key="stem",
    )  # fmt: skip


def _activation(generator: Generator) -> str:
    return ("relu6", "relu", "silu", "hard_swish")[int(generator.integers(4))]


def _stages(
    b: Builder, x: str, generator: Generator, block: Callable[[str, int, int, str], str], growth: float
) -> list[str]:
    """Stages of one to four blocks, each but the first at half the size; the tensors at their ends."""
    ends, width = [x], float(_as_int(b.channels(x)))
    for stage in range(int(generator.integers(2, 6))):
        width = min(width * (1 + growth * generator.random()), 640)
        out = _width(generator, max(8, int(width * 0.8)), max(9, int(width * 1.2)))
        for repeat in range(int(generator.integers(1, 5))):
            small = min(_as_int(size) for size in b.shape(x)[2:]) < 4
            x = block(x, out, 2 if repeat == 0 and stage and not small else 1, f"s{stage}.b{repeat}")
        ends.append(x)
    return ends


def _as_int(value: object) -> int:
    assert isinstance(value, int)
    return value


def _classifier(b: Builder, x: str, generator: Generator, activation: str) -> Graph:
    if generator.random() < 0.5:
        x = conv_bn_act(b, x, _width(generator, 96, 1536), kernel=1, activation=activation, key="head")
    x = b.global_pool(x, key="pool")
    x = b.reshape(x, (-1,), key="flatten")
    if generator.random() < 0.2:
        x = b.activation(b.linear(x, _width(generator, 64, 1024), key="hidden"), "relu", key="hidden.act")
    x = b.linear(x, _pick(generator, 2, 10, 12, 100, 1000, 1001), key="classifier")
    return b.graph(b.softmax(x, key="softmax") if generator.random() < 0.3 else x)


def _mobile(generator: Generator) -> Graph:
    b, activation = Builder(), _activation(generator)
    x = _stem(b, generator, activation)
    kernel, gate = _pick(generator, 3, 3, 5, 7), generator.random() < 0.25

    def block(x: str, out: int, stride: int, key: str) -> str:
        fused = generator.random() < 0.25
        make = fused_inverted_bottleneck if fused else inverted_bottleneck
        expansion = _pick(generator, 1, 2, 3, 4, 6)
        x = make(b, x, out, expansion=expansion, kernel=kernel, stride=stride, activation=activation, key=key)
        return _gated(b, x, key) if gate and generator.random() < 0.4 else x

    return _classifier(b, _stages(b, x, generator, block, 1.0)[-1], generator, activation)


def _gated(b: Builder, x: str, key: str) -> str:
    """Squeeze and excitation (Hu et al. 2018, 3)."""
    width = _as_int(b.channels(x))
    gate = b.global_pool(x, key=f"{key}.squeeze")
    gate = b.conv(gate, max(4, width // 4), bias=True, key=f"{key}.reduce")
    gate = b.conv(b.activation(gate, "relu", key=f"{key}.act"), width, bias=True, key=f"{key}.excite")
    gate = b.activation(gate, "hard_sigmoid", key=f"{key}.gate")
    return b.elementwise(x, gate, "mul", key=f"{key}.scale")


def _residual(generator: Generator) -> Graph:
    b = Builder()
    x = _stem(b, generator, "relu")
    if generator.random() < 0.5:
        x = b.pool(x, "max", kernel=3, stride=2, padding=1, key="stem.pool")

    def block(x: str, out: int, stride: int, key: str) -> str:
        return residual_block(b, x, out, stride=stride, key=key)

    return _classifier(b, _stages(b, x, generator, block, 1.2)[-1], generator, "relu")


def _plain(generator: Generator) -> Graph:
    b, activation = Builder(), _activation(generator)
    x = _stem(b, generator, activation)

    def block(x: str, out: int, stride: int, key: str) -> str:
        x = conv_bn_act(b, x, out, kernel=_pick(generator, 1, 3, 3, 5), activation=activation, key=key)
        return b.pool(x, "max", kernel=2, key=f"{key}.pool") if stride == 2 else x

    return _classifier(b, _stages(b, x, generator, block, 1.2)[-1], generator, activation)


def _separable(generator: Generator) -> Graph:
    b, activation = Builder(), _activation(generator)
    x = _stem(b, generator, activation)
    kernel = _pick(generator, 3, 3, 5)

    def block(x: str, out: int, stride: int, key: str) -> str:
        return depthwise_separable(b, x, out, kernel=kernel, stride=stride, activation=activation, key=key)

    return _classifier(b, _stages(b, x, generator, block, 1.5)[-1], generator, activation)


def _decoder(generator: Generator) -> Graph:
    """Encoder, then decoder: upsampling, features of the encoder beside it, a convolution; masks as output."""
    b, activation = Builder(), _activation(generator)
    x = _stem(b, generator, activation)

    def block(x: str, out: int, stride: int, key: str) -> str:
        return conv_bn_act(b, x, out, stride=stride, activation=activation, key=key)

    *skips, x = _stages(b, x, generator, block, 1.2)
    for level, skip in enumerate(reversed(skips)):
        big, small = b.shape(skip)[2:], b.shape(x)[2:]
        if all(_as_int(large) == 2 * _as_int(little) for large, little in zip(big, small, strict=True)):
            if generator.random() < 0.5:
                x = b.conv_transpose(x, _width(generator, 16, 256), kernel=2, stride=2, key=f"up{level}")
            else:
                x = b.resize(x, 2.0, mode="bilinear", key=f"up{level}")
        if b.shape(x)[2:] == big:
            x = b.concat([x, skip], key=f"join{level}")
        x = conv_bn_act(b, x, _width(generator, 16, 192), activation=activation, key=f"merge{level}")
    return b.graph(b.conv(x, _pick(generator, 1, 2, 19, 21), bias=True, key="masks"))


_FAMILIES: tuple[Callable[[Generator], Graph], ...] = (_mobile, _mobile, _residual, _plain, _separable, _decoder)

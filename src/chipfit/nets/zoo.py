"""Baseline networks, written with the builder. Inputs are one image (1, channels, height, width) named "input"."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from chipfit.errors import InvalidInput
from chipfit.graph.build import (
    Builder,
    conv_bn_act,
    depthwise_separable,
    inverted_bottleneck,
    residual_block,
)
from chipfit.graph.graph import Graph
from chipfit.nets.network import Network, initialise

Stage = tuple[int, int, int, int]
"""Expansion, output channels at width 1, blocks, stride of the first block."""

MOBILENET_V2_STAGES: tuple[Stage, ...] = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Sandler et al. 2018, table 2."""

IBN_STAGES: tuple[Stage, ...] = (
    (4, 8, 1, 1),
    (4, 24, 2, 2),
    (6, 32, 2, 2),
    (6, 48, 2, 2),
    (4, 64, 2, 1),
)


def round_channels(channels: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, at least `divisor`, one more where rounding would lose over a tenth."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def mobilenet_v1(width: float = 1.0, resolution: int = 224, classes: int = 1000) -> Graph:
    """MobileNet (Howard et al. 2017, table 1) with a linear layer as its last."""
    b = Builder()
    x = b.input("input", (1, 3, resolution, resolution))
    x = conv_bn_act(b, x, round_channels(32 * width), stride=2, activation="relu", key="stem")
    layers = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for index, (out, stride) in enumerate(layers, start=1):
        out = round_channels(out * width)
        x = depthwise_separable(b, x, out, stride=stride, activation="relu", key=f"block{index}")
    return b.graph(_classifier(b, x, classes))


def mobilenet_v2(width: float = 1.0, resolution: int = 224, classes: int = 1000) -> Graph:
    """MobileNetV2 (Sandler et al. 2018, table 2); the last convolution does not shrink below 1280 channels."""
    b = Builder()
    x = b.input("input", (1, 3, resolution, resolution))
    x = conv_bn_act(b, x, round_channels(32 * width), stride=2, key="stem")
    x = _stages(b, x, MOBILENET_V2_STAGES, width)[-1]
    x = conv_bn_act(b, x, round_channels(1280 * max(1.0, width)), kernel=1, key="head")
    return b.graph(_classifier(b, x, classes))


def ibn_detector_backbone(width: float = 1.0, resolution: int = 192) -> Graph:
    """The stages of MobileNetV2 without its head; outputs are the features at strides 8, 16 and 32."""
    b = Builder()
    x = b.input("input", (1, 3, resolution, resolution))
    x = conv_bn_act(b, x, round_channels(32 * width), stride=2, key="stem")
    ends = _stages(b, x, MOBILENET_V2_STAGES, width)
    return b.graph((ends[2], ends[4], ends[6]))


def ibn_classifier(classes: int = 2, resolution: int = 96, width: float = 1.0) -> Graph:
    """Nine inverted bottlenecks, most of the work at high resolution: small enough to train on a CPU."""
    b = Builder()
    x = b.input("input", (1, 3, resolution, resolution))
    x = conv_bn_act(b, x, round_channels(8 * width), stride=2, key="stem")
    x = _stages(b, x, IBN_STAGES, width)[-1]
    x = conv_bn_act(b, x, round_channels(128 * width), kernel=1, key="head")
    return b.graph(_classifier(b, x, classes))


def resnet8(classes: int = 10, resolution: int = 32) -> Graph:
    """The image classifier of MLPerf Tiny: a stem and three residual blocks of 16, 32 and 64 channels.

    Convolutions before a batch normalisation have no bias, which the normalisation would cancel.
    """
    b = Builder()
    x = b.input("input", (1, 3, resolution, resolution))
    x = conv_bn_act(b, x, 16, activation="relu", key="stem")
    for index, (out, stride) in enumerate(((16, 1), (32, 2), (64, 2)), start=1):
        x = residual_block(b, x, out, stride=stride, key=f"block{index}")
    return b.graph(_classifier(b, x, classes))


def ds_cnn(classes: int = 12, height: int = 49, width: int = 10) -> Graph:
    """The keyword spotter of MLPerf Tiny on `height` frames of `width` cepstral coefficients.

    Convolutions before a batch normalisation have no bias, which the normalisation would cancel.
    """
    b = Builder()
    x = b.input("input", (1, 1, height, width))
    (top, bottom), (left, right) = _cover(height, 10, 2), _cover(width, 4, 2)
    padding = (top, left, bottom, right)
    x = conv_bn_act(b, x, 64, kernel=(10, 4), stride=2, padding=padding, activation="relu", key="stem")
    for index in range(1, 5):
        x = depthwise_separable(b, x, 64, activation="relu", key=f"block{index}")
    return b.graph(_classifier(b, x, classes))


ZOO: Mapping[str, Callable[..., Graph]] = {
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "ibn_detector": ibn_detector_backbone,
    "ibn_classifier": ibn_classifier,
    "resnet8": resnet8,
    "ds_cnn": ds_cnn,
}

SCALABLE = ("mobilenet_v1", "mobilenet_v2", "ibn_detector", "ibn_classifier")
"""Names that take a width, and a resolution after it."""

RESIZABLE = (*SCALABLE, "resnet8")
"""Names that take a resolution."""


def from_zoo(name: str, seed: int = 0, classes: int | None = None) -> Network:
    """A baseline with seeded initial weights, by `name[-width][-resolution]`, as "mobilenet_v2-0.35-96" or "resnet8".

    A width has a decimal point, a resolution has none. Raises `InvalidInput` for an unknown name or a number that the
    network does not take.
    """
    base, *numbers = name.split("-")
    if base not in ZOO:
        raise InvalidInput(f"the zoo has no network {base!r}; it has {', '.join(ZOO)}")
    options: dict[str, float] = {}
    if numbers and "." in numbers[0] and base in SCALABLE:
        options["width"] = _number(name, numbers.pop(0), float)
    if numbers and base in RESIZABLE:
        options["resolution"] = _number(name, numbers.pop(0), int)
    if numbers:
        raise _meaningless(name, numbers[0])
    if classes is not None:
        if base == "ibn_detector":
            raise InvalidInput("ibn_detector gives features, not classes; leave classes out")
        options["classes"] = classes
    graph = ZOO[base](**options)
    return Network(name, graph, initialise(graph, np.random.default_rng(seed)))


def _number(name: str, text: str, kind: type[float]) -> float:
    try:
        number = kind(text)
    except ValueError:
        raise _meaningless(name, text) from None
    if not 0 < number < 1e5:
        raise InvalidInput(f"network {name!r}: {text} is out of range; a width or resolution is positive")
    return number


def _meaningless(name: str, text: str) -> InvalidInput:
    base = name.split("-")[0]
    takes = "[-width]" * (base in SCALABLE) + "[-resolution]" * (base in RESIZABLE)
    return InvalidInput(
        f"network {name!r}: {text!r} has no meaning; write {base}{takes} (0.5 is a width, 96 a resolution)"
    )


def _classifier(b: Builder, x: str, classes: int) -> str:
    x = b.global_pool(x, key="pool")
    x = b.reshape(x, (-1,), key="flatten")
    return b.linear(x, classes, key="classifier")


def _stages(b: Builder, x: str, stages: Sequence[Stage], width: float) -> list[str]:
    ends: list[str] = []
    for stage, (expansion, out, blocks, first_stride) in enumerate(stages, start=1):
        for block in range(1, blocks + 1):
            stride, key = first_stride if block == 1 else 1, f"stage{stage}.block{block}"
            x = inverted_bottleneck(b, x, round_channels(out * width), expansion=expansion, stride=stride, key=key)
        ends.append(x)
    return ends


def _cover(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after with which ceil(size / stride) windows cover everything (TensorFlow's "SAME")."""
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2

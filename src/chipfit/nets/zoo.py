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


Resolution = int | tuple[int, int]
"""Height and width of an image, one number where they are equal."""

SEGMENTER_STAGES: tuple[Stage, ...] = (
    (4, 16, 1, 1),
    (4, 24, 2, 2),
    (6, 40, 2, 2),
    (6, 80, 3, 2),
)

SPEECH_STAGES: tuple[Stage, ...] = (
    (3, 64, 2, 1),
    (3, 96, 3, 2),
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


def ibn_detector(width: float = 1.0, resolution: Resolution = 192, classes: int | None = None) -> Graph:
    """An anchor-free detector on the stages of MobileNetV2; without `classes` its features only, for another head.

    Features at strides 32 and 16 are added to those at stride 8 (Lin et al. 2017, figure 3); outputs are a heat map for
    each class, (1, classes, height / 8, width / 8), and four distances, (1, 4, height / 8, width / 8): see
    `tasks.centres`. Height and width must be multiples of 32, as upsampled features meet larger ones.
    """
    if classes is None:
        return ibn_detector_backbone(width, resolution)
    b = Builder()
    x = b.input("input", _image(resolution))
    x = conv_bn_act(b, x, round_channels(32 * width), stride=2, key="stem")
    ends = _stages(b, x, MOBILENET_V2_STAGES, width)
    out = round_channels(64 * width)
    x = _merged(b, [ends[2], ends[4], ends[6]], out, mode="nearest")
    x = inverted_bottleneck(b, x, out, expansion=4, key="head.block1")
    heat = depthwise_separable(b, x, out, key="head.heat.block")
    box = depthwise_separable(b, x, out, key="head.box.block")
    return b.graph((b.conv(heat, classes, bias=True, key="head.heat"), b.conv(box, 4, bias=True, key="head.box")))


def ibn_detector_backbone(width: float = 1.0, resolution: Resolution = 192) -> Graph:
    """The stages of MobileNetV2 without its head; outputs are the features at strides 8, 16 and 32."""
    b = Builder()
    x = b.input("input", _image(resolution))
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


def ibn_segmenter(
    classes: int = 11, resolution: Resolution = (96, 128), width: float = 1.0, output_stride: int = 4
) -> Graph:
    """Inverted bottlenecks down to stride 16, and a light decoder that adds what it upsamples to earlier features.

    The output is a score for each class and place, (1, classes, height / output_stride, width / output_stride), with an
    output stride of 2, 4 or 8. Height and width must be multiples of 16. Raises `InvalidInput` for another stride.
    """
    if output_stride not in (2, 4, 8):
        raise InvalidInput(f"ibn_segmenter gives its output at stride 2, 4 or 8, not {output_stride}")
    b = Builder()
    x = b.input("input", _image(resolution))
    x = conv_bn_act(b, x, round_channels(16 * width), stride=2, key="stem")
    ends = _stages(b, x, SEGMENTER_STAGES, width)
    out = round_channels(48 * width)
    x = _merged(b, ends[(2, 4, 8).index(output_stride) :], out, mode="bilinear")
    x = inverted_bottleneck(b, x, out, expansion=2, key="head.block1")
    return b.graph(b.conv(x, classes, bias=True, key="classifier"))


def conv_ctc(classes: int = 11, frames: int = 256, width: float = 1.0, bands: int = 40) -> Graph:
    """A recogniser of sequences for `F.ctc_loss`: inverted bottlenecks over time, each frame's `bands` its channels.

    Input (1, bands, frames, 1), output (1, classes, frames / 4, 1): scores, the first of them of "nothing new". No
    layer looks further ahead than a few frames (`nets.streaming.stream_of`), so that it can work on a stream.
    """
    b = Builder()
    x = b.input("input", (1, bands, frames, 1))
    x = conv_bn_act(b, x, round_channels(64 * width), kernel=(5, 1), stride=(2, 1), key="stem")
    for stage, (expansion, out, blocks, first_stride) in enumerate(SPEECH_STAGES, start=1):
        for block in range(1, blocks + 1):
            x = inverted_bottleneck(
                b, x, round_channels(out * width), expansion=expansion, kernel=(7, 1),
                stride=(first_stride if block == 1 else 1, 1), key=f"stage{stage}.block{block}",
            )  # fmt: skip
    x = conv_bn_act(b, x, round_channels(128 * width), kernel=1, key="head")
    return b.graph(b.conv(x, classes, bias=True, key="classifier"))


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
    "ibn_detector": ibn_detector,
    "ibn_classifier": ibn_classifier,
    "ibn_segmenter": ibn_segmenter,
    "conv_ctc": conv_ctc,
    "resnet8": resnet8,
    "ds_cnn": ds_cnn,
}

SCALABLE = ("mobilenet_v1", "mobilenet_v2", "ibn_detector", "ibn_classifier", "ibn_segmenter", "conv_ctc")
"""Names that take a width, and a resolution after it."""

RESIZABLE = (*SCALABLE, "resnet8")
"""Names that take a resolution; that of conv_ctc is its frames."""

OBLONG = ("ibn_detector", "ibn_segmenter")
"""Names whose resolution may be height x width."""


def from_zoo(name: str, seed: int = 0, classes: int | None = None) -> Network:
    """A baseline with seeded initial weights, by `name[-width][-resolution]`, as "mobilenet_v2-0.35-96" or "resnet8".

    A width has a decimal point, a resolution has none; "ibn_segmenter-96x128" takes images that are wider than high.
    `classes` is what the last layer gives; ibn_detector has a head only with it. Raises `InvalidInput` for an unknown
    name or a number that the network does not take.
    """
    base, *numbers = name.split("-")
    if base not in ZOO:
        raise InvalidInput(f"the zoo has no network {base!r}; it has {', '.join(ZOO)}")
    options: dict[str, float | Resolution] = {}
    if numbers and "." in numbers[0] and base in SCALABLE:
        options["width"] = _number(name, numbers.pop(0), float)
    if numbers and base in RESIZABLE:
        options["frames" if base == "conv_ctc" else "resolution"] = _resolution(name, numbers.pop(0))
    if numbers:
        raise _meaningless(name, numbers[0])
    if classes is not None:
        options["classes"] = classes
    graph = ZOO[base](**options)
    return Network(name, graph, initialise(graph, np.random.default_rng(seed)))


def _resolution(name: str, text: str) -> Resolution:
    height, cross, width = text.partition("x")
    if cross and name.split("-")[0] in OBLONG:
        return int(_number(name, height, int)), int(_number(name, width, int))
    return int(_number(name, text, int))


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


def _image(resolution: Resolution) -> tuple[int, int, int, int]:
    height, width = resolution if isinstance(resolution, tuple) else (resolution, resolution)
    return 1, 3, height, width


def _merged(b: Builder, features: Sequence[str], out: int, *, mode: str) -> str:
    """Features, each at half the size of the one before, as `out` channels at the size of the first, added."""
    merged = ""
    for level in range(len(features), 0, -1):
        lateral = conv_bn_act(b, features[level - 1], out, kernel=1, activation=None, key=f"neck.lateral{level}")
        if merged:
            larger = b.resize(merged, 2.0, mode=mode, key=f"neck.larger{level}")
            lateral = b.elementwise(lateral, larger, "add", key=f"neck.add{level}")
        merged = lateral
    return merged


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

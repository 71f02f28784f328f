"""The FBNet space (Wu et al., CVPR 2019) as HW-NAS-Bench (Li et al., ICLR 2021) has it: 22 layers, 9 blocks each."""

from __future__ import annotations

from functools import cache

from chipfit.errors import InvalidInput
from chipfit.graph.build import Builder, conv_bn_act
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Transpose
from chipfit.graph.values import choose

BLOCKS = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
"""Kernel, expansion and groups of a block, in the numbers of the public tables."""

LAYERS = (
    (16, 1),
    *((24, 1),) * 4,
    *((32, 2), *((32, 1),) * 3),
    *((64, 2), *((64, 1),) * 3),
    *((112, 1),) * 4,
    *((184, 2), *((184, 1),) * 3),
    (352, 1),
)
"""Output channels and stride of each layer, for images of 32 x 32."""

_KINDS = ((3, 1, 1), (3, 1, 2), (3, 3, 1), (3, 6, 1), (5, 1, 1), (5, 1, 2), (5, 3, 1), (5, 6, 1))
_STEM, _HEAD = 16, 1504

Code = tuple[int, ...]


@cache
def space(classes: int = 100, *, resolution: int = 32) -> Graph:
    """All networks of the space for CIFAR-100, open over the block of each of the 22 layers.

    "skip" is the identity, or a 1x1 convolution where the shape changes. Strides and what the first and last layers
    are were settled by the parameters and FLOPs of every row of the public table.
    """
    b = Builder()
    x = conv_bn_act(b, b.input("input", (1, 3, resolution, resolution)), _STEM, activation="relu", key="stem")
    for number, (out, stride) in enumerate(LAYERS, start=1):
        key = f"layer{number}"
        decision = b.decide(key, BLOCKS)
        ways = [
            _block(b, x, out, stride, kernel, expansion, groups, f"{key}.{name}")
            for name, (kernel, expansion, groups) in zip(BLOCKS, _KINDS, strict=False)
        ]
        same = stride == 1 and b.channels(x) == out
        skip = x if same else conv_bn_act(b, x, out, kernel=1, stride=stride, activation="relu", key=f"{key}.skip")
        x = b.select(choose(decision, tuple(range(len(BLOCKS)))), (*ways, skip), key=key)
    x = conv_bn_act(b, x, _HEAD, kernel=1, activation="relu", key="head")
    return b.graph(b.linear(b.reshape(b.global_pool(x, key="pool"), (-1,), key="flatten"), classes, key="classifier"))


def code_of(text: str) -> Code:
    """The code of a row of a public table, from its `arch`: "7_8_1_…". Raises `InvalidInput` for any other text."""
    parts = text.split("_")
    if len(parts) != len(LAYERS) or any(part not in "012345678" or len(part) != 1 for part in parts):
        raise InvalidInput(f"{text!r} is no network of FBNet; it is {len(LAYERS)} numbers from 0 to 8 joined by '_'")
    return tuple(int(part) for part in parts)


def _block(b: Builder, x: str, out: int, stride: int, kernel: int, expansion: int, groups: int, key: str) -> str:
    """Expansion, depthwise, projection (figure 3 of the paper); what groups keep apart is shuffled in between."""
    channels = b.channels(x)
    width = channels * expansion
    hidden = conv_bn_act(b, x, width, kernel=1, groups=groups, activation="relu", key=f"{key}.expand")
    if groups > 1:
        hidden = _shuffle(b, hidden, groups, f"{key}.shuffle")
    hidden = conv_bn_act(
        b, hidden, width, kernel=kernel, stride=stride, groups=width, activation="relu", key=f"{key}.depthwise"
    )
    hidden = conv_bn_act(b, hidden, out, kernel=1, groups=groups, activation=None, key=f"{key}.project")
    same = stride == 1 and channels == out
    return b.elementwise(x, hidden, "add", key=f"{key}.add") if same else hidden


def _shuffle(b: Builder, x: str, groups: int, key: str) -> str:
    """Channels dealt out over the groups (Zhang et al. 2018, 3.1)."""
    _, channels, height, width = b.shape(x)
    x = b.reshape(x, (groups, channels // groups, height * width), key=f"{key}.groups")
    x = b.add(Transpose((0, 2, 1, 3)), x, key=f"{key}.deal")
    return b.reshape(x, (channels, height, width), key=key)

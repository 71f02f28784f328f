"""What a network with weights surely computes as zero: channels that can be dropped, blocks that do nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.graph.graph import Node
from chipfit.graph.ops import (
    CLAMPS,
    Activation,
    BatchNorm,
    Concat,
    Conv2d,
    Elementwise,
    GlobalPool,
    Linear,
    Pad,
    Pool2d,
    Reshape,
    Resize,
)
from chipfit.graph.undone import undone
from chipfit.nets.network import Network
from chipfit.nets.recipes import scale_and_shift, weights_of

Mask = NDArray[np.bool_]

NOT_ZERO_AT_ZERO = ("sigmoid", "hard_sigmoid", "exp")


def zero_channels(network: Network) -> dict[str, Mask]:
    """For every tensor of a closed network, which channels are zero whatever the input.

    Channels are axis 1, in sequences (batch, rows, channels) the last axis. What cannot be told counts as not zero.
    """
    masks = {item.key: np.zeros(_channels(item.shape), bool) for item in network.graph.inputs}
    for node in network.graph.nodes:
        mask = _mask(network, node, masks)
        size = _channels(network.graph.shapes[node.key])
        masks[node.key] = mask if mask is not None and mask.shape == (size,) else np.zeros(size, bool)
    return masks


def equivalents(network: Network, zero: Mapping[str, Mask]) -> dict[str, str]:
    """For every tensor of a closed network, the first one that is surely equal to it.

    A sum is equal to its one operand where the other is `zero`, a clamp to its input where that is clamped alike, and
    changes of layout undo each other (`graph.undone`).
    """
    equal = {item.key: item.key for item in network.graph.inputs}
    shapes, nodes = network.graph.shapes, network.graph.by_key
    for node in network.graph.nodes:
        equal[node.key] = node.key
        if (source := undone(network.graph, node)) is not None:
            equal[node.key] = equal[source]
        elif isinstance(node.op, Elementwise) and node.op.function == "add":
            a, b = node.inputs
            for kept, lost in ((a, b), (b, a)):
                if shapes[kept] == shapes[node.key] and zero[lost].all():
                    equal[node.key] = equal[kept]
        elif isinstance(node.op, Activation) and node.op.function in CLAMPS:
            before = nodes.get(equal[node.inputs[0]])
            if before is not None and before.op == node.op:
                equal[node.key] = before.key
    return equal


def _channels(shape: tuple[Any, ...]) -> int:
    return int(shape[-1] if len(shape) == 3 else shape[1] if len(shape) > 1 else 1)


def _mask(network: Network, node: Node, masks: Mapping[str, Mask]) -> Mask | None:
    shapes = network.graph.input_shapes(node)
    zero = [masks[name] for name in node.inputs]
    match node.op:
        case Conv2d(groups=groups, out=out):
            weights = weights_of(network, node)
            filled = weights["weight"].any(axis=(2, 3))
            groups, out = int(groups), int(out)  # type: ignore[arg-type]
            inputs = np.repeat(zero[0].reshape(groups, -1), out // groups, axis=0)
            return ~(filled & ~inputs).any(axis=1) & (weights.get("bias", np.zeros(out)) == 0)
        case Linear() if len(shapes[0]) in (2, 3):
            weights = weights_of(network, node)
            used = (weights["weight"] != 0) & ~zero[0]
            return ~used.any(axis=1) & (weights.get("bias", np.zeros(len(used))) == 0)
        case BatchNorm() if len(shapes[0]) != 3:
            return zero[0] & (scale_and_shift(weights_of(network, node), node.op.eps)[1] == 0)
        case Activation(function=function):
            return zero[0] if function not in NOT_ZERO_AT_ZERO else None
        case Elementwise(function=function) if len(shapes[0]) == len(shapes[1]) and function != "div":
            return zero[0] | zero[1] if function == "mul" else zero[0] & zero[1]
        case Concat(axis=1) if len(shapes[0]) != 3:
            return np.concatenate(zero)
        case Pool2d() | GlobalPool() | Resize() | Pad(value=0):
            return zero[0]
        case Reshape() if len(shapes[0]) == 4 and len(network.graph.shapes[node.key]) == 2:
            return np.repeat(zero[0], int(shapes[0][2] * shapes[0][3]))  # type: ignore[arg-type]
        case _:
            return None

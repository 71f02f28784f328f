"""Weights of the network that was given in the form that another operator needs, before any channel is dropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.graph.graph import Graph, Node
from chipfit.graph.ops import Activation, BatchNorm, Conv2d, ConvTranspose2d, Linear, Op, Reshape
from chipfit.nets.lowering import lower
from chipfit.nets.network import Network

Array = NDArray[Any]

QUADRATURE_POINTS = 64


@dataclass(frozen=True, slots=True)
class Source:
    """Weights that a node can start from, at the widths of the network that was given.

    `reads` and `stands_for` are tensors of that network: what the node must read, and what it then gives. `why` says
    what is not exact about it, None where nothing is. `shift` is what a convolution without bias would have to add,
    `work` the operator whose settings the node should have, where that is not the one it stands for.
    """

    weights: Mapping[str, Array]
    reads: tuple[str, ...]
    stands_for: str
    why: str | None = None
    shift: Array | None = None
    work: Op | None = None


def source_of(given: Network, node: Node) -> Source | None:
    """What `node` of an edited network can start from; None where the network that was given has nothing like it."""
    known = given.graph.by_key
    recipe, sources = (node.origin.recipe, node.origin.sources) if node.origin else ("copy", (node.key,))
    if any(key not in known for key in sources) or not sources:
        return None
    last = known[sources[-1]]
    if recipe in ("compose", "merge"):
        return _composed(given, known[sources[0]], last, depthwise_first=recipe == "merge")
    if recipe == "behind":
        # A resize that comes after what it came before: together they give what that gave.
        return Source({}, (last.key,), last.key, work=known[sources[0]].op)
    if type(last.op) is not type(node.op):
        return None
    if recipe == "before" and last.inputs == (sources[0],):
        return Source(weights_of(given, last), known[sources[0]].inputs, last.key)
    if recipe in ("column", "row"):
        return _factored(given, last, recipe)
    weights = weights_of(given, last)
    if recipe == "dense":
        weights = weights | {"weight": _on_diagonal(weights["weight"], len(weights["weight"]))}
    return Source(weights, last.inputs, last.key)


def weights_of(given: Network, node: Node) -> dict[str, Array]:
    """The weights of one node by their own names."""
    names = node.op.weights(given.graph.input_shapes(node))
    return {name: given.weights[f"{node.key}.{name}"] for name in names}


def scale_and_shift(weights: Mapping[str, Array], eps: float) -> tuple[Array, Array]:
    """Batch normalisation in evaluation as y = scale * x + shift, both (channels,), in float64."""
    scale = weights["weight"].astype(np.float64) / np.sqrt(weights["running_var"].astype(np.float64) + eps)
    return scale, weights["bias"] - weights["running_mean"] * scale


def _on_diagonal(weight: Array, channels: int) -> Array:
    """A depthwise filter (channels, 1, h, w) as a full one (channels, channels, h, w)."""
    dense = np.zeros((channels, channels, *weight.shape[2:]), weight.dtype)
    index = np.arange(channels)
    dense[index, index] = weight[:, 0]
    return dense


def _factored(given: Network, convolution: Node, part: str) -> Source:
    """The column (k x 1) or the row (1 x k) of two convolutions that stand for one, without anything between.

    The filters as a matrix of (input channel, row) by (column, output channel), cut off behind as many singular values
    as the convolution has outputs (Jaderberg et al. 2014, section 2.1, scheme 2): of all pairs of that width the
    closest in the mean square. Each part has the root of the singular values, so that the channels between are in the
    order of what they carry.
    """
    weights = weights_of(given, convolution)
    filters = weights["weight"].astype(np.float64)
    out, channels, rows, columns = filters.shape
    matrix = filters.transpose(1, 2, 3, 0).reshape(channels * rows, columns * out)
    left, strengths, right = np.linalg.svd(matrix, full_matrices=False)
    scale = np.sqrt(strengths[:out])
    total = (strengths**2).sum()
    kept = (strengths[:out] ** 2).sum() / total if total else 1.0
    why = f"a column and a row in the place of one window keep {100 * kept:.4g} % of its filters' squares"
    if part == "column":
        column = (left[:, : len(scale)] * scale).T.reshape(len(scale), channels, rows, 1)
        return Source({"weight": column}, convolution.inputs, convolution.key, why)
    row = (scale[:, None] * right[: len(scale)]).reshape(len(scale), columns, out).transpose(2, 0, 1)[:, :, None]
    return Source(weights | {"weight": row}, (convolution.key,), convolution.key, why)


def _composed(given: Network, first: Node, second: Node, depthwise_first: bool) -> Source | None:
    """A 1x1 convolution and a depthwise one, in either order, and what stands between as one full convolution.

    Batch normalisation between folds in. An activation between is replaced by the straight line that comes closest to
    it, in the mean square, for normally distributed values with the mean and deviation that the normalisation says
    (without one: of independent unit inputs); that is a start for training, not the same function. Where something is
    added before a depthwise convolution that comes second, pixels at the zero padding differ as well.
    """
    between = _between(given.graph, first, second)
    if between is None or not isinstance(first.op, Conv2d) or not isinstance(second.op, Conv2d):
        return None
    before, behind = weights_of(given, first), weights_of(given, second)
    filters = before["weight"].astype(np.float64)
    offset = before["bias"].astype(np.float64) if "bias" in before else np.zeros(len(filters))
    why: list[str] = []
    scale = np.ones(len(filters))
    mean, deviation = offset, np.sqrt((filters**2).sum((1, 2, 3)))
    for node in between:
        weights = weights_of(given, node)
        if isinstance(node.op, BatchNorm):
            slope, constant = scale_and_shift(weights, node.op.eps)
            mean, deviation = weights["bias"].astype(np.float64), np.abs(weights["weight"].astype(np.float64))
        else:
            slope, constant = _line(node, weights, mean, deviation)
            why.append(f"the activation {node.key!r} became a straight line")
        scale, offset = scale * slope, offset * slope + constant
    if offset.any() and any(second.op.padding):
        why.append("pixels at the zero padding differ")
    filters = filters * scale[:, None, None, None]
    work = behind["weight"].astype(np.float64)
    if depthwise_first:
        weight, shift = work * filters[:, 0], work[:, :, 0, 0] @ offset
    else:
        weight, shift = work * filters, offset * work.sum((1, 2, 3))
    shift = shift + behind.get("bias", 0.0)
    window = first.op if depthwise_first else None
    return Source({"weight": weight}, first.inputs, second.key, " and ".join(why) or None, shift, window)


def _between(graph: Graph, first: Node, second: Node) -> list[Node] | None:
    """The batch normalisation and activation on the way from one node to the other."""
    found: list[Node] = []
    key = second.inputs[0]
    while key != first.key:
        node = graph.by_key.get(key)
        if node is None or not isinstance(node.op, (BatchNorm, Activation)):
            return None
        found.insert(0, node)
        key = node.inputs[0]
    return found


def _line(node: Node, weights: Mapping[str, Array], mean: Array, deviation: Array) -> tuple[Array, Array]:
    """Slope and constant per channel of the line that fits an activation best under N(mean, deviation^2).

    The slope is Cov(f(z), z) / Var(z), by Gauss-Hermite quadrature.
    """
    points, chances = np.polynomial.hermite_e.hermegauss(QUADRATURE_POINTS)
    chances = chances / chances.sum()
    spread = np.maximum(deviation, 1e-12)
    inputs = torch.tensor(mean + points[:, None] * spread)
    with torch.no_grad():
        values = lower(node, [tuple(inputs.shape)])(
            [inputs], [torch.tensor(array, dtype=torch.float64) for array in weights.values()], None
        ).numpy()
    slope = chances @ (values * points[:, None]) / spread
    return slope, chances @ values - slope * mean


def resized(weight: Array, kernel: Sequence[int]) -> tuple[Array, bool]:
    """A filter (out, in, h, w) in another window: with zeros around it, or its centre; whether only zeros were lost."""
    grown = [max(size - have, 0) for size, have in zip(kernel, weight.shape[2:], strict=True)]
    weight = np.pad(weight, [(0, 0), (0, 0), *((growth // 2, growth - growth // 2) for growth in grown)])
    top, left = ((have - size) // 2 for have, size in zip(weight.shape[2:], kernel, strict=True))
    centre = weight[:, :, top : top + kernel[0], left : left + kernel[1]]
    return centre, np.count_nonzero(centre) == np.count_nonzero(weight)


def same_work(new: Op, old: Op) -> bool:
    """Whether two operators of a kind do the same but for widths, and for windows that grew around one centre."""
    if isinstance(new, Conv2d) and isinstance(old, Conv2d):
        grown = [step * (a - b) // 2 for step, a, b in zip(new.dilation, new.kernel, old.kernel, strict=True)]
        pads = tuple(pad + grown[side % 2] for side, pad in enumerate(old.padding))
        return (new.stride, new.dilation, new.padding) == (old.stride, old.dilation, pads)
    if isinstance(new, (Linear, ConvTranspose2d)) and isinstance(old, (Linear, ConvTranspose2d)):
        return replace(new, out=old.out, bias=old.bias) == old
    return isinstance(new, Reshape) or new == old

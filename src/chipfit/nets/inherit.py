"""Weights for an edited network, from those of the network that it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.graph.channels import Axis, ChannelGroup, channels, is_depthwise
from chipfit.graph.graph import Graph, Node
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    LayerNorm,
    Linear,
    MatMul,
    Softmax,
)
from chipfit.graph.values import Shape
from chipfit.nets.network import Network, initialise
from chipfit.nets.recipes import Array, Source, resized, same_work, scale_and_shift, source_of
from chipfit.nets.zeros import equivalents, zero_channels

Label = Literal["exact", "approximate", "reinitialised"]

NEW = -1
"""Index of a channel that the network that was given does not have."""


@dataclass(frozen=True, slots=True)
class Inherited:
    """Weights of a closed graph, and by node key what they are.

    "exact": from the same inputs the node computes just what its counterpart in the network that was given does, on the
    channels that are left; "approximate": it has that one's weights, but something was lost or replaced;
    "reinitialised": nothing could be taken over. Where all nodes are exact and the input has its size, the outputs are
    those of the network that was given. `notes` say in words what was done, one line each.
    """

    weights: Mapping[str, NDArray[np.float32]]
    labels: Mapping[str, Label]
    notes: tuple[str, ...]


def inherit(
    given: Network, space: Graph, code: Sequence[int] | NDArray[np.int64], generator: np.random.Generator
) -> Inherited:
    """Weights for the network that `code` makes of `space` (a closed graph with an empty code), from those of `given`.

    `space` must come from edits of `given.graph`: nodes are found by key, and by their `Origin` where an edit added
    them. Of a narrowed channel group those channels stay whose filters have the largest L2 norm, times the scale of a
    batch normalisation behind, summed over the producers (Li et al. 2017, for groups); their order stays. Channels
    beyond those given start fresh, and nothing reads them yet. What has no counterpart is drawn as `initialise` does.
    Raises `InvalidInput` where `given` is open.
    """
    if given.graph.decisions:
        raise InvalidInput(f"weights are inherited from one network, but {given.name!r} is open; close it with a code")
    return _Heir(given, space.close(code)).inherit(generator)


@dataclass(frozen=True, slots=True)
class _Map:
    """Along one axis: for each channel its index in the network that was given, and how many there are."""

    index: NDArray[np.int64]
    given: int

    @property
    def dropped(self) -> NDArray[np.int64]:
        return np.setdiff1d(np.arange(self.given), self.index)


class _Misfit(Exception):
    """The weights of the counterpart have another shape than the channels say."""


class _Heir:
    """One walk over a closed graph in execution order."""

    def __init__(self, given: Network, graph: Graph) -> None:
        self.given = given
        self.graph = graph
        self.sources = {node.key: source_of(given, node) for node in graph.nodes}
        self.zero = zero_channels(given)
        self.equal = equivalents(given, self.zero)
        self.channels = channels(graph)
        self.notes: list[str] = []
        self.kept: list[_Map] = []
        for group in self.channels.groups:
            self.kept.append(self._kept(group))
        self.pending: dict[str, Array] = {}

    def inherit(self, generator: np.random.Generator) -> Inherited:
        weights = initialise(self.graph, generator)
        labels: dict[str, Label] = {}
        for node in self.graph.nodes:
            labels[node.key] = self._inherit(node, weights)
        for key, old in zip(self.graph.outputs, self.given.graph.outputs, strict=False):
            if key in labels and labels[key] == "exact" and not self._stands_for(key, old):
                labels[key] = "approximate"
                self.notes.append(f"{key}: is an output in the place of {old!r}")
        used = {source.stands_for for source in self.sources.values() if source is not None}
        used |= {key for node in self.graph.nodes if node.origin for key in node.origin.sources}
        if gone := [node.key for node in self.given.graph.nodes if node.key not in used]:
            self.notes.append(f"{len(gone)} nodes are gone: {', '.join(gone[:8])}{', …' if len(gone) > 8 else ''}")
        return Inherited(weights, labels, tuple(self.notes))

    def _inherit(self, node: Node, weights: dict[str, NDArray[np.float32]]) -> Label:
        """Overwrites the fresh weights of one node with what it inherits."""
        names = list(node.op.weights(self.graph.input_shapes(node)))
        source = self.sources[node.key]
        if source is None:
            self.notes.append(f"{node.key}: is new")
            return "reinitialised" if names else "approximate"
        source, why = self._prepared(node, source)
        taken: dict[str, NDArray[np.float32]] = {}
        try:
            for name in names:
                axes = self._weight_axes(node, name)
                fresh = weights[f"{node.key}.{name}"]
                taken[f"{node.key}.{name}"] = _take(source.weights[name], axes, fresh)
        except _Misfit as misfit:
            self.notes.append(f"{node.key}: reinitialised, {misfit}")
            return "reinitialised"
        weights.update(taken)
        why += self._changes(node, source)
        if why:
            self.notes.append(f"{node.key}: {'; '.join(why)}")
        return "approximate" if why else "exact"

    def _prepared(self, node: Node, source: Source) -> tuple[Source, list[str]]:
        """The source with the window and the bias of the node, and what that costs in exactness."""
        why = [source.why] if source.why else []
        weights = dict(source.weights)
        if isinstance(node.op, Conv2d):
            weights["weight"], lossless = resized(weights["weight"], [int(size) for size in node.op.kernel])  # type: ignore[arg-type]
            why += [] if lossless else ["the filters lost their rim"]
        if isinstance(node.op, (Conv2d, ConvTranspose2d, Linear)):
            shift = source.shift if source.shift is not None else weights.get("bias")
            readers = self.graph.consumers[node.key]
            if node.op.bias:
                channel = self._maps(node.key)[_channel_axis(node)]
                weights["bias"] = np.zeros(channel.given) if shift is None else shift
            elif shift is not None and shift.any():
                if len(readers) == 1 and isinstance(readers[0].op, BatchNorm):
                    self.pending[node.key] = shift
                else:
                    why.append("what it added as a constant is lost")
        elif isinstance(node.op, BatchNorm) and node.inputs[0] in self.pending:
            weights["running_mean"] = weights["running_mean"] - self.pending[node.inputs[0]]
        return replace(source, weights=weights), why

    def _changes(self, node: Node, source: Source) -> list[str]:
        """What makes a node with inherited weights compute something else than its counterpart."""
        why: list[str] = []
        old = self.given.graph.by_key[source.stands_for].op if source.work is None else source.work
        if not same_work(node.op, old):
            why.append("its window moves in another way" if isinstance(old, Conv2d) else "it has other settings")
        if len(node.inputs) != len(source.reads):
            return [*why, f"it has {len(node.inputs)} inputs, not {len(source.reads)}"]
        for name, expected in zip(node.inputs, source.reads, strict=True):
            if not self._stands_for(name, expected):
                why.append(f"it reads {name!r} in the place of {expected!r}")
        if isinstance(node.op, (Conv2d, ConvTranspose2d, Linear)):
            lost = self._lost(node, source)
            why += [f"{lost} input channels that were not zero are gone"] if lost else []
        mixed = _mixed_axes(node, self.graph.input_shapes(node))
        sizes = [self.given.graph.shapes[name] for name in source.reads]
        if any(self.graph.shapes[node.inputs[0]][axis] != sizes[0][axis] for axis in mixed):
            why.append("it mixes fewer or more channels")
        return why

    def _lost(self, node: Node, source: Source) -> int:
        """How many dropped input channels contributed to what the node computes."""
        axis = _channel_axis(node)
        channel = self._maps(node.inputs[0])[axis]
        dropped, weight, rank = channel.dropped, source.weights["weight"], len(self.graph.shapes[node.inputs[0]])
        if not len(dropped) or is_depthwise(node.op, self.graph.input_shapes(node)[0][1]):
            return 0
        if getattr(node.op, "groups", 1) != 1:
            return len(dropped)
        weight = np.moveaxis(weight, 0, 1) if isinstance(node.op, ConvTranspose2d) else weight
        outs = self._maps(node.key)[axis].index
        used = weight[np.ix_(outs[outs != NEW], dropped)].reshape(-1, len(dropped), *weight.shape[2:])
        mattered = used.any(axis=(0, *range(2, used.ndim)))
        zero = self.zero[source.reads[0]]
        if len(zero) == channel.given and (rank == 4) != isinstance(node.op, Linear):
            mattered &= ~zero[dropped]
        return int(mattered.sum())

    def _stands_for(self, key: str, expected: str) -> bool:
        """Whether a tensor of the graph takes the place of one of the network that was given, or of an equal one."""
        source = self.sources.get(key)
        given = source.stands_for if source is not None else key
        return given in self.equal and self.equal[given] == self.equal[expected]

    def _kept(self, group: ChannelGroup) -> _Map:
        """Which channels of a group stay. Where nothing of it was given, all are new."""
        width = int(group.width)  # type: ignore[arg-type]
        if not group.producers:
            return _Map(np.arange(width), width)
        filters = [found for key in group.producers if (found := self._filters(key)) is not None]
        sizes = {len(norm) for norm, _ in filters}
        if len(sizes) != 1:
            return _Map(np.full(width, NEW), 0)
        given = sizes.pop()
        if width >= given:
            return _Map(np.concatenate([np.arange(given), np.full(width - given, NEW)]), given)
        for key in group.producers:
            if (before := self._diagonal(key)) is not None and (before.given, len(before.index)) == (given, width):
                return before
        norm = sum((norm for norm, _ in filters), start=np.zeros(given))
        shift = sum((shift for _, shift in filters), start=np.zeros(given))
        order = np.lexsort((np.arange(given), -shift, -norm))
        self.notes.append(f"{group.name}: {width} of {given} channels kept, by the norm of their filters")
        return _Map(np.sort(order[:width]), given)

    def _diagonal(self, key: str) -> _Map | None:
        """For a depthwise convolution made a full one, the channels that it reads: it has to give the same ones."""
        node = self.graph.by_key[key]
        if node.origin is None or node.origin.recipe != "dense":
            return None
        axis = self.channels.axes[node.inputs[0]][1]
        known = axis is not None and all(part.group < len(self.kept) for part in axis)
        return self._map(axis, 0) if known else None

    def _filters(self, key: str) -> tuple[Array, Array] | None:
        """Norm of each filter of a producer and size of the constant that it adds, behind its batch normalisation."""
        node, source = self.graph.by_key[key], self.sources[key]
        if source is None:
            return None
        weight = source.weights["weight"]
        if isinstance(node.op, ConvTranspose2d):
            weight = np.tile(np.moveaxis(weight, 1, 0), (int(node.op.groups), *[1] * (weight.ndim - 1)))  # type: ignore[arg-type]
        norm = np.sqrt((weight.astype(np.float64) ** 2).reshape(len(weight), -1).sum(1))
        shift = source.weights.get("bias", np.zeros(len(weight))) if source.shift is None else source.shift
        readers = self.graph.consumers[key]
        behind = self.sources[readers[0].key] if len(readers) == 1 else None
        if behind is not None and isinstance(readers[0].op, BatchNorm) and len(behind.weights["bias"]) == len(norm):
            scale, constant = scale_and_shift(behind.weights, readers[0].op.eps)
            norm, shift = norm * np.abs(scale), shift * scale + constant
        return norm, np.abs(shift)

    def _map(self, axis: Axis, size: object) -> _Map:
        """Channels along an axis; one without groups has `size` entries, all as they were."""
        if axis is None:
            return _Map(np.arange(int(size)), int(size))  # type: ignore[call-overload]
        parts: list[NDArray[np.int64]] = []
        offset = 0
        for segment in axis:
            kept, repeat = self.kept[segment.group], int(segment.repeat)  # type: ignore[arg-type]
            spread = kept.index[:, None] * repeat + np.arange(repeat) + offset
            parts.append(np.where(kept.index[:, None] == NEW, NEW, spread).reshape(-1))
            offset += kept.given * repeat
        return _Map(np.concatenate(parts), offset)

    def _maps(self, key: str) -> list[_Map]:
        shape = self.graph.shapes[key]
        return [self._map(axis, size) for axis, size in zip(self.channels.axes[key], shape, strict=True)]

    def _weight_axes(self, node: Node, name: str) -> list[tuple[_Map, bool]]:
        """For the first axes of a weight, the map of its channels and whether they are inputs."""
        read = self._maps(node.inputs[0]) if node.inputs else []
        made = self._maps(node.key)
        match node.op:
            case Conv2d(groups=groups) | ConvTranspose2d(groups=groups):
                if name == "bias":
                    return [(made[1], False)]
                if groups != 1:
                    return [(made[1], False)] if is_depthwise(node.op, self.graph.shapes[node.inputs[0]][1]) else []
                return [(made[1], False), (read[1], True)][:: -1 if isinstance(node.op, ConvTranspose2d) else 1]
            case Linear():
                return [(made[-1], False)] if name == "bias" else [(made[-1], False), (read[-1], True)]
            case BatchNorm() | Activation():
                return [(read[1], False)]
            case LayerNorm(axes=axes):
                return [(channel, False) for channel in read[-axes:]]
            case _:
                return []


def _channel_axis(node: Node) -> int:
    """The axis of its channels, in what a convolution or linear layer reads and gives."""
    return -1 if isinstance(node.op, Linear) else 1


def _mixed_axes(node: Node, shapes: Sequence[Shape]) -> list[int]:
    """Axes of its first input that an operator without filters computes across."""
    match node.op:
        case Softmax(axis=axis):
            return [axis]
        case LayerNorm(axes=axes):
            return [len(shapes[0]) - 1 - axis for axis in range(axes)]
        case MatMul():
            return [len(shapes[0]) - 1]
        case _:
            return []


def _take(array: Array, axes: Sequence[tuple[_Map, bool]], fresh: NDArray[np.float32]) -> NDArray[np.float32]:
    """The part of `array` that `axes` name; new outputs are `fresh`, new inputs are not read yet."""
    for axis, (channel, reads) in enumerate(axes):
        if channel.given != array.shape[axis] or not (channel.index != NEW).any():
            raise _Misfit(f"{array.shape[axis]} channels were given, not {channel.given}")
        array = np.take(array, np.maximum(channel.index, 0), axis)
        if reads:
            array[(slice(None),) * axis + (channel.index == NEW,)] = 0
    if array.shape != fresh.shape:
        raise _Misfit(f"its weight was {array.shape}, not {fresh.shape}")
    result = array.astype(np.float32)
    for axis, (channel, reads) in enumerate(axes):
        if not reads:
            new = (slice(None),) * axis + (channel.index == NEW,)
            result[new] = fresh[new]
    return result

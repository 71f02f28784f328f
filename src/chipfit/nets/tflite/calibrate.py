"""From where to where the numbers of each tensor go, observed on real samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.graph.ops import Conv2d, Linear
from chipfit.nets.lowering import Run, lower
from chipfit.nets.network import Network

Samples = NDArray[np.float32] | tuple[NDArray[np.float32], ...]
"""The inputs of a batch: (n, channels, height, width) or another shape that the input has; one for each input."""


STEPS = 255
"""Between the lowest and the highest integer of 8 bits."""


def activation_ranges(network: Network, batches: Iterable[Samples]) -> dict[str, tuple[float, float]]:
    """Smallest and largest number of every tensor of a closed network, by key, over all samples in `batches`.

    The very ends and no percentile: on three classifiers trained on CIFAR-10, clipping at 99.9 % moved outputs three
    times as far as rounding does, clipping at 99.99 % a little further, and ranges of the least squared error were no
    better. Raises `InvalidInput` for an open graph, no samples, inputs that do not fit, or numbers that are not finite.
    """
    ranges: dict[str, tuple[float, float]] = {}
    for key, value in _values(network, batches):
        _observe(ranges, key, value, network.name)
    if not ranges:
        raise InvalidInput(f"{network.name}: no samples to calibrate with")
    return ranges


def without_silent_weights(
    network: Network, batches: Iterable[Samples], ranges: Mapping[str, tuple[float, float]]
) -> Network:
    """The network with zeros for weights that nothing of 8 bits reaches; `ranges` are those of the same samples.

    They are the weights of channels that stay within half a step of 0 on every sample, which is 0 in integers. Weights
    share a scale for each output channel, and a normalisation behind a channel that never changes folds into weights of
    thousands: left in, they take all bits from the others. Raises what `activation_ranges` raises.
    """
    readers = {node.inputs[0]: node for node in network.graph.nodes if isinstance(node.op, Conv2d | Linear)}
    peaks: dict[str, NDArray[np.float32]] = {}
    for key, value in _values(network, batches):
        if key in readers and value.ndim in (2, 4):
            peak = value.abs().amax([axis for axis in range(value.ndim) if axis != 1]).numpy()
            peaks[key] = np.maximum(peaks[key], peak) if key in peaks else peak
    weights = dict(network.weights)
    for node in network.graph.nodes:
        key, name = node.inputs[0] if node.inputs else "", f"{node.key}.weight"
        if key not in peaks or not isinstance(node.op, Conv2d | Linear) or weights[name].shape[1] != len(peaks[key]):
            continue
        low, high = ranges[key]
        silent = peaks[key] < (max(high, 0.0) - min(low, 0.0)) / STEPS / 2
        if silent.any():
            weights[name] = weights[name].copy()
            weights[name][:, silent] = 0.0
    return replace(network, weights=weights)


def _values(network: Network, batches: Iterable[Samples]) -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor of a closed network, by key, batch by batch."""
    graph = network.graph
    if graph.decisions:
        raise InvalidInput(f"{network.name}: {len(graph.decisions)} decisions are open; close it with a code")
    steps = [_step(network, index) for index in range(len(graph.nodes))]
    last_reads = _last_reads(network)
    for batch in batches:
        arrays = batch if isinstance(batch, tuple) else (batch,)
        shapes = [tuple(item.shape)[1:] for item in graph.inputs]
        if [array.shape[1:] for array in arrays] != shapes:
            raise InvalidInput(
                f"{network.name}: samples of shape {[array.shape for array in arrays]} do not fit {shapes}"
            )
        values = {item.key: torch.from_numpy(array) for item, array in zip(graph.inputs, arrays, strict=True)}
        yield from values.items()
        for node, (run, weights), done in zip(graph.nodes, steps, last_reads, strict=True):
            with torch.no_grad():
                values[node.key] = run([values[name] for name in node.inputs], weights, None)
            yield node.key, values[node.key]
            for key in done:
                del values[key]


def _step(network: Network, index: int) -> tuple[Run, list[torch.Tensor]]:
    node = network.graph.nodes[index]
    shapes = network.graph.input_shapes(node)
    weights = [torch.from_numpy(np.asarray(network.weights[f"{node.key}.{name}"])) for name in node.op.weights(shapes)]
    return lower(node, shapes), weights


def _observe(ranges: dict[str, tuple[float, float]], key: str, value: torch.Tensor, network: str) -> None:
    low, high = (float(end) for end in torch.aminmax(value))
    if not np.isfinite((low, high)).all():
        raise InvalidInput(f"{network}: {key!r} is not a finite number on some sample; check the weights")
    known = ranges.get(key, (low, high))
    ranges[key] = min(low, known[0]), max(high, known[1])


def _last_reads(network: Network) -> list[list[str]]:
    """For each node, the tensors that nothing reads after it."""
    done: list[list[str]] = []
    later: set[str] = set()
    for node in reversed(network.graph.nodes):
        done.append([name for name in dict.fromkeys((node.key, *node.inputs)) if name not in later])
        later.update((node.key, *node.inputs))
    return done[::-1]

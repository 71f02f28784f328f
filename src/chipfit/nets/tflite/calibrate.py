"""From where to where the numbers of each tensor go, observed on real samples."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.nets.lowering import Run, lower
from chipfit.nets.network import Network

Samples = NDArray[np.float32] | tuple[NDArray[np.float32], ...]
"""The inputs of a batch: (n, channels, height, width) or another shape that the input has; one for each input."""


def activation_ranges(network: Network, batches: Iterable[Samples]) -> dict[str, tuple[float, float]]:
    """Smallest and largest number of every tensor of a closed network, by key, over all samples in `batches`.

    The very ends and no percentile: on three classifiers trained on CIFAR-10, clipping at 99.9 % moved outputs three
    times as far as rounding does, clipping at 99.99 % a little further, and ranges of the least squared error were no
    better. Raises `InvalidInput` for an open graph, no samples, inputs that do not fit, or numbers that are not finite.
    """
    graph = network.graph
    if graph.decisions:
        raise InvalidInput(f"{network.name}: {len(graph.decisions)} decisions are open; close it with a code")
    steps = [_step(network, index) for index in range(len(graph.nodes))]
    last_reads = _last_reads(network)
    ranges: dict[str, tuple[float, float]] = {}
    for batch in batches:
        arrays = batch if isinstance(batch, tuple) else (batch,)
        shapes = [tuple(item.shape)[1:] for item in graph.inputs]
        if [array.shape[1:] for array in arrays] != shapes:
            raise InvalidInput(
                f"{network.name}: samples of shape {[array.shape for array in arrays]} do not fit {shapes}"
            )
        values = {item.key: torch.from_numpy(array) for item, array in zip(graph.inputs, arrays, strict=True)}
        for key, value in values.items():
            _observe(ranges, key, value, network.name)
        for node, (run, weights), done in zip(graph.nodes, steps, last_reads, strict=True):
            with torch.no_grad():
                values[node.key] = run([values[name] for name in node.inputs], weights, None)
            _observe(ranges, node.key, values[node.key], network.name)
            for key in done:
                del values[key]
    if not ranges:
        raise InvalidInput(f"{network.name}: no samples to calibrate with")
    return ranges


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

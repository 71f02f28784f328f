"""Weights that nothing of 8 bits reaches take no bits from the others."""

from pathlib import Path

import numpy as np
import pytest
import torch

from chipfit.graph.build import Builder
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network, initialise
from chipfit.nets.tflite.calibrate import activation_ranges, without_silent_weights
from chipfit.nets.tflite.exporter import export_tflite
from chipfit.nets.tflite.runtime import run_tflite

DEAD = 2


def network(level: float, kind: str) -> Network:
    """Two layers; of the tensor between them channel `DEAD` is `level` everywhere, and its weights are in thousands."""
    b = Builder()
    x = b.activation(
        b.conv(b.input("input", (1, 3, 6, 6)), 6, kernel=3, padding=1, bias=True, key="first"), "relu6", key="act"
    )
    if kind == "conv":
        graph = b.graph(b.conv(x, 4, kernel=3, padding=1, bias=True, key="second"))
    else:
        graph = b.graph(b.linear(b.reshape(b.global_pool(x, key="pool"), (-1,), key="flat"), 4, key="second"))
    weights = initialise(graph, np.random.default_rng(0))
    weights["first.weight"][DEAD] = 0.0
    weights["first.bias"][:] = 0.5
    weights["first.bias"][DEAD] = level
    weights["second.weight"][:, DEAD] = 3000.0
    return Network("net", graph, weights)


def batches() -> list[np.ndarray]:
    return [np.random.default_rng(seed).uniform(-1, 1, (8, 3, 6, 6)).astype(np.float32) for seed in range(3)]


@pytest.mark.parametrize("kind", ["conv", "linear"])
@pytest.mark.parametrize("level", [-1.0, 0.0])
def test_a_dead_channel_takes_no_bits_from_the_others(tmp_path: Path, kind: str, level: float) -> None:
    net, samples = network(level, kind), batches()
    ranges = activation_ranges(net, samples)
    with torch.no_grad():
        wanted = GraphModule(net.graph, net.weights).eval()(torch.from_numpy(samples[0])).numpy()

    def off(given: Network, name: str) -> float:
        path = tmp_path / name
        export_tflite(given, path, ranges=ranges)
        return float(np.abs(run_tflite(path, samples[0])[0] - wanted).mean() / wanted.std())

    assert off(without_silent_weights(net, samples, ranges), "mended.tflite") < 0.05
    assert off(net, "as_given.tflite") > 0.3


@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_what_8_bits_can_feel_stays(kind: str) -> None:
    samples = batches()
    net = network(0.05, kind)
    ranges = activation_ranges(net, samples)
    mended = without_silent_weights(net, samples, ranges)
    for name, array in net.weights.items():
        assert np.array_equal(mended.weights[name], array)


def test_only_weights_of_silent_channels_change() -> None:
    samples, net = batches(), network(0.0, "conv")
    mended = without_silent_weights(net, samples, activation_ranges(net, samples))
    changed = {name for name, array in net.weights.items() if not np.array_equal(mended.weights[name], array)}
    assert changed == {"second.weight"}
    others = [channel for channel in range(6) if channel != DEAD]
    assert np.array_equal(mended.weights["second.weight"][:, others], net.weights["second.weight"][:, others])
    assert not mended.weights["second.weight"][:, DEAD].any()

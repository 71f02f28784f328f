"""The zoo: figures that others published for these networks, and PyTorch's own count of their MACs."""

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Conv2d
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network
from chipfit.nets.streaming import stream_of
from chipfit.nets.zoo import (
    RESIZABLE,
    SCALABLE,
    ZOO,
    conv_ctc,
    ds_cnn,
    from_zoo,
    ibn_classifier,
    ibn_detector,
    ibn_detector_backbone,
    ibn_segmenter,
    mobilenet_v1,
    mobilenet_v2,
    resnet8,
    round_channels,
)


def parameters(graph: Graph, statistics: bool = False) -> int:
    """Numbers that are learned; with `statistics`, running means and variances too."""
    shapes = [shape for name, shape in graph.weights() if statistics or ".running_" not in name]
    return sum(int(np.prod(shape)) for shape in shapes)


def macs(graph: Graph) -> int:
    return sum(int(graph.macs(node)) for node in graph.nodes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("graph", "published"),
    [
        (mobilenet_v1(), 4_231_976),
        (mobilenet_v2(), 3_504_872),
        (mobilenet_v2(0.5), 1_968_680),
    ],
)
def test_learned_parameters_are_the_published_ones(graph: Graph, published: int) -> None:
    assert parameters(graph) == published


@pytest.mark.parametrize(
    ("graph", "published", "needless_biases"),
    [(resnet8(), 78_666, 16 * 3 + 32 * 2 + 64 * 2), (ds_cnn(), 24_908, 64 * 9)],
)
def test_mlperf_tiny_networks_have_the_published_size_without_needless_biases(
    graph: Graph, published: int, needless_biases: int
) -> None:
    # The published counts hold running statistics, and biases that the normalisation after them cancels.
    assert parameters(graph, statistics=True) == published - needless_biases


@pytest.mark.parametrize(
    ("graph", "published_millions"),
    [(mobilenet_v1(), 569), (mobilenet_v2(), 300.8), (mobilenet_v2(1.4), 582), (mobilenet_v2(0.5), 97.1)],
)
def test_macs_are_the_published_ones(graph: Graph, published_millions: float) -> None:
    assert macs(graph) / 1e6 == pytest.approx(published_millions, abs=0.5)


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v1-0.25-64",
        "mobilenet_v2-0.35-64",
        "ibn_detector-0.5-64",
        "ibn_classifier-64",
        "ibn_segmenter-0.5-64x96",
        "conv_ctc-0.5-64",
        "resnet8",
        "ds_cnn",
    ],
)
def test_macs_are_those_that_torch_counts(name: str) -> None:
    network = from_zoo(name, seed=1)
    module = GraphModule(network.graph, network.weights).eval()
    (image,) = network.graph.inputs
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        outputs = module(torch.rand(2, *image.shape[1:]))
    assert counter.get_total_flops() == 2 * 2 * macs(network.graph)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    assert [(1, *x.shape[1:]) for x in outputs] == [network.graph.shapes[key] for key in network.graph.outputs]
    assert all(x.isfinite().all() and x.std() > 1e-4 for x in outputs)


def test_a_fresh_network_learns_at_once() -> None:
    network = from_zoo("ibn_classifier-32", seed=0)
    module = GraphModule(network.graph, network.weights).train()
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(32) % 2
    images = torch.rand(32, 3, 32, 32, generator=generator) * 0.2 + labels[:, None, None, None] * 0.5
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    losses: list[float] = []
    for _ in range(8):
        loss = torch.nn.functional.cross_entropy(module(images), labels)  # type: ignore[arg-type]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def test_detector_features_have_strides_8_16_and_32() -> None:
    for width, resolution in ((1.0, 192), (0.5, 256)):
        graph = ibn_detector_backbone(width, resolution)
        sizes = [graph.shapes[key][2:] for key in graph.outputs]
        assert sizes == [(resolution // stride, resolution // stride) for stride in (8, 16, 32)]


def test_a_detector_gives_heat_and_distances_at_stride_8() -> None:
    for width, resolution, classes in ((1.0, 192, 1), (0.35, 96, 3), (0.5, (64, 96), 2)):
        graph = ibn_detector(width, resolution, classes)
        height, wide = resolution if isinstance(resolution, tuple) else (resolution, resolution)
        cells = (height // 8, wide // 8)
        assert [graph.shapes[key] for key in graph.outputs] == [(1, classes, *cells), (1, 4, *cells)]
    assert ibn_detector(0.5, 64) == ibn_detector_backbone(0.5, 64)
    assert from_zoo("ibn_detector-0.5-64x96", classes=2).graph == graph


def test_a_segmenter_gives_scores_at_the_stride_that_is_asked_for() -> None:
    for stride in (2, 4, 8):
        graph = ibn_segmenter(5, (64, 96), 0.5, stride)
        assert [graph.shapes[key] for key in graph.outputs] == [(1, 5, 64 // stride, 96 // stride)]
    assert from_zoo("ibn_segmenter-0.5-64x96", classes=5).graph == ibn_segmenter(5, (64, 96), 0.5)
    with pytest.raises(InvalidInput, match="at stride 2, 4 or 8, not 3"):
        ibn_segmenter(output_stride=3)


def test_a_recogniser_looks_only_so_far_ahead() -> None:
    network = from_zoo("conv_ctc-0.5-128", seed=2)
    assert network.graph == conv_ctc(frames=128, width=0.5)
    stream = stream_of(network.graph)
    assert stream is not None
    assert stream.step == 4
    assert 10 < stream.ahead < 64


def test_the_presence_network_is_small_and_works_mostly_at_high_resolution() -> None:
    graph = ibn_classifier()
    assert 100_000 < parameters(graph) < 250_000
    assert 10e6 < macs(graph) < 20e6
    convolutions = [node for node in graph.nodes if isinstance(node.op, Conv2d)]
    early = [node for node in convolutions if graph.shapes[node.inputs[0]][2] >= 24]  # type: ignore[operator]
    assert sum(int(graph.macs(node)) for node in early) > macs(graph) / 2  # type: ignore[arg-type]
    assert sum(node.key.endswith(".project") for node in graph.nodes) == 9


@pytest.mark.parametrize(
    ("channels", "rounded"), [(32 * 0.35, 16), (24 * 0.35, 8), (3, 8), (12, 16), (11.9, 16), (96 * 0.35, 32), (20, 24)]
)
def test_channels_are_rounded_to_eights_and_lose_no_more_than_a_tenth(channels: float, rounded: int) -> None:
    assert round_channels(channels) == rounded
    assert rounded >= 0.9 * channels


def test_short_names_are_the_functions_with_their_numbers() -> None:
    assert from_zoo("mobilenet_v2-0.35-96").graph == mobilenet_v2(0.35, 96)
    assert from_zoo("mobilenet_v2-96").graph == mobilenet_v2(1.0, 96)
    assert from_zoo("ibn_classifier-0.5").graph == ibn_classifier(width=0.5)
    assert from_zoo("resnet8-64").graph == resnet8(resolution=64)
    for name, function in ZOO.items():
        network = from_zoo(name)
        assert isinstance(network, Network)
        assert network.graph == function()
        assert network.name == name
    assert set(SCALABLE) <= set(RESIZABLE) <= set(ZOO)


def test_the_seed_decides_the_weights() -> None:
    first, again, other = (from_zoo("ds_cnn", seed).weights for seed in (0, 0, 1))
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["stem.weight"] != other["stem.weight"]).any()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenet_v9", "no network 'mobilenet_v9'; it has mobilenet_v1, mobilenet_v2"),
        ("", "no network ''"),
        ("resnet8-0.5", r"'0\.5' has no meaning; write resnet8\[-resolution\]"),
        ("ds_cnn-49", "'49' has no meaning"),
        ("mobilenet_v2-0.5-96-3", "'3' has no meaning"),
        ("mobilenet_v2-wide", "'wide' has no meaning"),
        ("mobilenet_v2-0.0", "out of range"),
        ("mobilenet_v2-1.x", "'1.x' has no meaning"),
        ("mobilenet_v2-nan.-96", "'nan.' has no meaning"),
    ],
)
def test_a_name_that_means_nothing_is_refused(name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        from_zoo(name)

"""A network over frames depends on just the frames that are told, and a step does just its part of the work."""

import numpy as np
import pytest
import torch

from chipfit.errors import InvalidInput
from chipfit.graph.build import Builder, conv_bn_act
from chipfit.graph.graph import Graph
from chipfit.graph.totals import count_macs
from chipfit.nets.module import GraphModule
from chipfit.nets.network import initialise
from chipfit.nets.streaming import Stream, stream_of, with_frames
from chipfit.nets.zoo import conv_ctc, ds_cnn, ibn_segmenter
from chipfit.spaces.edits import open_space


def lopsided(frames: int = 96) -> Graph:
    """Windows that look back more than ahead, with gaps, and a stride of 3."""
    b = Builder()
    x = b.input("x", (1, 4, frames, 1))
    x = b.conv(x, 8, kernel=(5, 1), padding=(4, 0, 0, 0), key="causal")
    x = conv_bn_act(b, x, 8, kernel=(3, 1), stride=(3, 1), key="strided")
    short = x
    x = b.conv(x, 8, kernel=(3, 1), dilation=(2, 1), padding=(3, 0, 1, 0), key="gaps")
    return b.graph(b.elementwise(x, short, "add", key="sum"))


NETWORKS = {"conv_ctc": lambda: conv_ctc(classes=3, frames=128, width=0.25, bands=12), "lopsided": lopsided}


@pytest.mark.parametrize("name", NETWORKS)
def test_an_output_depends_on_just_the_frames_around_it(name: str) -> None:
    graph = NETWORKS[name]()
    stream = stream_of(graph)
    assert stream is not None
    module = GraphModule(graph, initialise(graph, np.random.default_rng(0))).eval().double()
    frames = int(graph.inputs[0].shape[2])  # type: ignore[arg-type]
    inputs = torch.randn(graph.inputs[0].shape, generator=torch.Generator().manual_seed(0)).double().requires_grad_()
    output = module(inputs)
    assert isinstance(output, torch.Tensor)
    assert output.shape[2] * stream.step == frames
    place = output.shape[2] // 2
    output[:, :, place].square().sum().backward()
    assert inputs.grad is not None
    seen = torch.nonzero(inputs.grad.abs().sum(dim=1).flatten()).flatten().tolist()
    assert (seen[0], seen[-1]) == (place * stream.step - stream.behind, place * stream.step + stream.ahead)
    assert stream.window == seen[-1] - seen[0] + 1


@pytest.mark.parametrize("name", NETWORKS)
def test_a_step_does_its_part_of_the_work(name: str) -> None:
    graph = NETWORKS[name]()
    stream = stream_of(graph)
    assert stream is not None
    step = with_frames(graph, stream.step)
    assert step.shapes[step.outputs[0]][2] == 1
    assert count_macs(step) * graph.shapes[graph.outputs[0]][2] == count_macs(graph)
    assert dict(step.weights()) == dict(graph.weights())


def test_what_a_frame_waits_for() -> None:
    assert Stream(step=4, behind=9, ahead=7).wait == 7
    # Without looking ahead, frames still wait for the one that completes the step.
    assert Stream(step=4, behind=9, ahead=0).wait == 3


def test_the_frames_that_are_told_are_those_of_the_edges() -> None:
    assert stream_of(lopsided()) == Stream(step=3, behind=4 + 1 + 9, ahead=1 + 3)


def mixing() -> Graph:
    b = Builder()
    x = b.conv(b.input("x", (1, 4, 32, 1)), 8, kernel=(3, 1), padding=(1, 0, 1, 0), key="mix")
    return b.graph(b.elementwise(x, b.global_pool(x, key="mean"), "mul", key="gated"))


@pytest.mark.parametrize(
    "graph", [ibn_segmenter(3, 32), ds_cnn(), mixing(), open_space(conv_ctc(width=0.25), {"fuse": True})]
)
def test_others_are_no_streams(graph: Graph) -> None:
    assert stream_of(graph) is None
    with pytest.raises(InvalidInput, match="no network over frames"):
        with_frames(graph, 8)

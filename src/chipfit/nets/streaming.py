"""Networks over time at work on a stream: how often an output is due, and how far around it a network looks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Activation, BatchNorm, Conv2d, Elementwise, Softmax

ANY_LENGTH = (Activation, BatchNorm, Conv2d, Elementwise, Softmax)
"""Operators that do the same at every frame, however many there are."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A network over frames. There is an output for every `step` frames, and output t belongs to frame t x `step`.

    It depends on that frame, on at most `behind` frames before and on at most `ahead` after it.
    """

    step: int
    behind: int
    ahead: int

    @property
    def window(self) -> int:
        """All frames that one output depends on."""
        return self.behind + 1 + self.ahead

    @property
    def wait(self) -> int:
        """Frames from one that an output belongs to until that output can be computed, at most."""
        return max(self.ahead, self.step - 1)


def stream_of(graph: Graph) -> Stream | None:
    """How a closed network works on a stream; None where it cannot: it is no network over frames alone.

    Such take one input (1, channels, frames, 1) and consist of operators that do the same at every frame.
    """
    if graph.decisions or len(graph.inputs) != 1 or len(graph.inputs[0].shape) != 4 or graph.inputs[0].shape[3] != 1:
        return None
    if not all(isinstance(node.op, ANY_LENGTH) for node in graph.nodes) or len(graph.outputs) != 1:
        return None
    if any(isinstance(node.op, Softmax) and node.op.axis not in (1, -3) for node in graph.nodes):
        return None
    found = {graph.inputs[0].key: Stream(1, 0, 0)}
    for node in graph.nodes:
        before = [found[name] for name in node.inputs]
        if len({each.step for each in before}) != 1:
            return None
        step, behind, ahead = before[0].step, max(b.behind for b in before), max(b.ahead for b in before)
        if isinstance(node.op, Conv2d):
            kernel, dilation, padding, stride = (
                cast(int, value)
                for value in (node.op.kernel[0], node.op.dilation[0], node.op.padding[0], node.op.stride[0])
            )
            behind += step * padding
            ahead += step * ((kernel - 1) * dilation - padding)
            step *= stride
        found[node.key] = Stream(step, behind, ahead)
    last = found[graph.outputs[0]]
    return last if last.ahead >= 0 and cast(int, graph.inputs[0].shape[2]) >= last.step > 0 else None


def with_frames(graph: Graph, frames: int) -> Graph:
    """A network that `stream_of` knows, for another number of frames.

    With the frames of one step each of its convolutions computes just what a step on a stream adds to what was computed
    before, if the latest inputs of every convolution are kept. Raises `InvalidInput` for other networks.
    """
    if stream_of(graph) is None:
        raise InvalidInput("a network that is no network over frames alone cannot take another number of them")
    given = graph.inputs[0]
    return replace(graph, inputs=(replace(given, shape=(*given.shape[:2], frames, 1)),))

"""Small random spaces: networks with open widths, kernels, input sizes, alternatives and skipped blocks."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Concat,
    Constant,
    Conv2d,
    Elementwise,
    GlobalPool,
    Linear,
    Op,
    Pool2d,
    Reshape,
    Resize,
    Select,
)
from chipfit.graph.values import Decision, Value, choose

MOST_CODES = 48
"""Networks that a drawn space has at most, so that a test can look at all of them."""


def codes_of(graph: Graph) -> NDArray[np.int64]:
    """Every code of a space, (n, d)."""
    codes = list(itertools.product(*(range(len(decision)) for decision in graph.decisions)))
    return np.array(codes, dtype=np.int64).reshape(len(codes), len(graph.decisions))


@dataclass
class _Tensor:
    key: str
    channels: Value
    level: int
    """How often height and width have been halved."""


@dataclass
class _Drawing:
    """A graph while hypothesis draws it. Tensors of one level have the same height and width under every code."""

    draw: st.DrawFn
    nodes: list[Node] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    tensors: list[_Tensor] = field(default_factory=list)

    def value(self, numbers: list[int], odds: int = 2) -> Value:
        """One of `numbers`, or a choice among them by a decision that is new or used before."""
        if self.draw(st.integers(0, odds)) == 0:
            return self.draw(st.sampled_from(numbers))
        value = self.choice(numbers)
        if self.draw(st.integers(0, 4)) == 0:
            value = value * self.choice([1, 2])
        return value

    def choice(self, numbers: list[int]) -> Value:
        open_codes = math.prod(len(decision) for decision in self.decisions)
        options = self.draw(st.integers(2, 3))
        if not self.decisions or (open_codes * options <= MOST_CODES and self.draw(st.booleans())):
            self.decisions.append(Decision(f"d{len(self.decisions)}", tuple(range(options))))
            decision = self.decisions[-1]
        else:
            decision = self.draw(st.sampled_from(self.decisions))
        picked = st.lists(st.sampled_from(numbers), min_size=len(decision), max_size=len(decision))
        return choose(decision, tuple(self.draw(picked)))

    def node(self, op: Op, *inputs: str) -> str:
        key = f"n{len(self.nodes)}"
        self.nodes.append(Node(key, op, inputs))
        return key

    def made(self, op: Op, source: _Tensor, channels: Value | None = None, level: int | None = None) -> _Tensor:
        key = self.node(op, source.key)
        return _Tensor(key, source.channels if channels is None else channels, source.level if level is None else level)

    def followed(self, tensor: _Tensor) -> _Tensor:
        """The tensor after any batch normalisation and activations."""
        for op in (BatchNorm(), Activation("relu6"), Activation("hard_swish")):
            if self.draw(st.booleans()):
                tensor = self.made(op, tensor)
        return tensor

    def conv(self, source: _Tensor) -> _Tensor:
        kernel = self.choice([1, 3, 5]) if self.draw(st.booleans()) else self.draw(st.sampled_from([1, 3, 5]))
        pad = (kernel - 1) // 2
        stride = self.draw(st.sampled_from([1, 2])) if source.level < 2 else 1
        depthwise = self.draw(st.booleans())
        out = source.channels if depthwise else self.value([4, 8, 12])
        op = Conv2d(
            out,
            (kernel, kernel),
            (stride, stride),
            (pad, pad, pad, pad),
            groups=source.channels if depthwise else 1,
            bias=self.draw(st.booleans()),
        )
        return self.followed(self.made(op, source, out, source.level + (stride == 2)))

    def pick(self, *, like: _Tensor | None = None, same_channels: bool = False) -> _Tensor:
        """A tensor drawn before, of the level (and channels) of another one."""
        fitting = [
            tensor
            for tensor in self.tensors
            if like is None or (tensor.level == like.level and (not same_channels or tensor.channels == like.channels))
        ]
        return self.draw(st.sampled_from(fitting[-4:]))

    def step(self) -> None:
        kind = self.draw(st.sampled_from(["conv", "conv", "add", "concat", "select", "skip", "pool", "up", "scale"]))
        source = self.pick()
        if kind == "conv":
            made = self.conv(source)
        elif kind == "add":
            other = self.pick(like=source, same_channels=True)
            key = self.node(Elementwise("add"), source.key, other.key)
            made = self.followed(_Tensor(key, source.channels, source.level))
        elif kind == "concat":
            other = self.pick(like=source)
            key = self.node(Concat(1), source.key, other.key)
            made = _Tensor(key, source.channels + other.channels, source.level)
        elif kind == "select":
            made = self.select([source, self.pick(like=source), self.pick(like=source)])
        elif kind == "skip":
            op = Conv2d(source.channels, (3, 3), padding=(1, 1, 1, 1))
            made = self.select([self.followed(self.made(op, source)), source])
        elif kind == "pool" and source.level < 2:
            made = self.made(Pool2d("max", (2, 2), (2, 2)), source, level=source.level + 1)
        elif kind == "up" and source.level > 0:
            made = self.made(Resize("nearest", scale=(2.0, 2.0)), source, level=source.level - 1)
        else:
            size = (1, source.channels, 1, 1)
            constant = self.node(Constant(size))
            function = self.draw(st.sampled_from(["add", "mul"]))
            made = _Tensor(self.node(Elementwise(function), source.key, constant), source.channels, source.level)
        self.tensors.append(made)

    def select(self, alternatives: list[_Tensor]) -> _Tensor:
        index = self.choice(list(range(len(alternatives))))
        key = self.node(Select(index), *(tensor.key for tensor in alternatives))
        made = Select(index).shape([(tensor.channels,) for tensor in alternatives])
        return _Tensor(key, made[0], alternatives[0].level)


@st.composite
def spaces(draw: st.DrawFn, most_steps: int = 9) -> Graph:
    """A valid graph with at most `MOST_CODES` codes; some decisions may not matter, some nodes may be dead."""
    drawing = _Drawing(draw)
    size = drawing.value([8, 16], odds=1)
    drawing.tensors.append(_Tensor("image", 4, 0))
    for _ in range(draw(st.integers(1, most_steps))):
        drawing.step()
    outputs = [drawing.tensors[-1].key]
    if draw(st.booleans()):
        pooled = drawing.node(GlobalPool(), outputs[0])
        outputs = [drawing.node(Linear(10), drawing.node(Reshape((-1,)), pooled))]
    if draw(st.integers(0, 3)) == 0:
        outputs.append(drawing.pick().key)
    decisions = draw(st.permutations(drawing.decisions))
    return Graph(
        (Input("image", (1, 4, size, size)),),
        tuple(drawing.nodes),
        tuple(dict.fromkeys(outputs)),
        tuple(decisions),
    )

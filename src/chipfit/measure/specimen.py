"""Subgraphs to measure: an operator with what runs fused with it, alone or in the middle of a small network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from chipfit.graph.build import Builder
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Activation, BatchNorm, Constant, Elementwise, Op
from chipfit.graph.subgraphs import FOLDED, cut
from chipfit.graph.values import Shape
from chipfit.graph.workload import Workload

NAME = "specimen"
"""Key of the operator that a specimen is about."""

NEIGHBOUR_CHANNELS = 8
"""Channels that the neighbours of a specimen read and give."""


@dataclass(frozen=True, slots=True)
class Largest:
    """Elements of tensors and of weights up to which subgraphs are measured.

    By default 512x512 with 32 channels, and weights as the first linear layer of a VGG has.
    """

    tensor: int = 1 << 23
    weights: int = 1 << 27


@dataclass(frozen=True)
class Specimen:
    """An operator, the shapes of its inputs (batch 1 first) and what is fused behind it.

    `constants` says which inputs are constants; `activation` is empty or one of `ops.ACTIVATIONS`; `adds`: a residual
    operand is added. `sigma` is the standard deviation of the weights in steps of 8-bit integers: chips that compress
    weights read less where it is small.
    """

    op: Op
    inputs: tuple[Shape, ...]
    constants: tuple[bool, ...] = ()
    activation: str = ""
    adds: bool = False
    sigma: float = 40.0

    @cached_property
    def inside(self) -> Graph:
        """The specimen between 1x1 convolutions (linear layers for sequences): in a network most tensors lie so."""
        return self._graph(between=True)

    @cached_property
    def alone(self) -> Graph:
        """The specimen as a network of its own: its inputs and output are those of the network."""
        return self._graph(between=False)

    def workload(self, fuses: Mapping[str, frozenset[str]] = FOLDED) -> Workload:
        """What it asks of the hardware in the middle of a network, on a target that fuses what `fuses` says."""
        return next(part.workload for part in cut(self.inside, fuses) if part.name == NAME)

    def _graph(self, between: bool) -> Graph:
        b = Builder()
        names: list[str] = []
        for place, shape in enumerate(self.inputs):
            if self.constants and self.constants[place]:
                names.append(b.add(Constant(shape), key=f"constant{place}"))
            elif between:
                names.append(neighbour(b, shape, f"before{place}"))
            else:
                names.append(b.input(f"input{place}", shape))
        beside: list[str] = []
        if between and isinstance(self.op, (Activation, BatchNorm, Elementwise)):
            # What reads a tensor beside it keeps the operator from running with the one before.
            beside = [with_channels(b, name, NEIGHBOUR_CHANNELS, f"{name}.beside") for name in names]
        rest = ""
        if self.adds:
            # The other operand comes first: only then can the sum run with the operator.
            shape = self.op.shape(list(self.inputs))
            rest = neighbour(b, shape, "residual") if between else b.input("residual", shape)
        x = b.add(self.op, *names, key=NAME)
        if self.activation:
            x = b.activation(x, self.activation, key="activation")
        if rest:
            x = b.elementwise(x, rest, "add", key="sum")
        return b.graph([with_channels(b, x, NEIGHBOUR_CHANNELS, "after"), *beside] if between else x)


def neighbour(b: Builder, shape: Shape, key: str) -> str:
    """A tensor of this shape that an operator gives which reads an input of the network."""
    axis = 1 if len(shape) == 4 else len(shape) - 1
    source = b.input(f"{key}.input", (*shape[:axis], NEIGHBOUR_CHANNELS, *shape[axis + 1 :]))
    return with_channels(b, source, shape[axis], key)


def with_channels(b: Builder, x: str, channels: object, key: str) -> str:
    """What reads a tensor and gives one of so many channels: a 1x1 convolution, or a linear layer of sequences."""
    assert isinstance(channels, int)
    if len(b.shape(x)) == 4:
        return b.conv(x, channels, bias=True, key=key)
    return b.linear(x, channels, key=key)


def integer_weights(graph: Graph, sigma: float, generator: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Weights of a closed graph that 8-bit integers hold exactly: normal with standard deviation `sigma`.

    In every output channel one is ±127, so that quantising by channel finds the step 1/64 again.
    """
    weights: dict[str, NDArray[np.float32]] = {}
    for node in graph.nodes:
        for name, shape in node.op.weights(graph.input_shapes(node)).items():
            sizes = tuple(int(size) for size in shape)  # type: ignore[arg-type]
            if isinstance(node.op, BatchNorm):
                values = np.full(sizes, 1.0 if name in ("weight", "running_var") else 0.0)
            elif name == "bias":
                values = np.round(generator.normal(0, 100, sizes)) / 1024
            else:
                values = np.clip(np.round(generator.normal(0, sigma, sizes)), -127, 127)
                if len(sizes) > 1:
                    values.reshape(sizes[0], -1)[:, 0] = 127
                values = values / 64
            weights[f"{node.key}.{name}"] = values.astype(np.float32)
    return weights


def ranges_of(graph: Graph) -> dict[str, tuple[float, float]]:
    """The same range of numbers for every tensor of a closed graph: nothing is measured about their values."""
    inputs = [item.key for item in graph.inputs]
    return dict.fromkeys((*inputs, *graph.by_key), (-4.0, 4.0))

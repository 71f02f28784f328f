"""A closed graph as a PyTorch module: one interpreter, with weights by node key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph
from chipfit.nets.lowering import Run, lower
from chipfit.nets.network import Weights, check_weights

STATISTICS = ("running_mean", "running_var")
"""Weights that are measured in training, not learned: buffers of the module."""


def parameter_name(weight: str) -> str:
    """The name in the module of a weight of the graph: PyTorch allows no dot in it, so "/" stands for the dot."""
    return weight.replace("~", "~0").replace("/", "~1").replace(".", "/")


def weight_name(parameter: str) -> str:
    """The name in the graph of a parameter or buffer of the module: the inverse of `parameter_name`."""
    return parameter.replace("/", ".").replace("~1", "/").replace("~0", "~")


class Program:
    """A closed graph ready to run with weights that come from outside, for any batch size.

    Raises `UnsupportedOperator` for an opaque node.
    """

    def __init__(self, graph: Graph) -> None:
        slots = {key: slot for slot, key in enumerate(graph.shapes)}
        self._count = len(slots)
        self._results = tuple(slots[key] for key in graph.outputs)
        self.steps = _steps(graph, slots)

    def run(
        self, inputs: Sequence[Tensor], weights: Mapping[str, Tensor], momentum: float | None
    ) -> Tensor | tuple[Tensor, ...]:
        """The one output, or a tuple of them, for one tensor per graph input.

        `weights` go by `parameter_name`; `momentum` is that of running statistics in training, None in evaluation.
        """
        values: list[Tensor | None] = [*inputs, *[None] * (self._count - len(inputs))]
        for run, reads, names, slot, last_reads in self.steps:
            values[slot] = run([values[i] for i in reads], [weights[name] for name in names], momentum)  # type: ignore[misc]
            for i in last_reads:
                values[i] = None
        results = tuple(values[slot] for slot in self._results)
        return results[0] if len(results) == 1 else results  # type: ignore[return-value]


class GraphModule(nn.Module):
    """Runs a closed graph for any batch size; `weights` are copied.

    Learned weights and constants are parameters, running statistics are buffers, all under `parameter_name` of their
    name in the graph. `momentum` is that of running statistics in training mode, as in `torch.nn.BatchNorm2d`.
    Raises `InvalidInput` for an open graph or weights that do not fit, `UnsupportedOperator` for an opaque node.
    """

    def __init__(self, graph: Graph, weights: Weights, momentum: float = 0.1) -> None:
        super().__init__()
        if graph.decisions:
            raise InvalidInput(f"a graph with {len(graph.decisions)} open decisions cannot run; close it with a code")
        check_weights(graph, weights)
        self.graph = graph
        self.momentum = momentum
        for name, _ in graph.weights():
            tensor = torch.tensor(weights[name])
            if name.rpartition(".")[2] in STATISTICS:
                self.register_buffer(parameter_name(name), tensor)
            else:
                self.register_parameter(parameter_name(name), nn.Parameter(tensor))
        self._program = Program(graph)

    def forward(self, *inputs: Tensor | Mapping[str, Tensor]) -> Tensor | tuple[Tensor, ...]:
        """Outputs for `inputs`: one tensor per graph input in order, or one mapping by key, each (batch, ...).

        Gives the tensor of a graph with one output, else a tuple in the order of `graph.outputs`.
        """
        momentum = self.momentum if self.training else None
        return self._program.run(self._given(inputs), {**self._parameters, **self._buffers}, momentum)  # type: ignore[arg-type]

    def export_weights(self) -> dict[str, NDArray[np.float32]]:
        """Copies of all weights, running statistics included, by their name in the graph."""
        weights = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        arrays = {weight_name(name): tensor.detach().cpu() for name, tensor in weights.items()}
        return {name: np.array(tensor.numpy(), np.float32, order="C") for name, tensor in arrays.items()}

    def _given(self, inputs: tuple[Tensor | Mapping[str, Tensor], ...]) -> tuple[Tensor, ...]:
        keys = [item.key for item in self.graph.inputs]
        if len(inputs) == 1 and isinstance(inputs[0], Mapping):
            if set(inputs[0]) != set(keys):
                raise InvalidInput(f"the network has inputs {keys}, got {sorted(inputs[0])}")
            return tuple(inputs[0][key] for key in keys)
        if len(inputs) != len(keys):
            raise InvalidInput(f"the network has {len(keys)} inputs {keys}, got {len(inputs)}")
        return inputs  # type: ignore[return-value]


Step = tuple[Run, tuple[int, ...], tuple[str, ...], int, tuple[int, ...]]
"""Function, slots that it reads, names of its weights, slot that it writes, slots that nothing reads after it."""


def _steps(graph: Graph, slots: Mapping[str, int]) -> list[Step]:
    last_reader: dict[str, str] = {}
    for node in graph.nodes:
        last_reader.update(dict.fromkeys((*node.inputs, node.key), node.key))
    steps: list[Step] = []
    for node in graph.nodes:
        shapes = graph.input_shapes(node)
        names = tuple(parameter_name(f"{node.key}.{name}") for name in node.op.weights(shapes))
        reads = tuple(slots[key] for key in node.inputs)
        done = (key for key in dict.fromkeys((*node.inputs, node.key)) if last_reader[key] == node.key)
        drop = tuple(slots[key] for key in done if key not in graph.outputs)
        steps.append((lower(node, shapes), reads, names, slots[node.key], drop))
    return steps

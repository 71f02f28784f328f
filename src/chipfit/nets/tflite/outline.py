"""What writing operators in TFLite's terms has in common: names, the two orders of an image's axes, and fusing.

An image is stored as (batch, height, width, channels). Where an operator needs the graph's own order, (batch, channels,
height, width), a copy in that order is made, and used by all that follow in it; attention is written without turning
anything to and fro.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chipfit.graph.graph import Node
from chipfit.graph.ops import Activation, BatchNorm, ConvTranspose2d, Linear
from chipfit.graph.values import Shape
from chipfit.nets.network import Network
from chipfit.nets.tflite.program import (
    TO_FILE,
    TO_GRAPH,
    Array,
    Operation,
    Options,
    Program,
    Tensor,
    moves_nothing,
    turned,
)

FUSED = {"relu": 1, "relu6": 3}
"""TFLite's numbers for the activations that an operation can end with."""


@dataclass(frozen=True, slots=True)
class Chain:
    """An operator and what is written with it: `key` is that of the last node, `function` TFLite's number for it."""

    key: str
    batch_norm: Node | None = None
    function: int = 0


class Outline:
    """A program in the making."""

    def __init__(self, network: Network) -> None:
        self.network, self.graph = network, network.graph
        self.program = Program(network.name or "network")
        self.covered: set[str] = set()
        self.constants: dict[str, Array] = {}
        self.shuffled: dict[str, Shape] = {}
        """Vectors that hold an image's numbers in the file's order, with the shape of the image."""
        self.in_file_order: dict[str, str] = {}
        self.in_graph_order: dict[str, str] = {}
        for item in self.graph.inputs:
            name = self.program.add(Tensor(item.key, self.file_shape(item.shape)))
            self.program.inputs.append(name)
            self.in_file_order[item.key] = name

    def shape(self, key: str) -> tuple[int, ...]:
        """Shape of a tensor of the graph."""
        return tuple([int(size) for size in self.graph.shapes[key]])  # type: ignore[arg-type]

    @staticmethod
    def file_shape(shape: Shape) -> tuple[int, ...]:
        """Shape of a tensor in the file's order."""
        sizes = tuple([int(size) for size in shape])  # type: ignore[arg-type]
        return turned(sizes, TO_FILE) if len(sizes) == 4 else sizes

    def weight(self, node: Node, name: str) -> Array:
        return self.network.weights[f"{node.key}.{name}"]

    def fresh(self, wanted: str) -> str:
        return self.program.fresh(wanted, self.graph.shapes)

    def chain(self, node: Node, fold: bool = False, fuse: bool = True) -> Chain:
        """What can be written with `node`: a batch normalisation that folds into its weights, then a clamp."""
        key, batch_norm = node.key, None
        follower = self._only_reader(key)
        if fold and follower is not None and isinstance(follower.op, BatchNorm):
            key, batch_norm = follower.key, follower
            follower = self._only_reader(key)
        if fuse and follower is not None and isinstance(follower.op, Activation) and follower.op.function in FUSED:
            self.covered.update((key, follower.key))
            return Chain(follower.key, batch_norm, FUSED[follower.op.function])
        self.covered.add(key)
        return Chain(key, batch_norm)

    def _only_reader(self, key: str) -> Node | None:
        readers = self.graph.consumers[key]
        return readers[0] if len(readers) == 1 and key not in self.graph.outputs else None

    def folded(self, node: Node, batch_norm: Node | None) -> tuple[Array, Array]:
        """Weight and bias (out,) of a layer with weights, the batch normalisation behind it folded in."""
        weight = self.weight(node, "weight")
        bias = self.network.weights.get(f"{node.key}.bias")
        if batch_norm is None:
            out = int(node.op.out)  # type: ignore[attr-defined]
            return weight, np.zeros(out, np.float32) if bias is None else bias
        scale, shift = self.scale_and_shift(batch_norm)
        total = shift if bias is None else shift + bias * scale
        transposed = isinstance(node.op, ConvTranspose2d)
        axes = (1, -1, 1, 1) if transposed else (-1,) + (1,) * (weight.ndim - 1)
        if transposed and int(node.op.groups) != 1:  # type: ignore[attr-defined]
            groups = int(node.op.groups)  # type: ignore[attr-defined]
            per_input = np.repeat(scale.reshape(groups, -1), len(weight) // groups, axis=0)
            return (weight * per_input[:, :, None, None]).astype(np.float32), total.astype(np.float32)
        return (weight * scale.reshape(axes)).astype(np.float32), total.astype(np.float32)

    def scale_and_shift(self, node: Node) -> tuple[Array, Array]:
        """Batch normalisation as y = scale × x + shift, both (channels,) in float64."""
        assert isinstance(node.op, BatchNorm)
        weight, bias, mean, variance = (
            self.weight(node, name).astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / np.sqrt(variance + node.op.eps)
        return scale, bias - mean * scale

    def emit(
        self,
        code: str,
        inputs: Sequence[str],
        output: str,
        shape: Sequence[int],
        options: Options | None = None,
        real: bool = False,
    ) -> str:
        """Appends an operation and its output tensor, whose name it gives."""
        self.program.operations.append(Operation(code, tuple(inputs), output, options or {}, real))
        return self.program.add(Tensor(output, tuple(shape)))

    def numbers(self, wanted: str, array: Array) -> str:
        """A constant of real numbers."""
        array = np.ascontiguousarray(array, np.float32).reshape(np.shape(array))
        return self.program.add(Tensor(self.fresh(wanted), array.shape, array))

    def integers(self, wanted: str, values: Sequence[object] | Array) -> str:
        """A constant of sizes, axes or positions, in 32 bits."""
        array = np.asarray(values, np.int32)
        return self.program.add(Tensor(self.fresh(wanted), array.shape, array, "int32"))

    def give(self, key: str, name: str, file_order: bool = True) -> None:
        """Says where the tensor `key` of the graph is."""
        (self.in_file_order if file_order or len(self.graph.shapes[key]) != 4 else self.in_graph_order)[key] = name

    def file_order(self, key: str) -> str:
        """The tensor `key` of the graph as the file stores it: an image as (batch, height, width, channels)."""
        if key not in self.in_file_order:
            shape = self.shape(key)
            if key in self.constants:
                array = self.constants[key]
                self.in_file_order[key] = self._constant(key, array.transpose(TO_FILE) if array.ndim == 4 else array)
            else:
                source = self.in_graph_order[key]
                self.in_file_order[key] = self.turn(source, shape, TO_FILE, f"{key}/channels_last")
        return self.in_file_order[key]

    def graph_order(self, key: str) -> str:
        """The tensor `key` with the axes as the graph has them."""
        if len(self.graph.shapes[key]) != 4:
            return self.file_order(key)
        if key not in self.in_graph_order:
            if key in self.constants:
                self.in_graph_order[key] = self._constant(key, self.constants[key])
            else:
                source, shape = self.in_file_order[key], self.file_shape(self.graph.shapes[key])
                self.in_graph_order[key] = self.turn(source, shape, TO_GRAPH, f"{key}/channels_first")
        return self.in_graph_order[key]

    def _constant(self, key: str, array: Array) -> str:
        wanted = key if key not in self.program.tensors else self.fresh(key)
        array = np.ascontiguousarray(array, np.float32).reshape(array.shape)
        return self.program.add(Tensor(wanted, array.shape, array))

    def prefers_file_order(self, keys: Sequence[str]) -> bool:
        """Whether an operator that works in either order should use the file's: what its inputs are there in."""
        images = [key for key in keys if key not in self.constants and len(self.graph.shapes[key]) == 4]
        in_graph_order = bool(images) and all(key in self.in_graph_order for key in images)
        return not in_graph_order or all(key in self.in_file_order for key in images)

    def ordered(self, key: str, file_order: bool) -> str:
        """The tensor in the one or the other order."""
        return self.file_order(key) if file_order else self.graph_order(key)

    def turn(self, source: str, shape: Sequence[int], order: Sequence[int], wanted: str) -> str:
        """A tensor of `shape` with its axes in another order; a mere change of shape where that is enough."""
        name, result = wanted if wanted in self.graph.shapes else self.fresh(wanted), turned(shape, order)
        if moves_nothing(shape, order):
            return self.reshape(source, name, result)
        return self.emit("TRANSPOSE", [source, self.integers(f"{name}/order", order)], name, result)

    def reshape(self, source: str, name: str, shape: Sequence[int]) -> str:
        """The same numbers in another shape."""
        return self.emit("RESHAPE", [source, self.integers(f"{name}/shape", shape)], name, shape)

    def output(self, key: str) -> str:
        """The name of an output; a constant, an input handed through or a repeated output gets a copy."""
        name = self.file_order(key)
        tensor = self.program.tensors[name]
        if name in self.program.outputs or name in self.program.inputs or tensor.data is not None:
            name = self.reshape(name, self.fresh(f"{key}/output"), tensor.shape)
        self.program.outputs.append(name)
        return name


def is_linear_only(outline: Outline, key: str) -> bool:
    """Whether linear layers alone read a vector, which can then take its numbers in any order."""
    readers = outline.graph.consumers[key]
    return key not in outline.graph.outputs and all(isinstance(reader.op, Linear) for reader in readers)

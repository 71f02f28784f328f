"""A network: its graph and its weights, and the file that holds the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.files import write_whole
from chipfit.graph.graph import Graph
from chipfit.graph.ops import BatchNorm, Constant, Conv2d, ConvTranspose2d, LayerNorm, Linear, Op, product
from chipfit.graph.values import Choice, Value
from chipfit.nets.quantisation import Quantisation

Weights = Mapping[str, NDArray[np.float32]]
"""Arrays by "<node key>.<weight name>", as `Graph.weights` names them."""

CONSTANT_STD = 0.02
"""Standard deviation that learned constants (position embeddings, tokens) start with."""

PRELU_SLOPE = 0.25


@dataclass(frozen=True, eq=False)
class Network:
    """A graph with its weights.

    Raises `InvalidInput` where the weights of a closed graph are missing, too many, not float32 or of another
    shape. The weights of an open graph are those of the network that it was made from; they are checked once a code
    closes it.

    `quantisation` holds what an integer file said of its tensors, by node key or weight name; the weights are the real
    numbers that its integers stand for. Empty for a network of floating-point numbers.
    """

    name: str
    graph: Graph
    weights: Weights
    quantisation: Mapping[str, Quantisation] = field(default_factory=dict[str, Quantisation])

    def __post_init__(self) -> None:
        if not self.graph.decisions:
            check_weights(self.graph, self.weights, self.name)


def check_weights(graph: Graph, weights: Weights, name: str = "network") -> None:
    """Raises `InvalidInput`, naming the first few, unless `weights` are exactly what the closed `graph` needs."""
    wanted = dict(graph.weights())
    faults = [f"{key} is missing" for key in wanted if key not in weights]
    faults += [f"{key} belongs to no node" for key in weights if key not in wanted]
    for key, shape in wanted.items():
        if key in weights and (weights[key].shape != shape or weights[key].dtype != np.float32):
            faults.append(f"{key} is {weights[key].dtype} {weights[key].shape}, not float32 {shape}")
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise InvalidInput(f"weights do not fit {name!r}: {'; '.join(faults[:3])}{more}; use the weights of this graph")


def initialise(graph: Graph, generator: np.random.Generator) -> dict[str, NDArray[np.float32]]:
    """Fresh weights of a closed graph, drawn in the order of its nodes.

    Convolutions: normal with variance 2 / fan-out, the fan-out counted within a group (He et al. 2015, eq. 14); linear
    layers and convolutions that give an output of the network: normal with variance 1 / fan-in; biases 0; normalisation
    is the identity. Raises `InvalidInput` for an open graph.
    """
    if graph.decisions:
        raise InvalidInput(f"a graph with {len(graph.decisions)} open decisions has no weights; close it first")
    weights: dict[str, NDArray[np.float32]] = {}
    for node in graph.nodes:
        for name, shape in node.op.weights(graph.input_shapes(node)).items():
            sizes = tuple(_size(size) for size in shape)
            weights[f"{node.key}.{name}"] = _initial(node.op, name, sizes, node.key in graph.outputs, generator)
    return weights


def _initial(
    op: Op, name: str, shape: tuple[int, ...], last: bool, generator: np.random.Generator
) -> NDArray[np.float32]:
    match op, name:
        case Conv2d(), "weight" if last:
            std = math.sqrt(1 / math.prod(shape[1:]))
        case Conv2d() | ConvTranspose2d(), "weight":
            fan_out = product((op.out, *op.kernel)) // op.groups
            std = math.sqrt(2 / _size(fan_out))
        case Linear(), "weight":
            std = math.sqrt(1 / shape[1])
        case Constant(), _:
            std = CONSTANT_STD
        case BatchNorm() | LayerNorm(), _:
            return np.full(shape, 1 if name in ("weight", "running_var") else 0, np.float32)
        case _, "weight":
            return np.full(shape, PRELU_SLOPE, np.float32)
        case _:
            return np.zeros(shape, np.float32)
    return generator.standard_normal(shape, np.float32) * np.float32(std)


def _size(value: Value) -> int:
    if isinstance(value, Choice):
        raise InvalidInput(f"size {value} is still open; close the graph first")
    return int(value)


def save_weights(path: Path, weights: Weights) -> None:
    """Writes a safetensors file; whatever stood at `path` stays whole until the new file is complete.

    Raises `StorageFull` where the disk is full, `InvalidInput` where `path` cannot be written for another reason.
    """
    write_whole(path, safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in weights.items()}))


def load_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """Weights of a safetensors file. Raises `InvalidInput` where it is missing, broken or holds other than float32."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 (the file is no mapping)
                if (kind := file.get_slice(name).get_dtype()) != "F32":
                    raise InvalidInput(f"{path}: weight {name!r} is {kind}, not F32; convert the file to float32")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise InvalidInput(f"cannot read weights from {path}: {error}; it must be a safetensors file") from None


def quantised_weights(weights: NDArray[np.float32]) -> NDArray[np.int8]:
    """Weights as 8-bit integers with one scale for each output channel, the first axis."""
    largest = np.abs(weights.reshape(len(weights), -1)).max(axis=1).reshape(-1, *[1] * (weights.ndim - 1))
    return np.round(weights * (127 / np.where(largest > 0, largest, 1))).astype(np.int8)

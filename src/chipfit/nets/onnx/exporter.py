"""Networks as ONNX files, written from the graph itself: names stay, nothing is traced."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx.checker
import onnx.helper
import onnx.numpy_helper
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto

import chipfit
from chipfit.errors import InvalidInput, UnsupportedOperator
from chipfit.files import write_whole
from chipfit.graph.graph import Node
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Concat,
    Constant,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    GlobalPool,
    LayerNorm,
    Linear,
    MatMul,
    Opaque,
    Pad,
    Pool2d,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
)
from chipfit.nets.fixed import without_batch
from chipfit.nets.network import Network

DEFAULT_OPSET = 18
"""The oldest operator set that has all that is needed, for the runtimes and compilers that are behind."""

LARGEST_FILE_BYTES = 2**31 - 1
"""What one ONNX file without external data can hold."""

SIMPLE: Mapping[str, str] = {
    "relu": "Relu",
    "hard_swish": "HardSwish",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "exp": "Exp",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "neg": "Neg",
}

Batch = Literal["dynamic", 1]


def export_onnx(
    network: Network, path: Path | None, *, opset: int = DEFAULT_OPSET, batch: Batch = "dynamic"
) -> ModelProto:
    """The network as an ONNX model that has passed ONNX's checker; written to `path` unless that is None.

    Nodes have the keys of the graph, weights their names in it, tensors the key of what gives them. `import_onnx` gives
    an equal graph back, but for nodes that no output needs and for what spells out a named activation. Raises
    `UnsupportedOperator` for an opaque node, `InvalidInput` for an open graph, an operator set before 18 or one that is
    unknown, `StorageFull` where the disk is full.
    """
    newest = onnx.defs.onnx_opset_version()
    if not DEFAULT_OPSET <= opset <= newest:
        raise InvalidInput(f"opset={opset}: choose one from {DEFAULT_OPSET} to {newest}")
    if network.graph.decisions:
        raise InvalidInput(f"{network.name}: {len(network.graph.decisions)} decisions are open; close it with a code")
    model = _Writer(network, opset, batch).model()
    if (size := model.ByteSize()) > LARGEST_FILE_BYTES:
        raise InvalidInput(f"{network.name}: {size} bytes are too many for one ONNX file ({LARGEST_FILE_BYTES})")
    onnx.checker.check_model(model)
    if path is not None:
        write_whole(Path(path), model.SerializeToString())
    return model


class _Writer:
    def __init__(self, network: Network, opset: int, batch: Batch) -> None:
        self.network, self.graph, self.opset, self.batch = network, network.graph, opset, batch
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.taken = set(self.graph.shapes)
        self.fixed = without_batch(self.graph)

    def model(self) -> ModelProto:
        for node in self.graph.nodes:
            self.node(node)
        graph = onnx.helper.make_graph(
            self.nodes,
            self.network.name or "network",
            [self.declared(item.key, item.key) for item in self.graph.inputs],
            self.outputs(),
            self.initializers,
        )
        opsets = [onnx.helper.make_opsetid("", self.opset)]
        version = onnx.helper.find_min_ir_version_for(opsets)
        return onnx.helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=version,
            producer_name="chipfit",
            producer_version=chipfit.__version__,
        )

    def outputs(self) -> list[ValueInfoProto]:
        """Outputs by the key of their node; an input handed through, or a repeated output, gets a name of its own."""
        declared: list[ValueInfoProto] = []
        used = {item.key for item in self.graph.inputs}
        for key in self.graph.outputs:
            name = key
            if key in used:
                name = self.emit("Identity", [key], self.fresh(f"{key}/output"))
            used.add(key)
            declared.append(self.declared(name, key))
        return declared

    def declared(self, name: str, key: str) -> ValueInfoProto:
        shape: list[Any] = [*self.graph.shapes[key]]
        if self.batch == "dynamic" and key not in self.fixed:
            shape[0] = "batch"
        return onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def fresh(self, wanted: str) -> str:
        name, number = wanted, 0
        while name in self.taken:
            number += 1
            name = f"{wanted}_{number}"
        self.taken.add(name)
        return name

    def emit(
        self,
        operator: str,
        inputs: Sequence[str],
        output: str,
        attributes: Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> str:
        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], name or output, **(attributes or {})))
        return output

    def store(self, wanted: str, array: NDArray[Any]) -> str:
        name = self.fresh(wanted)
        self.initializers.append(onnx.numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name))
        return name

    def numbers(self, wanted: str, values: Sequence[Any]) -> str:
        return self.store(wanted, np.array([int(value) for value in values], np.int64))

    def scalar(self, wanted: str, value: float) -> str:
        return self.store(wanted, np.array(value, np.float32))

    def weight(self, node: Node, name: str) -> NDArray[np.float32]:
        return self.network.weights[f"{node.key}.{name}"]

    def weights(self, node: Node) -> list[str]:
        return [self.store(f"{node.key}.{name}", self.weight(node, name)) for name in self.names(node)]

    def names(self, node: Node) -> list[str]:
        return list(node.op.weights(self.graph.input_shapes(node)))

    def node(self, node: Node) -> None:
        op, key, inputs = node.op, node.key, list(node.inputs)
        match op:
            case Conv2d() | ConvTranspose2d():
                self.convolution(node, op)
            case Linear():
                self.linear(node, op)
            case MatMul():
                self.emit("MatMul", inputs, key)
            case BatchNorm():
                self.emit("BatchNormalization", inputs + self.weights(node), key, {"epsilon": op.eps})
            case LayerNorm():
                attributes = {"axis": -op.axes, "epsilon": op.eps}
                self.emit("LayerNormalization", inputs + self.weights(node), key, attributes)
            case Activation():
                self.activation(node, op)
            case Softmax():
                self.emit("Softmax", inputs, key, {"axis": op.axis})
            case Elementwise():
                self.emit(op.function.capitalize(), inputs, key)
            case Pool2d():
                self.pool(node, op)
            case GlobalPool():
                self.emit("GlobalAveragePool" if op.function == "average" else "GlobalMaxPool", inputs, key)
            case Resize():
                self.resize(node, op)
            case Constant():
                # By this name the import knows a constant of the graph from a weight.
                self.emit("Identity", self.weights(node), key)
            case Opaque():
                raise UnsupportedOperator(
                    f"{self.network.name}: node {key!r} is the operator {op.operator!r}, which chipfit cannot export; "
                    "replace it with operators that chipfit knows, or cut the network before it"
                )
            case _:
                self.layout(node)

    def layout(self, node: Node) -> None:
        op, key, inputs = node.op, node.key, list(node.inputs)
        match op:
            case Concat():
                self.emit("Concat", self.with_batch(node, op), key, {"axis": op.axis})
            case Slice():
                ends = ((op.start, "start"), (op.stop, "stop"), (op.axis, "axis"), (op.step, "step"))
                bounds = [self.numbers(f"{key}/{name}", [value]) for value, name in ends]
                self.emit("Slice", inputs + bounds, key)
            case Pad():
                top, left, bottom, right = op.padding
                pads = self.numbers(f"{key}/pads", (0, 0, top, left, 0, 0, bottom, right))
                self.emit("Pad", [*inputs, pads, self.scalar(f"{key}/value", op.value)], key)
            case Reshape():
                # 0 copies the batch, whatever it is.
                self.emit("Reshape", [*inputs, self.numbers(f"{key}/shape", (0, *op.sizes))], key)
            case Transpose():
                self.emit("Transpose", inputs, key, {"perm": op.order})
            case _:
                raise UnsupportedOperator(f"{self.network.name}: node {key!r}: no ONNX operator says {op}")

    def convolution(self, node: Node, op: Conv2d | ConvTranspose2d) -> None:
        attributes = {
            "kernel_shape": op.kernel,
            "strides": op.stride,
            "pads": op.padding,
            "dilations": op.dilation,
            "group": op.groups,
        }
        if isinstance(op, ConvTranspose2d):
            attributes["output_padding"] = op.output_padding
        operator = "Conv" if isinstance(op, Conv2d) else "ConvTranspose"
        self.emit(operator, [*node.inputs, *self.weights(node)], node.key, attributes)

    def linear(self, node: Node, op: Linear) -> None:
        key = node.key
        if len(self.graph.input_shapes(node)[0]) == 2:
            self.emit("Gemm", [*node.inputs, *self.weights(node)], key, {"transB": 1})
            return
        weight = self.store(f"{key}.weight", self.weight(node, "weight").T)
        product = self.fresh(f"{key}/product") if op.bias else key
        self.emit("MatMul", [*node.inputs, weight], product, name=key)
        if op.bias:
            bias = self.store(f"{key}.bias", self.weight(node, "bias"))
            self.emit("Add", [product, bias], key, name=self.fresh(f"{key}/bias"))

    def pool(self, node: Node, op: Pool2d) -> None:
        attributes: dict[str, Any] = {
            "kernel_shape": op.kernel,
            "strides": op.stride,
            "pads": op.padding,
            "ceil_mode": int(op.ceil_mode),
        }
        if op.function == "average":
            attributes["count_include_pad"] = int(op.count_include_pad)
        self.emit("AveragePool" if op.function == "average" else "MaxPool", node.inputs, node.key, attributes)

    def resize(self, node: Node, op: Resize) -> None:
        # With these conventions ONNX reads exactly the positions that PyTorch reads.
        convention = "align_corners" if op.align_corners else "half_pixel"
        attributes = {
            "mode": "nearest" if op.mode == "nearest" else "linear",
            "coordinate_transformation_mode": "asymmetric" if op.mode == "nearest" else convention,
            "nearest_mode": "floor",
            "axes": [2, 3],
        }
        if op.size is not None:
            target = ["", "", self.numbers(f"{node.key}/size", op.size)]
        else:
            target = ["", self.store(f"{node.key}/scale", np.array(op.scale, np.float32))]
        self.emit("Resize", [*node.inputs, *target], node.key, attributes)

    def with_batch(self, node: Node, op: Concat) -> list[str]:
        """Inputs of a concatenation; constants among them repeated for every image of the batch."""
        moving = [name for name in node.inputs if name not in self.fixed]
        if self.batch != "dynamic" or not moving or len(moving) == len(node.inputs):
            return list(node.inputs)
        count = self.emit("Shape", [moving[0]], self.fresh(f"{node.key}/batch"), {"start": 0, "end": 1})
        inputs: list[str] = []
        for index, name in enumerate(node.inputs):
            if name in self.fixed:
                sizes = self.numbers(f"{node.key}/sizes{index}", self.graph.shapes[name][1:])
                shape = self.emit("Concat", [count, sizes], self.fresh(f"{node.key}/shape{index}"), {"axis": 0})
                name = self.emit("Expand", [name, shape], self.fresh(f"{node.key}/expanded{index}"))
            inputs.append(name)
        return inputs

    def activation(self, node: Node, op: Activation) -> None:
        key, source = node.key, node.inputs[0]
        match op.function:
            case "relu6":
                bounds = [self.scalar(f"{key}/{name}", value) for name, value in (("low", 0.0), ("high", 6.0))]
                self.emit("Clip", [source, *bounds], key)
            case "leaky_relu":
                self.emit("LeakyRelu", [source], key, {"alpha": op.slope})
            case "prelu":
                ones = (1,) * (len(self.graph.shapes[source]) - 2)
                self.emit(
                    "PRelu", [source, self.store(f"{key}.weight", self.weight(node, "weight").reshape(-1, *ones))], key
                )
            case "hard_sigmoid":
                self.emit("HardSigmoid", [source], key, {"alpha": 1 / 6, "beta": 0.5})
            case "silu":
                gate = self.emit("Sigmoid", [source], self.fresh(f"{key}/sigmoid"))
                self.emit("Mul", [source, gate], key)
            case "gelu" | "gelu_tanh" if self.opset >= 20:
                self.emit("Gelu", [source], key, {"approximate": "none" if op.function == "gelu" else "tanh"})
            case "gelu":
                scaled = self.scaled(key, source, "scaled", math.sqrt(0.5))
                self.halved(key, source, self.emit("Erf", [scaled], self.fresh(f"{key}/erf")))
            case "gelu_tanh":
                square = self.emit("Mul", [source, source], self.fresh(f"{key}/square"))
                cube = self.emit("Mul", [square, source], self.fresh(f"{key}/cube"))
                part = self.scaled(key, cube, "part", 0.044715)
                inner = self.emit("Add", [source, part], self.fresh(f"{key}/inner"))
                scaled = self.scaled(key, inner, "scaled", math.sqrt(2 / math.pi))
                self.halved(key, source, self.emit("Tanh", [scaled], self.fresh(f"{key}/tanh")))
            case _:
                self.emit(SIMPLE[op.function], [source], key)

    def scaled(self, key: str, source: str, name: str, factor: float) -> str:
        return self.emit("Mul", [source, self.scalar(f"{key}/{name}_by", factor)], self.fresh(f"{key}/{name}"))

    def halved(self, key: str, source: str, gate: str) -> None:
        """0.5 x (1 + gate), the end of both forms of GELU."""
        half = self.scaled(key, source, "half", 0.5)
        total = self.emit("Add", [gate, self.scalar(f"{key}/one", 1.0)], self.fresh(f"{key}/total"))
        self.emit("Mul", [half, total], key)

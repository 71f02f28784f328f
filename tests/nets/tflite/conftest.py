"""TFLite files for the tests of what reads them, built operator by operator from the schema."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import flatbuffers
import numpy as np
import pytest
import tflite
import torch

from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network
from chipfit.nets.tflite.importer import import_tflite
from chipfit.nets.tflite.runtime import run_tflite

TYPES = {
    np.dtype(np.float32): tflite.TensorType.FLOAT32,
    np.dtype(np.float16): tflite.TensorType.FLOAT16,
    np.dtype(np.int8): tflite.TensorType.INT8,
    np.dtype(np.uint8): tflite.TensorType.UINT8,
    np.dtype(np.int16): tflite.TensorType.INT16,
    np.dtype(np.int32): tflite.TensorType.INT32,
    np.dtype(np.int64): tflite.TensorType.INT64,
}

Quantised = tuple[Sequence[float], Sequence[int], int]
"""Scales, zero points, and the axis that they belong to."""


@dataclass
class File:
    """A TFLite file in the making. Tensors are numbers, in the order in which they are added."""

    tensors: list[tuple[str, tuple[int, ...], np.dtype, np.ndarray | None, Quantised | None]] = field(
        default_factory=list
    )
    operators: list[tuple[str, list[int], list[int], str, dict[str, object]]] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    open: set[tuple[int, int]] = field(default_factory=set)

    def tensor(
        self, name: str, shape: Sequence[int], kind: type = np.float32, quantised: Quantised | None = None
    ) -> int:
        self.tensors.append((name, tuple(shape), np.dtype(kind), None, quantised))
        return len(self.tensors) - 1

    def input(
        self, name: str, shape: Sequence[int], kind: type = np.float32, quantised: Quantised | None = None
    ) -> int:
        self.inputs.append(self.tensor(name, shape, kind, quantised))
        return self.inputs[-1]

    def constant(
        self, array: object, name: str = "", kind: type | None = None, quantised: Quantised | None = None
    ) -> int:
        found = np.asarray(array)
        found = found.astype(kind or (np.float32 if found.dtype.kind == "f" else np.int32))
        self.tensors.append((name, found.shape, found.dtype, found, quantised))
        return len(self.tensors) - 1

    def operator(self, code: str, inputs: Sequence[int], *outputs: int, table: str = "", **options: object) -> int:
        """An operator by its name in the schema, "custom:NAME" for one that is not; gives its first output."""
        self.operators.append((code, list(inputs), list(outputs), table, options))
        return outputs[0]

    def written(self, *outputs: int) -> bytes:
        b = flatbuffers.Builder(1024)
        buffers = [_table(b, "Buffer")]
        tensors: list[int] = []
        for index, (name, shape, kind, data, quantised) in enumerate(self.tensors):
            if data is not None:
                buffers.append(_table(b, "Buffer", Data=b.CreateNumpyVector(np.frombuffer(data.tobytes(), np.uint8))))
            given = {"Shape": _ints(b, shape), "Type": TYPES[kind], "Name": b.CreateString(name)}
            if any(tensor == index for tensor, _ in self.open):
                given["ShapeSignature"] = _ints(
                    b, [-1 if (index, axis) in self.open else size for axis, size in enumerate(shape)]
                )
            if quantised is not None:
                scales, points, axis = quantised
                given["Quantization"] = _table(
                    b,
                    "QuantizationParameters",
                    Scale=b.CreateNumpyVector(np.array(scales, np.float32)),
                    ZeroPoint=b.CreateNumpyVector(np.array(points, np.int64)),
                    QuantizedDimension=axis,
                )
            tensors.append(_table(b, "Tensor", **given, Buffer=len(buffers) - 1 if data is not None else 0))
        codes = list(dict.fromkeys(code for code, *_ in self.operators))
        operators = [self._operator(b, codes.index(item[0]), item) for item in self.operators]
        graph = _table(
            b,
            "SubGraph",
            Tensors=_offsets(b, tensors),
            Inputs=_ints(b, self.inputs),
            Outputs=_ints(b, outputs),
            Operators=_offsets(b, operators),
        )
        listed = _offsets(b, [_code(b, code) for code in codes])
        b.Finish(
            _table(
                b,
                "Model",
                Version=3,
                OperatorCodes=listed,
                Subgraphs=_offsets(b, [graph]),
                Buffers=_offsets(b, buffers),
            ),
            b"TFL3",
        )
        return bytes(b.Output())

    @staticmethod
    def _operator(b: flatbuffers.Builder, code: int, item: tuple) -> int:
        _, inputs, outputs, table, options = item
        given = {"Inputs": _ints(b, inputs), "Outputs": _ints(b, outputs), "OpcodeIndex": code}
        if table:
            given["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, table)
            vectors = {key: _ints(b, value) for key, value in options.items() if isinstance(value, list)}
            given["BuiltinOptions"] = _table(b, table, **(options | vectors))
        return _table(b, "Operator", **given)


def _ints(b: flatbuffers.Builder, values: Sequence[int]) -> int:
    return b.CreateNumpyVector(np.array(values, np.int32))


def _offsets(b: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()


def _code(b: flatbuffers.Builder, code: str) -> int:
    custom = code.startswith("custom:")
    number = getattr(tflite.BuiltinOperator, "CUSTOM" if custom else code)
    given = {"CustomCode": b.CreateString(code.removeprefix("custom:"))} if custom else {}
    return _table(b, "OperatorCode", BuiltinCode=number, DeprecatedBuiltinCode=min(number, 127), Version=1, **given)


def _table(b: flatbuffers.Builder, kind: str, **fields: object) -> int:
    """A table of the schema with these fields; offsets are made before."""
    getattr(tflite, f"{kind}Start")(b)
    for name, value in fields.items():
        getattr(tflite, f"{kind}Add{name}")(b, value)
    return getattr(tflite, f"{kind}End")(b)


@pytest.fixture
def new_file() -> Callable[[], File]:
    """Makes an empty file."""
    return File


def _samples(net: Network, count: int, positive: bool = False) -> list[np.ndarray]:
    generator = np.random.default_rng(7)
    arrays = [generator.standard_normal((count, *item.shape[1:]), np.float32) for item in net.graph.inputs]
    return [0.1 + np.abs(array) if positive else array for array in arrays]


def _torch_outputs(net: Network, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    module = GraphModule(net.graph, net.weights).eval()
    with torch.no_grad():
        rows = [module(*(torch.from_numpy(array[i : i + 1]) for array in inputs)) for i in range(len(inputs[0]))]
    rows = [row if isinstance(row, tuple) else (row,) for row in rows]
    return [torch.cat(column).numpy() for column in zip(*rows, strict=True)]


def _agrees(data: bytes, count: int = 2, positive: bool = False) -> Network:
    """The network of a file, once it was seen to compute what LiteRT does."""
    net = import_tflite(data)
    inputs = _samples(net, count, positive)
    for ours, theirs in zip(_torch_outputs(net, inputs), run_tflite(data, *inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)
    return net


@pytest.fixture(scope="session")
def samples() -> Callable[..., list[np.ndarray]]:
    """Random inputs of a network, (count, …) each."""
    return _samples


@pytest.fixture(scope="session")
def computed() -> Callable[[Network, Sequence[np.ndarray]], list[np.ndarray]]:
    """Outputs of a network, input by input."""
    return _torch_outputs


@pytest.fixture(scope="session")
def agrees() -> Callable[..., Network]:
    """Reads a file, sees that the network computes what LiteRT does with the file, and gives the network."""
    return _agrees

"""What a TFLite file holds, as plain values: every count and offset is checked before it is used."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import tflite
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.nets.quantisation import Quantisation

Array = NDArray[Any]

IDENTIFIER = b"TFL3"
HIGHEST_RANK = 8

# What flatbuffers' classes, which check nothing, are seen to raise on damaged bytes.
FILE_ERRORS = (struct.error, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)

TYPES = {number: name for name, number in vars(tflite.TensorType).items() if isinstance(number, int)}
OPTIONS = {number: name for name, number in vars(tflite.BuiltinOptions).items() if isinstance(number, int)}
OPERATORS = {number: name for name, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
CUSTOM = int(tflite.BuiltinOperator.CUSTOM)

DTYPES = {
    "FLOAT16": "<f2",
    "FLOAT32": "<f4",
    "FLOAT64": "<f8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "BOOL": "?",
}
BITS = {"INT4": 4, "INT8": 8, "UINT8": 8, "INT16": 16}
"""Widths of the types that hold quantised tensors."""


class Damaged(ValueError):
    """Something in the file contradicts itself. Internal: becomes an `InvalidInput` that names the file."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor as the file describes it.

    `shape` has -1 where the size is open. `data` is None for what is computed at run time. `scales` is empty for a
    tensor that is not quantised; of several scales, each belongs to one index along `axis`.
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    data: NDArray[np.uint8] | None
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    variable: bool = False

    def integers(self) -> Array:
        """The stored numbers. Raises `Damaged` where the bytes do not fill the shape, or for types that hold none."""
        assert self.data is not None
        count = math.prod(self.shape)
        packed = self.kind == "INT4"
        if not packed and self.kind not in DTYPES:
            raise Damaged(f"tensor {self.name!r} of type {self.kind} holds no numbers that chipfit reads")
        size = (count + 1) // 2 if packed else count * np.dtype(DTYPES[self.kind]).itemsize
        if min(self.shape, default=0) < 0 or size != len(self.data):
            raise Damaged(f"tensor {self.name!r} has {len(self.data)} bytes for the shape {self.shape}")
        if packed:
            # Two in a byte, the lower half first; shifted up and back down for the sign.
            raw = self.data.view(np.int8)
            return np.stack([raw << 4 >> 4, raw >> 4], 1).reshape(-1)[:count].reshape(self.shape)
        return self.data.view(DTYPES[self.kind]).reshape(self.shape)

    def quantisation(self) -> Quantisation | None:
        """How its numbers stand for real ones, in signed form; None for a tensor that is not quantised."""
        if not self.scales or self.kind not in BITS:
            return None
        offset = 128 if self.kind == "UINT8" else 0
        # A channel of zeros, which some converters give the scale 0, is one of zeros by any scale.
        scales = tuple(scale or 1.0 for scale in self.scales)
        return Quantisation(scales, tuple(point - offset for point in self.zero_points), BITS[self.kind])


@dataclass(frozen=True)
class StoredOperator:
    """An operator: its name, the table of its options (None where it has none) and numbers of tensors, -1 for none."""

    name: str
    options: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass(frozen=True)
class StoredModel:
    """The network of a file."""

    tensors: tuple[StoredTensor, ...]
    operators: tuple[StoredOperator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def unreadable(where: str, why: object) -> InvalidInput:
    """The one message for a file that cannot be read."""
    return InvalidInput(
        f"{where}: not a readable TFLite file ({' '.join(str(why).split())}). Re-export it or check the download."
    )


def read(data: bytes, where: str) -> StoredModel:
    """What the bytes of a .tflite file hold. Raises `InvalidInput`, naming `where`, for what cannot be read."""
    if data[4:8] != IDENTIFIER:
        raise unreadable(where, "it does not have the mark TFL3")
    try:
        return _Reader(data, where).model()
    except FILE_ERRORS as error:
        reason = error if isinstance(error, Damaged) else "it is cut off, or its tables point to wrong places"
        raise unreadable(where, reason) from None


class _Reader:
    def __init__(self, data: bytes, where: str) -> None:
        self.data, self.where = data, where
        # Each number of a sound file takes bytes of its own: what is read in all is therefore bounded by its size,
        # with room for vectors that a writer shares.
        self.budget = 8 * len(data)
        self.root = tflite.Model.GetRootAs(data, 0)

    def model(self) -> StoredModel:
        graphs = self.count(self.root.SubgraphsLength())
        if graphs == 0:
            raise Damaged("there is no network in it")
        if graphs > 1:
            raise InvalidInput(
                f"{self.where}: has {graphs} subgraphs (loops, branches or several signatures); "
                "export one function without control flow"
            )
        graph: Any = self.root.Subgraphs(0)
        codes = [self.code(self.root.OperatorCodes(i)) for i in range(self.count(self.root.OperatorCodesLength()))]
        buffers = self.count(self.root.BuffersLength())
        tensors = [self.tensor(graph.Tensors(i), buffers) for i in range(self.count(graph.TensorsLength()))]
        total = self.count(graph.OperatorsLength())
        operators = [self.operator(graph.Operators(i), codes, len(tensors)) for i in range(total)]
        inputs = self.numbers(graph.InputsLength, graph.InputsAsNumpy, 0, len(tensors))
        outputs = self.numbers(graph.OutputsLength, graph.OutputsAsNumpy, 0, len(tensors))
        if not operators or not inputs or not outputs:
            raise Damaged("its network has no operators, no inputs or no outputs")
        if len(set(inputs)) != len(inputs):
            raise Damaged("an input is listed twice")
        return StoredModel(tuple(tensors), tuple(operators), inputs, outputs)

    def count(self, length: int) -> int:
        self.budget -= int(length)
        if length < 0 or self.budget < 0:
            raise Damaged("it lists more than its bytes can hold")
        return int(length)

    def text(self, value: bytes | None) -> str:
        self.count(len(value or b""))
        return (value or b"").decode()

    def numbers(self, length: Any, values: Any, low: int, high: int) -> tuple[int, ...]:
        """A vector of integers that all lie in `low` up to and without `high`."""
        if self.count(length()) == 0:
            return ()
        found = tuple(int(value) for value in values())
        if not all(low <= value < high for value in found):
            raise Damaged("it refers to tensors that it does not have, or sizes are out of range")
        return found

    def code(self, code: Any) -> str:
        # Files from before 2020 have the number in a field of 8 bits; newer ones have 127 there for large numbers.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if number == CUSTOM:
            return self.text(code.CustomCode()) or "CUSTOM"
        return OPERATORS.get(number, f"operator {number}")

    def tensor(self, tensor: Any, buffers: int) -> StoredTensor:
        if tensor is None:
            raise Damaged("a tensor is missing")
        name = self.text(tensor.Name())
        if tensor.Sparsity() is not None:
            raise InvalidInput(f"{self.where}: tensor {name!r}: sparse weights are not read; export dense ones")
        shape = self.numbers(tensor.ShapeLength, tensor.ShapeAsNumpy, -1, 2**31)
        signature = self.numbers(tensor.ShapeSignatureLength, tensor.ShapeSignatureAsNumpy, -1, 2**31)
        if max(len(shape), len(signature)) > HIGHEST_RANK:
            raise Damaged(f"tensor {name!r} has {len(shape)} axes")
        if len(signature) == len(shape):
            shape = tuple(-1 if opened == -1 else size for size, opened in zip(shape, signature, strict=True))
        kind = TYPES.get(tensor.Type(), f"type {tensor.Type()}")
        data = self.buffer(tensor.Buffer(), buffers, name)
        scales, points, axis = self.scales(tensor.Quantization(), name, shape)
        found = StoredTensor(name, shape, kind, data, scales, points, axis, bool(tensor.IsVariable()))
        try:
            found.quantisation()
        except InvalidInput as error:
            raise Damaged(f"tensor {name!r}: {error}") from None
        return found

    def buffer(self, number: int, buffers: int, name: str) -> NDArray[np.uint8] | None:
        if number >= buffers:
            raise Damaged(f"tensor {name!r} has the buffer {number} of {buffers}")
        buffer: Any = self.root.Buffers(number) if number else None
        if buffer is None:
            return None
        if buffer.Offset() <= 1:
            return buffer.DataAsNumpy() if buffer.DataLength() else None
        # Of files above 2 GB: the numbers lie behind the tables.
        start, size = buffer.Offset(), buffer.Size()
        if start + size > len(self.data):
            raise Damaged(f"the numbers of tensor {name!r} lie outside of the file")
        return np.frombuffer(self.data, np.uint8, size, start) if size else None

    def scales(self, table: Any, name: str, shape: tuple[int, ...]) -> tuple[tuple[float, ...], tuple[int, ...], int]:
        if table is None or self.count(table.ScaleLength()) == 0:
            return (), (), 0
        if table.DetailsType():
            raise InvalidInput(
                f"{self.where}: tensor {name!r}: scales by block are not read; quantise by tensor or by channel"
            )
        scales = tuple(float(scale) for scale in table.ScaleAsNumpy())
        points = self.numbers(table.ZeroPointLength, table.ZeroPointAsNumpy, -(2**31), 2**31) or (0,) * len(scales)
        axis = int(table.QuantizedDimension())
        if len(points) == 1:
            points *= len(scales)
        if len(points) != len(scales) or (len(scales) > 1 and not (axis < len(shape) and shape[axis] == len(scales))):
            raise Damaged(f"tensor {name!r} of shape {shape} has {len(scales)} scales and {len(points)} zero points")
        if not all(0 < scale < 1e30 or (scale == 0 and len(scales) > 1) for scale in scales):
            raise Damaged(f"tensor {name!r} has the scale {min(scales)}")
        return scales, points, axis

    def operator(self, operator: Any, codes: list[str], tensors: int) -> StoredOperator:
        if operator is None or not 0 <= operator.OpcodeIndex() < len(codes):
            raise Damaged("an operator is missing, or of a kind that is not listed")
        inputs = self.numbers(operator.InputsLength, operator.InputsAsNumpy, -1, tensors)
        outputs = self.numbers(operator.OutputsLength, operator.OutputsAsNumpy, 0, tensors)
        kind, table = operator.BuiltinOptionsType(), operator.BuiltinOptions()
        options = None
        if kind and table is not None and kind in OPTIONS:
            options = getattr(tflite, OPTIONS[kind])()
            options.Init(table.Bytes, table.Pos)
        return StoredOperator(codes[operator.OpcodeIndex()], options, inputs, outputs)

"""A program as the bytes of a TFLite file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import flatbuffers
import numpy as np
import tflite

from chipfit.nets.tflite.program import Affine, Array, Operation, Program, Tensor

TABLES: Mapping[str, str] = {
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "DIV": "DivOptions",
    "EXP": "ExpOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "GELU": "GeluOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MUL": "MulOptions",
    "PAD": "PadOptions",
    "PADV2": "PadV2Options",
    "QUANTIZE": "QuantizeOptions",
    "REDUCE_MAX": "ReducerOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SOFTMAX": "SoftmaxOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "TRANSPOSE": "TransposeOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
}
"""The table of options of each operation that has one that matters."""

ALIGNMENT = 16
"""Bytes that the schema aligns constants to."""

LARGEST_OLD_CODE = 127
"""The first schema kept operators in one byte; readers of it look there."""

TYPES: Mapping[str, int] = {
    "float32": tflite.TensorType.FLOAT32,
    "int8": tflite.TensorType.INT8,
    "int32": tflite.TensorType.INT32,
}

SCHEMA_VERSION = 3


def written(program: Program, description: str) -> bytes:
    """The bytes of the TFLite file."""
    sizes = [tensor.data.nbytes for tensor in program.tensors.values() if tensor.data is not None]
    builder = flatbuffers.Builder(sum(sizes) + 256 * (len(program.tensors) + len(program.operations)) + 1024)
    codes = list(dict.fromkeys(operation.code for operation in program.operations))
    index = {name: number for number, name in enumerate(program.tensors)}
    constants = [tensor.data for tensor in program.tensors.values() if tensor.data is not None]
    buffers = [_buffer(builder, None), *(_buffer(builder, data) for data in constants)]
    tensors: list[int] = []
    used = 0
    for tensor in program.tensors.values():
        used += tensor.data is not None
        tensors.append(_tensor(builder, tensor, used if tensor.data is not None else 0))
    operations = [_operation(builder, operation, index, codes) for operation in program.operations]
    graph = _subgraph(builder, program, tensors, operations, index)
    operator_codes = _offsets(builder, [_operator_code(builder, code) for code in codes])
    graphs, stored, text = _offsets(builder, [graph]), _offsets(builder, buffers), builder.CreateString(description)
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, SCHEMA_VERSION)
    tflite.ModelAddOperatorCodes(builder, operator_codes)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddDescription(builder, text)
    tflite.ModelAddBuffers(builder, stored)
    builder.Finish(tflite.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


def _offsets(builder: flatbuffers.Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return builder.EndVector()


def _vector(builder: flatbuffers.Builder, numbers: Sequence[int]) -> int:
    return builder.CreateNumpyVector(np.asarray(numbers, np.int32))


def _buffer(builder: flatbuffers.Builder, data: Array | None) -> int:
    if data is None:
        tflite.BufferStart(builder)
        return tflite.BufferEnd(builder)
    content = data.tobytes()
    builder.StartVector(1, len(content), ALIGNMENT)
    builder.head = builder.head - len(content)
    builder.Bytes[builder.head : builder.head + len(content)] = content
    vector = builder.EndVector()
    tflite.BufferStart(builder)
    tflite.BufferAddData(builder, vector)
    return tflite.BufferEnd(builder)


def _affine(builder: flatbuffers.Builder, affine: Affine) -> int:
    scales = builder.CreateNumpyVector(affine.scales)
    zero_points = builder.CreateNumpyVector(affine.zero_points)
    tflite.QuantizationParametersStart(builder)
    tflite.QuantizationParametersAddScale(builder, scales)
    tflite.QuantizationParametersAddZeroPoint(builder, zero_points)
    tflite.QuantizationParametersAddQuantizedDimension(builder, affine.axis)
    return tflite.QuantizationParametersEnd(builder)


def _tensor(builder: flatbuffers.Builder, tensor: Tensor, buffer: int) -> int:
    name, shape = builder.CreateString(tensor.name), _vector(builder, tensor.shape)
    affine = None if tensor.affine is None else _affine(builder, tensor.affine)
    tflite.TensorStart(builder)
    tflite.TensorAddShape(builder, shape)
    tflite.TensorAddType(builder, TYPES[tensor.type])
    tflite.TensorAddBuffer(builder, buffer)
    tflite.TensorAddName(builder, name)
    if affine is not None:
        tflite.TensorAddQuantization(builder, affine)
    # Without it a scalar cannot be told from a tensor of unknown rank.
    tflite.TensorAddHasRank(builder, True)
    return tflite.TensorEnd(builder)


Adder = Callable[[flatbuffers.Builder, Any], None]


@cache
def _adder(table: str, option: str) -> Adder:
    return getattr(tflite, f"{table}Add{option}")


@cache
def _ends(table: str) -> tuple[Callable[[flatbuffers.Builder], None], Callable[[flatbuffers.Builder], int], int]:
    kind = getattr(tflite.BuiltinOptions, table)
    return getattr(tflite, f"{table}Start"), getattr(tflite, f"{table}End"), kind


def _operation(
    builder: flatbuffers.Builder, operation: Operation, index: Mapping[str, int], codes: Sequence[str]
) -> int:
    inputs = _vector(builder, [index[name] for name in operation.inputs])
    outputs = _vector(builder, [index[operation.output]])
    table, kind, options = TABLES.get(operation.code), 0, 0
    if table is not None:
        start, end, kind = _ends(table)
        start(builder)
        for option, value in operation.options.items():
            _adder(table, option)(builder, value)
        options = end(builder)
    tflite.OperatorStart(builder)
    tflite.OperatorAddOpcodeIndex(builder, codes.index(operation.code))
    tflite.OperatorAddInputs(builder, inputs)
    tflite.OperatorAddOutputs(builder, outputs)
    if table is not None:
        tflite.OperatorAddBuiltinOptionsType(builder, kind)
        tflite.OperatorAddBuiltinOptions(builder, options)
    return tflite.OperatorEnd(builder)


def _operator_code(builder: flatbuffers.Builder, code: str) -> int:
    number = getattr(tflite.BuiltinOperator, code)
    tflite.OperatorCodeStart(builder)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, min(number, LARGEST_OLD_CODE))
    tflite.OperatorCodeAddBuiltinCode(builder, number)
    tflite.OperatorCodeAddVersion(builder, 1)
    return tflite.OperatorCodeEnd(builder)


def _subgraph(
    builder: flatbuffers.Builder,
    program: Program,
    tensors: Sequence[int],
    operations: Sequence[int],
    index: Mapping[str, int],
) -> int:
    listed, done = _offsets(builder, tensors), _offsets(builder, operations)
    inputs = _vector(builder, [index[name] for name in program.inputs])
    outputs = _vector(builder, [index[name] for name in program.outputs])
    name = builder.CreateString(program.name)
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, listed)
    tflite.SubGraphAddInputs(builder, inputs)
    tflite.SubGraphAddOutputs(builder, outputs)
    tflite.SubGraphAddOperators(builder, done)
    tflite.SubGraphAddName(builder, name)
    return tflite.SubGraphEnd(builder)

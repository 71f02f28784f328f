"""Networks from ONNX files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google.protobuf.message
import numpy as np
import onnx
import onnx.checker
import onnx.defs
import onnx.external_data_helper
import onnx.helper
import onnx.inliner
import onnx.numpy_helper
import onnx.reference
import onnx.shape_inference
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, ValueInfoProto

from chipfit.errors import InvalidGraph, InvalidInput
from chipfit.graph.graph import Input
from chipfit.graph.ops import Opaque
from chipfit.nets.draft import LARGEST_TENSOR, Draft, Unrepresentable
from chipfit.nets.network import Network
from chipfit.nets.onnx.call import Call, Computed
from chipfit.nets.onnx.operators import OPERATORS

OLDEST_OPSET = 13
DEFAULT_DOMAINS = ("", "ai.onnx")
GROWING = ("ConstantOfShape", "EyeLike", "Expand", "OneHot", "Pad", "Range", "Resize", "Tile")
"""Operators that make large tensors of small ones; they are worked out only up to `LARGEST_FOLDED` elements."""
LARGEST_FOLDED = 2**24
NEVER_FOLDED = ("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial")

# What ONNX's reference implementation is seen to raise for operands that it cannot compute with.
FOLDING_ERRORS = (
    ArithmeticError,
    AttributeError,
    LookupError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)

Array = NDArray[Any]
INFERENCE_ERRORS = (
    onnx.checker.ValidationError,
    onnx.defs.SchemaError,
    onnx.shape_inference.InferenceError,
    RuntimeError,
    TypeError,
    ValueError,
)

InputShape = Sequence[int] | Mapping[str, Sequence[int]]


def import_onnx(model: Path | str | ModelProto, *, input_shape: InputShape | None = None) -> Network:
    """The network of an ONNX file (operator sets 13 and later).

    Keys are the names of the nodes; a node without a name is called after its weight, else operator_index. A batch
    that is open becomes 1. `input_shape`, batch first, fixes other open sizes: one shape, or one per input by name.
    Arithmetic on shapes and constants is worked out; what no node of a graph can say becomes an `Opaque`. Raises
    `InvalidInput` for a file that cannot be read, sizes that stay open and shapes that are not known.
    """
    where = "ONNX model" if isinstance(model, ModelProto) else str(model)
    proto = model if isinstance(model, ModelProto) else _read(Path(model))
    _check(proto, where)
    if proto.functions:
        proto = onnx.inliner.inline_local_functions(proto)
    name = proto.graph.name or "network" if isinstance(model, ModelProto) else Path(model).stem
    return _Importer(proto, where, input_shape).network(name)


def _unreadable(where: str, why: object) -> InvalidInput:
    reason = " ".join(str(why).split())
    return InvalidInput(f"{where}: not a readable ONNX file ({reason}). Re-export it or check the download.")


def _read(path: Path) -> ModelProto:
    proto = ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
        onnx.external_data_helper.load_external_data_for_model(proto, str(path.parent))
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read ({error.strerror or error}); check the path") from None
    except (google.protobuf.message.DecodeError, onnx.checker.ValidationError, ValueError) as error:
        raise _unreadable(str(path), error) from None
    return proto


def _check(proto: ModelProto, where: str) -> None:
    if any(not isinstance(text, str) for text in _texts(proto)):
        raise _unreadable(where, "a name is no text")
    checked = proto
    if bare := [item.name for item in proto.graph.output if not item.type.tensor_type.HasField("shape")]:
        # The checker wants shapes of outputs, which runtimes do without.
        checked = ModelProto()
        checked.CopyFrom(proto)
        for item in checked.graph.output:
            if item.name in bare and item.type.HasField("tensor_type"):
                item.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(checked)
    except (onnx.checker.ValidationError, google.protobuf.message.EncodeError, ValueError) as error:
        raise _unreadable(where, str(error).partition("\n")[0]) from None
    versions = [item.version for item in proto.opset_import if item.domain in DEFAULT_DOMAINS]
    if not proto.graph.node or not versions:
        raise _unreadable(where, "there is no network in it")
    if min(versions) < OLDEST_OPSET:
        raise InvalidInput(
            f"{where}: operator set {min(versions)} is too old; export with {OLDEST_OPSET} or later, "
            "or run onnx.version_converter"
        )
    if proto.graph.sparse_initializer:
        raise InvalidInput(f"{where}: sparse weights are not read; export dense ones")


def _texts(proto: ModelProto) -> Iterator[str | bytes]:
    """All names; protobuf gives bytes for what is no valid text."""
    graph = proto.graph
    for item in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        yield item.name
    for node in graph.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)


@dataclass(frozen=True, slots=True)
class _Named:
    """An ONNX node and the key that it gets."""

    proto: NodeProto
    key: str


class _Importer:
    def __init__(self, proto: ModelProto, where: str, input_shape: InputShape | None) -> None:
        self.proto, self.where = proto, where
        self.tensors: dict[str, Computed | Array] = {}
        try:
            for item in proto.graph.initializer:
                self.tensors[item.name] = onnx.numpy_helper.to_array(item)
        except (ValueError, TypeError, KeyError) as error:
            raise _unreadable(where, f"weight {item.name!r}: {error}") from None  # type: ignore[reportPossiblyUnbound]
        given = [item for item in proto.graph.input if item.name not in self.tensors]
        self.draft = Draft([Input(item.name, _input_shape(item, given, input_shape, where)) for item in given])
        self.tensors |= {item.name: Computed(item.name) for item in given}
        self.readers = Counter(name for node in proto.graph.node for name in node.input)
        self.readers.update(item.name for item in proto.graph.output)
        self.opsets = {item.domain: item.version for item in proto.opset_import}
        self.constants: dict[str, str] = {}

    def network(self, name: str) -> Network:
        taken: set[str] = set()
        for index, proto in enumerate(self.proto.graph.node):
            try:
                self._node(_Named(proto, _key(proto, index, taken)))
            except InvalidGraph as error:
                raise InvalidInput(f"{self.where}: node {proto.name or proto.op_type!r}: {error}") from None
        outputs = [self._output(item.name) for item in self.proto.graph.output]
        try:
            return self.draft.finish(name, outputs)
        except InvalidGraph as error:
            raise InvalidInput(f"{self.where}: {error}") from None

    def _output(self, name: str) -> str:
        value = self.tensors.get(name)
        if value is None:
            raise _unreadable(self.where, f"output {name!r} is given by no node")
        return value.key if isinstance(value, Computed) else self.draft.constant(name, value)

    def _node(self, node: _Named) -> None:
        proto = node.proto
        inputs = tuple(self._operand(name, node) for name in proto.input)
        if self._fold(node, inputs):
            return
        alone = tuple(self.readers[name] == 1 for name in proto.input)
        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in proto.attribute}
        outputs = tuple(proto.output)
        call = Call(
            self.draft, proto.op_type, node.key, attributes, inputs, tuple(proto.input), outputs, alone, self.constants
        )
        build = OPERATORS.get(proto.op_type) if proto.domain in DEFAULT_DOMAINS else None
        try:
            if build is None:
                raise Unrepresentable(proto.op_type)
            built = build(call)
        except Unrepresentable:
            self._opaque(node, call)
            return
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise _unreadable(self.where, f"node {node.key!r} ({proto.op_type}): {error}") from None
        for name, key in zip(proto.output, [built] if isinstance(built, str) else built, strict=False):
            self.tensors[name] = Computed(key)

    def _operand(self, name: str, node: _Named) -> Computed | Array | None:
        if name and name not in self.tensors:
            raise InvalidInput(
                f"{self.where}: node {node.key!r} ({node.proto.op_type}) reads {name!r}, which is unknown"
            )
        return self.tensors[name] if name else None

    def _fold(self, node: _Named, inputs: tuple[Computed | Array | None, ...]) -> bool:
        """Works out what is known before run time; says whether it could."""
        proto = node.proto
        if proto.domain not in DEFAULT_DOMAINS or proto.op_type in NEVER_FOLDED:
            return False
        if proto.op_type in ("Shape", "Size") and isinstance(inputs[0], Computed):
            shape = self.draft.shapes[inputs[0].key]
            bounds = {item.name: item.i for item in proto.attribute}
            part = shape[slice(bounds.get("start"), bounds.get("end"))]
            result = part if proto.op_type == "Shape" else math.prod(shape)
            self.tensors[proto.output[0]] = np.array(result, np.int64)
            return True
        if proto.op_type == "Identity" and not isinstance(inputs[0], Computed):
            assert inputs[0] is not None
            # A constant as the export writes it stays a tensor: otherwise it could be taken for a weight.
            ours = proto.input[0] == f"{proto.name}.value"
            self.tensors[proto.output[0]] = Computed(self.draft.constant(node.key, inputs[0])) if ours else inputs[0]
            return True
        if any(isinstance(value, Computed) for value in inputs):
            return False
        if proto.op_type in GROWING:
            shape = _all_known(self._inferred(proto, inputs).get(proto.output[0]))
            if shape is None or math.prod(shape) > LARGEST_FOLDED:
                return False
        feeds = {name: value for name, value in zip(proto.input, inputs, strict=True) if name}
        try:
            results = onnx.reference.ReferenceEvaluator(proto, opsets=self.opsets).run(None, feeds)  # type: ignore[arg-type]
        except FOLDING_ERRORS:
            return False
        if not all(isinstance(result, (np.ndarray, np.generic)) for result in results):
            return False
        for name, result in zip(proto.output, results, strict=False):
            self.tensors[name] = np.asarray(result)
        return True

    def _opaque(self, node: _Named, call: Call) -> None:
        """One opaque node for every output that something reads."""
        proto = node.proto
        reads = [value.key for value in call.inputs if isinstance(value, Computed)]
        operator = f"{proto.domain}.{proto.op_type}" if proto.domain not in DEFAULT_DOMAINS else proto.op_type
        inferred = self._inferred(proto, call.inputs)
        for index, name in enumerate(proto.output):
            if not name or not self.readers[name]:
                continue
            sizes = inferred.get(name)
            if sizes is None:
                raise InvalidInput(
                    f"{self.where}: node {node.key!r}: the operator {operator!r} is unknown and so is the shape of "
                    "what it gives; cut the network before it, or store the shape with onnx.shape_inference"
                )
            shape = tuple(1 if size is None else size for size in sizes)
            named = operator if None not in sizes else f"{operator} (gives a size that is known only when it runs)"
            key = node.key if index == 0 else f"{node.key}.{index}"
            self.tensors[name] = Computed(self.draft.add(key, Opaque(named, shape), reads))

    def _inferred(self, proto: NodeProto, inputs: Sequence[Computed | Array | None]) -> dict[str, Sizes]:
        """Sizes of a node's outputs, from ONNX's own rule for it or from what the file says; None where open."""
        stored = {item.name: _shape_of(item) for item in (*self.proto.graph.value_info, *self.proto.graph.output)}
        known = {name: sizes for name, sizes in stored.items() if sizes is not None and name in proto.output}
        found = {name: _batch_of_one(sizes) or sizes for name, sizes in known.items()}
        domain = "" if proto.domain in DEFAULT_DOMAINS else proto.domain
        if not onnx.defs.has(proto.op_type, domain):
            return found
        floats = onnx.TensorProto.FLOAT
        types: dict[str, onnx.TypeProto] = {}
        data: dict[str, onnx.TensorProto] = {}
        for name, value in zip(proto.input, inputs, strict=True):
            if isinstance(value, Computed):
                types[name] = onnx.helper.make_tensor_type_proto(floats, self.draft.shapes[value.key])
            elif value is not None:
                data[name] = onnx.numpy_helper.from_array(value, name)
                types[name] = onnx.helper.make_tensor_type_proto(data[name].data_type, value.shape)
        try:
            schema = onnx.defs.get_schema(proto.op_type, self.opsets.get(proto.domain, 1), domain)
            inferred = onnx.shape_inference.infer_node_outputs(
                schema,
                proto,
                types,
                data,
                opset_imports=list(self.proto.opset_import),
                ir_version=self.proto.ir_version,
            )
        except INFERENCE_ERRORS:
            return found
        ruled = {name: sizes for name, item in inferred.items() if (sizes := _dimensions(item)) is not None}
        closed = {name for name, sizes in found.items() if None not in sizes}
        return found | {name: sizes for name, sizes in ruled.items() if None not in sizes or name not in closed}


def _key(proto: NodeProto, index: int, taken: set[str]) -> str:
    weights = [name for name in proto.input if name.endswith(".weight")]
    wanted = proto.name or (weights[0].removesuffix(".weight") if weights else f"{proto.op_type}_{index}")
    key, number = wanted, 0
    while key in taken:
        number += 1
        key = f"{wanted}_{number}"
    taken.add(key)
    return key


Sizes = tuple[int | None, ...]


def _dimensions(item: onnx.TypeProto) -> Sizes | None:
    kind = item.tensor_type
    if not item.HasField("tensor_type") or not kind.HasField("shape"):
        return None
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim)


def _shape_of(item: ValueInfoProto) -> Sizes | None:
    return _dimensions(item.type)


def _all_known(sizes: Sizes | None) -> tuple[int, ...] | None:
    if sizes is None or any(size is None for size in sizes):
        return None
    return tuple(size for size in sizes if size is not None)


def _batch_of_one(sizes: Sizes) -> tuple[int, ...] | None:
    return _all_known((1, *sizes[1:]) if sizes and sizes[0] is None else sizes)


def _input_shape(
    item: ValueInfoProto, given: Sequence[ValueInfoProto], wanted: InputShape | None, where: str
) -> tuple[int, ...]:
    """Shape of an input of the file, with the open sizes taken from `wanted`."""
    if not item.type.HasField("tensor_type"):
        raise InvalidInput(f"{where}: input {item.name!r} is no tensor; export the network with tensors as inputs")
    stored = _shape_of(item)
    if isinstance(wanted, Mapping):
        if unknown := [name for name in wanted if name not in {entry.name for entry in given}]:
            raise InvalidInput(f"{where}: there is no input {unknown[0]!r}; it has {[entry.name for entry in given]}")
        asked = wanted.get(item.name)
    else:
        if wanted is not None and len(given) != 1:
            raise InvalidInput(f"{where}: has {len(given)} inputs; give input_shape= by name")
        asked = wanted
    sizes = stored if stored is not None else tuple(asked or ())
    if asked is not None:
        fits = len(asked) == len(sizes) and all(a in (None, b) for a, b in zip(sizes, asked, strict=True))
        if not fits:
            raise InvalidInput(
                f"{where}: input {item.name!r} is {sizes}, which input_shape={tuple(asked)} does not fit"
            )
        sizes = tuple(asked)
    shape = _batch_of_one(sizes)
    if shape is None or not shape or min(shape) < 1 or math.prod(shape) > LARGEST_TENSOR:
        raise InvalidInput(
            f"{where}: input {item.name!r} has open sizes {sizes}; give them all with input_shape=, batch 1 first"
        )
    if shape[0] != 1:
        raise InvalidInput(
            f"{where}: input {item.name!r} of shape {shape} has no batch of 1 first; export it with one, or an open one"
        )
    return shape

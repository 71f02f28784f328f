"""Networks from TFLite files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from chipfit.errors import InvalidGraph, InvalidInput
from chipfit.graph.graph import Input
from chipfit.graph.ops import Opaque
from chipfit.nets.draft import LARGEST_TENSOR, Draft, Unrepresentable
from chipfit.nets.network import Network
from chipfit.nets.quantisation import Quantisation
from chipfit.nets.tflite.call import Call
from chipfit.nets.tflite.dilation import Joined, join_dilations
from chipfit.nets.tflite.folding import fold
from chipfit.nets.tflite.operators_in import OPERATORS
from chipfit.nets.tflite.reader import FILE_ERRORS, Damaged, StoredModel, StoredTensor, read, unreadable
from chipfit.nets.tflite.views import IMAGE, Flattened, Known, Operand, View, Views

InputShape = Sequence[int] | Mapping[str, Sequence[int]]

ALLOWANCE = 2**20
"""Numbers that a file of any size may unfold to; a larger one may unfold to 16 for each of its bytes."""


def import_tflite(model: Path | str | bytes, *, input_shape: InputShape | None = None) -> Network:
    """The network of a TFLite file, of floating-point numbers also where the file has integers.

    Keys are the names of the file's tensors, of joined names the first. Images, which the file has as (batch, height,
    width, channels), are (batch, channels, height, width) in the graph. A batch that is open becomes 1. `input_shape`,
    batch first, as the graph has it, fixes other open sizes: one shape, or one per input by name. What the file says of
    the quantisation of tensors is kept beside the network; what no node of a graph can say becomes an `Opaque`. Raises
    `InvalidInput` for a file that cannot be read, sizes that stay open, several subgraphs, and sparse or block-wise
    weights.
    """
    if isinstance(model, bytes):
        where, data = "TFLite model", model
    else:
        where = str(model)
        try:
            data = Path(model).read_bytes()
        except OSError as error:
            raise InvalidInput(f"{where}: cannot be read ({error.strerror or error}); check the path") from None
    name = "network" if isinstance(model, bytes) else Path(model).stem
    return _Importer(read(data, where), where, input_shape, 16 * len(data) + ALLOWANCE).network(name)


class _Importer:
    def __init__(self, model: StoredModel, where: str, input_shape: InputShape | None, budget: int) -> None:
        self.model, self.where, self.budget = model, where, budget
        self.names = _names(model.tensors)
        given = {index: self._input(index, input_shape) for index in model.inputs}
        inputs = [Input(self.names[index], shape) for index, shape in given.items()]
        self.views = Views(Draft(inputs))
        self.operands: dict[int, Operand] = {}
        for index, shape in given.items():
            rank = len(model.tensors[index].shape)
            order = IMAGE if rank == 4 else tuple(range(len(shape) - rank, len(shape)))
            self.operands[index] = View(self.names[index], order)
        self.quantisation: dict[str, Quantisation] = {}
        self.constants: dict[tuple[str, tuple[int, ...]], str] = {}

    @property
    def draft(self) -> Draft:
        return self.views.draft

    def network(self, name: str) -> Network:
        operators = join_dilations(self.model)
        for item in operators:
            self._operator(item)
        try:
            outputs = [self._output(number) for number in self.model.outputs]
            if empty := [key for key, shape in self.draft.shapes.items() if min(shape, default=1) < 1]:
                raise Damaged(f"tensor {empty[0]!r} is empty")
            for number in self.operands:
                self._note(number)
            self._prune(outputs)
            network = self.draft.finish(name, outputs)
        except (InvalidGraph, InvalidInput, *FILE_ERRORS) as error:
            raise unreadable(self.where, error) from None
        except Unrepresentable as error:
            raise InvalidInput(f"{self.where}: an output cannot be given: {error}; cut the network before it") from None
        kept = {*network.graph.shapes, *network.weights}
        return replace(network, quantisation={key: item for key, item in self.quantisation.items() if key in kept})

    def _prune(self, outputs: Sequence[str]) -> None:
        """Drops what nothing needs, as it would hide what belongs together."""
        needed = set(outputs)
        for node in reversed(self.draft.nodes.values()):
            if node.key in needed:
                needed.update(node.inputs)
        for key in set(self.draft.nodes) - needed:
            del self.draft.nodes[key]

    def _output(self, number: int) -> str:
        item = self._operand(number, "the network")
        if item is None:
            raise Damaged(f"output {self.names[number]!r} is given by no operator")
        if isinstance(item, Known):
            return self.draft.constant(self.names[number], item.array)
        if isinstance(item, Flattened):
            return self.views.row(item, of_file=True).key
        if len(item.order) == 4 and self.views.batched(item):
            return self.views.image(item).key
        return self.views.plain(item).key if item.order else item.key

    def _note(self, number: int) -> None:
        """Keeps the quantisation of a tensor under the key that it has in the graph."""
        found, item = self.model.tensors[number].quantisation(), self.operands[number]
        if found is None or isinstance(item, Known):
            return
        keys = (
            [item.key]
            if isinstance(item, View)
            else [
                self.views.rows[item.name, of_file].key
                for of_file in (True, False)
                if (item.name, of_file) in self.views.rows
            ]
        )
        for key in keys:
            self.quantisation.setdefault(key, found)

    def _operator(self, item: Joined) -> None:
        stored = item.stored
        if not stored.outputs:
            return
        key = self.names[stored.outputs[0]]
        label = f"operator {key!r} ({stored.name})"
        for number in stored.outputs:
            if number in self.operands or self.model.tensors[number].data is not None:
                raise unreadable(self.where, f"{label} gives {self.names[number]!r}, which is there already")
        try:
            inputs = tuple(self._operand(number, "it") for number in stored.inputs)
            shapes = tuple(self.model.tensors[number].shape for number in stored.outputs)
            call = Call(stored, key, inputs, shapes, self.views, self.quantisation, self.constants, item.dilation)
            for number, result in zip(stored.outputs, self._results(call), strict=False):
                self.operands[number] = result
        except (InvalidGraph, *FILE_ERRORS) as error:
            said = isinstance(error, InvalidGraph | Damaged)
            raise unreadable(self.where, f"{label}: {error if said else 'it contradicts itself'}") from None

    def _operand(self, number: int, reader: str) -> Operand | None:
        if number < 0:
            return None
        if number not in self.operands:
            tensor = self.model.tensors[number]
            if tensor.variable and tensor.data is None:
                return None
            if tensor.data is None and math.prod(tensor.shape) != 0:
                raise Damaged(f"{reader} reads {self.names[number]!r}, which nothing before it gives")
            self.operands[number] = self._known(tensor, self.names[number])
        return self.operands[number]

    def _known(self, tensor: StoredTensor, name: str) -> Operand:
        if tensor.data is None:
            return Known(name, np.zeros(tensor.shape, np.float32))
        if tensor.kind == "STRING":
            return Known(name, np.zeros((), "S1"))
        array = tensor.integers()
        self._charge(array.size)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        if not tensor.scales:
            return Known(name, array)
        shape = [1] * array.ndim
        if len(tensor.scales) > 1:
            shape[tensor.axis] = len(tensor.scales)
        scales = np.array(tensor.scales[: max(shape, default=1)], np.float64).reshape(shape)
        points = np.array(tensor.zero_points[: max(shape, default=1)], np.float64).reshape(shape)
        values = ((array - points) * scales).astype(np.float32)
        return Known(name, values, tensor.quantisation())

    def _charge(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise Damaged("it unfolds to far more numbers than it has bytes")

    def _results(self, call: Call) -> Sequence[Operand]:
        try:
            folded = fold(call)
            if folded is not None:
                self._charge(sum(array.size for array in folded))
                names = (self.names[number] for number in call.stored.outputs)
                kept = _kept_quantisation(call)
                return [Known(name, array, kept) for name, array in zip(names, folded, strict=True)]
            # Weights are copied into nodes, however many of them read the same.
            self._charge(sum(item.array.size for item in call.inputs if isinstance(item, Known)))
            build = OPERATORS.get(call.stored.name)
            if build is None:
                raise Unrepresentable(call.stored.name)
            built = build(call)
        except Unrepresentable as reason:
            return self._opaque(call, str(reason))
        return [built] if isinstance(built, View | Flattened | Known) else built

    def _opaque(self, call: Call, reason: str) -> list[Operand]:
        """One opaque node for every output; those that nothing reads are dropped with all else that nothing needs."""
        reads: list[str] = []
        for item in call.inputs:
            if isinstance(item, View | Flattened):
                reads.append(item.key if isinstance(item, View) else self.views.row(item, of_file=True).key)
        operator = call.stored.name if call.stored.name not in OPERATORS else f"{call.stored.name} ({reason})"
        results: list[Operand] = []
        for number, sizes in zip(call.stored.outputs, call.shapes, strict=True):
            shape = tuple(1 if size < 1 else size for size in sizes)
            named = operator
            if any(size < 1 for size in sizes[1:]):
                named = f"{operator} (gives a size that is known only when it runs)"
            order = IMAGE if len(shape) == 4 and shape[0] == 1 else tuple(range(len(shape)))
            full = [0] * len(shape)
            for place, size in zip(order, shape, strict=True):
                full[place] = size
            results.append(View(self.draft.add(self.names[number], Opaque(named, tuple(full)), reads), order))
        return results

    def _input(self, index: int, wanted: InputShape | None) -> tuple[int, ...]:
        """Shape in the graph of an input of the file, with the open sizes taken from `wanted`."""
        tensor, name = self.model.tensors[index], self.names[index]
        names = [self.names[number] for number in self.model.inputs]
        if isinstance(wanted, Mapping):
            if unknown := [given for given in wanted if given not in names]:
                raise InvalidInput(f"{self.where}: there is no input {unknown[0]!r}; it has {names}")
            asked = wanted.get(name)
        elif wanted is not None and len(names) != 1:
            raise InvalidInput(f"{self.where}: has {len(names)} inputs; give input_shape= by name")
        else:
            asked = wanted
        stored = tensor.shape
        if len(stored) == 4:
            stored = (stored[0], stored[3], stored[1], stored[2])
        if asked is not None:
            fits = len(asked) == len(stored) and all(a in (-1, b) for a, b in zip(stored, asked, strict=True))
            if not fits:
                raise InvalidInput(
                    f"{self.where}: input {name!r} is {_shown(stored)}, which input_shape={tuple(asked)} does not fit"
                )
            stored = tuple(asked)
        shape = (1, *stored[1:]) if stored[:1] == (-1,) else stored
        if not shape or min(shape) < 1 or math.prod(shape) > LARGEST_TENSOR:
            raise InvalidInput(
                f"{self.where}: input {name!r} has open sizes {_shown(shape)}; give them all with input_shape=, "
                "batch 1 first, then the channels of an image"
            )
        if len(shape) == 1 and shape != (1,):
            return (1, *shape)
        if shape[0] != 1:
            raise InvalidInput(
                f"{self.where}: input {name!r} of shape {shape} has no batch of 1 first; export it with one, "
                "or an open one"
            )
        return shape


def _kept_quantisation(call: Call) -> Quantisation | None:
    """That of weights which the file turns into floating-point numbers before a layer reads them."""
    given = call.inputs[0] if call.stored.name == "DEQUANTIZE" and call.inputs else None
    return given.quantisation if isinstance(given, Known) else None


def _shown(shape: Sequence[int]) -> str:
    """A shape with a question mark for what is open."""
    return f"({', '.join('?' if size < 0 else str(size) for size in shape)})"


def _names(tensors: Sequence[StoredTensor]) -> dict[int, str]:
    """A name for each tensor that no other one has.

    Of the names of all that a converter made one operator of, joined by semicolons, the first is kept: that of the
    last layer. What is computed comes before weights, which often bear the same names.
    """
    names: dict[int, str] = {}
    taken: set[str] = set()
    again: Counter[str] = Counter()
    for index in sorted(range(len(tensors)), key=lambda index: tensors[index].data is not None):
        wanted = tensors[index].name.partition(";")[0] or f"tensor_{index}"
        key = wanted
        while key in taken:
            again[wanted] += 1
            key = f"{wanted}_{again[wanted]}"
        taken.add(key)
        names[index] = key
    return names

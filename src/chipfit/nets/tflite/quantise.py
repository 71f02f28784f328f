"""From real numbers to integers of 8 bits, as TFLite's specification of int8 kernels has them.

Activations have one scale and zero point, weights a scale for each output channel and zero point 0, biases 32 bits with
the scale of input × weight. What only moves or compares numbers keeps their scale and zero point.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from chipfit.errors import InvalidInput
from chipfit.nets.network import Network
from chipfit.nets.quantisation import Quantisation
from chipfit.nets.tflite.program import Affine, Array, Operation, Program, Tensor

Ranges = Mapping[str, tuple[float, float]]
"""Smallest and largest number of each tensor, by key."""

LOW, HIGH = -128, 127
BIAS_STEPS = 2**30
"""Steps of a bias that 32 bits hold with room to spare."""

FIXED: Mapping[str, tuple[float, int]] = {"SOFTMAX": (1 / 256, -128), "LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}
"""Scale and zero point that the specification demands of an output."""

MOVES = frozenset((
    "AVERAGE_POOL_2D", "CONCATENATION", "GATHER", "MAX_POOL_2D", "MAXIMUM", "MINIMUM", "PAD", "PADV2", "REDUCE_MAX",
    "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "STRIDED_SLICE", "TRANSPOSE",
))  # fmt: skip
"""Operations whose inputs and output must have the same scale and zero point."""

AVERAGES = frozenset(("AVERAGE_POOL_2D", "RESIZE_BILINEAR"))
"""Those among them that give numbers which were not there before."""


@dataclass(frozen=True, slots=True)
class Layer:
    """Where an operation with weights has its inputs, and along which axis of the weight its output channels lie."""

    source: int
    weight: int
    bias: int
    axis: int


LAYERS: Mapping[str, Layer] = {
    "CONV_2D": Layer(0, 1, 2, 0),
    "DEPTHWISE_CONV_2D": Layer(0, 1, 2, 3),
    "FULLY_CONNECTED": Layer(0, 1, 2, 0),
    "TRANSPOSE_CONV": Layer(2, 1, 3, 0),
}


def affine_of(low: float, high: float) -> Affine:
    """Scale and zero point of a tensor whose numbers lie between two; 0 is always among its numbers, exactly."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / (HIGH - LOW)) or np.float32(1.0)
    zero_point = min(HIGH, max(LOW, round(LOW - low / float(scale))))
    return Affine(np.array([scale], np.float32), np.array([zero_point], np.int64))


def integers(array: Array, affine: Affine) -> Array:
    """The nearest integers of 8 bits, (…) as `array`."""
    shape = [1] * array.ndim
    if len(affine.scales) > 1:
        shape[affine.axis] = -1
    scales, points = affine.scales.astype(np.float64).reshape(shape), affine.zero_points.reshape(shape)
    return np.clip(np.round(array / scales) + points, LOW, HIGH).astype(np.int8).reshape(array.shape)


def quantised(program: Program, network: Network, ranges: Ranges | None) -> Program:
    """The program with integers of 8 bits: by `ranges`, or where that is None by the network's own quantisation.

    An operation that 8 bits do not do computes with floating-point numbers, between DEQUANTIZE and QUANTIZE; so does
    arithmetic that the network's own quantisation says nothing of, as in the file that it is from. Raises
    `InvalidInput` naming the tensors that have no range, or the layers that have no quantisation, or one that is no
    number or not of 8 bits.
    """
    if ranges is None:
        _leave_real(program, network)
    return _Quantiser(program, network, ranges).program


def _leave_real(program: Program, network: Network) -> None:
    """Marks arithmetic without quantisation, and what only moves its numbers, as computed in float32."""
    real: set[str] = set()
    for place, operation in enumerate(program.operations):
        name, known = operation.output, operation.output in network.quantisation
        if operation.code in LAYERS:
            continue
        computes = operation.code in AVERAGES or not (operation.code in MOVES or operation.code in FIXED)
        unsaid = computes and name in network.graph.shapes and not known
        if operation.real or unsaid or real.intersection(operation.inputs):
            program.operations[place] = replace(operation, real=True)
            real.update(() if known else (name,))


class _Quantiser:
    def __init__(self, program: Program, network: Network, ranges: Ranges | None) -> None:
        self.program, self.network, self.ranges = program, network, ranges
        self.given: Mapping[str, Quantisation] = network.quantisation if ranges is None else {}
        self.operations = program.operations
        self.readers: dict[str, list[Operation]] = {}
        self.writers = {operation.output: operation for operation in program.operations}
        for operation in program.operations:
            for name in operation.inputs:
                self.readers.setdefault(name, []).append(operation)
        self.own = {
            operation.inputs[place]
            for operation in program.operations
            if (layer := LAYERS.get(operation.code)) is not None
            for place in (layer.weight, layer.bias)
        }
        self.lowest = {
            name for name, tensor in program.tensors.items() if tensor.data is not None and _is_lowest(tensor.data)
        }
        self.affines: dict[str, Affine] = {}
        self.leader: dict[str, str] = {}
        self._share()
        self._assign()
        self._layers()
        self._rewrite()

    def number(self, name: str) -> bool:
        """Whether a tensor holds numbers of 8 bits: not weights, sizes, or what is computed in float32 throughout."""
        if name in self.own or self.program.tensors[name].type != "float32":
            return False
        return not self._stays_real(name)

    def _stays_real(self, name: str) -> bool:
        writer = self.writers.get(name)
        if name in self.program.outputs or name in self.program.inputs or (writer is not None and not writer.real):
            return False
        return all(reader.real for reader in self.readers.get(name, ()))

    def _first(self, name: str) -> str:
        while (above := self.leader.get(name, name)) != name:
            name = above
        return name

    def _share(self) -> None:
        """Finds what is fixed, and which of the other tensors must have the same scale and zero point."""
        self._pin()
        for operation in self.operations:
            if operation.code in FIXED and not operation.real:
                scale, point = FIXED[operation.code]
                self.affines[operation.output] = Affine(np.array([scale], np.float32), np.array([point], np.int64))
            if operation.code not in MOVES or operation.real:
                continue
            inputs = [name for name in operation.inputs if self.number(name)]
            moved = [name for name in inputs if name not in self.lowest]
            known = [self.affines.get(name) for name in moved]
            first = known[0]
            if first is not None and all(other is not None and first.same(other) for other in known):
                self.affines.setdefault(operation.output, first)
            if operation.output in self.affines:
                inner = (name for name in moved if name in self.writers and name not in self.network.graph.shapes)
                for name in inner:
                    self.affines.setdefault(name, self.affines[operation.output])
            free = [name for name in (*moved, operation.output) if name not in self.affines]
            for name in free[1:]:
                self.leader[self._first(name)] = self._first(free[0])

    def _pin(self) -> None:
        """Takes what the network itself says of its tensors."""
        if not self.given:
            return
        for name in self.program.tensors:
            found = self.given.get(name) or self.given.get(f"{name}.value")
            if found is not None and self.number(name):
                self.affines[name] = _checked(name, found, self.network.name)

    def _assign(self) -> None:
        """Scale and zero point of every tensor that is not fixed: from all that its group is known to hold."""
        groups: dict[str, list[str]] = {}
        for name in self.program.tensors:
            if name not in self.affines and self.number(name) and name not in self.lowest:
                groups.setdefault(self._first(name), []).append(name)
        missing: list[str] = []
        for names in groups.values():
            known = [found for name in names if (found := self._range(name)) is not None]
            if not known:
                missing.append(names[0])
                continue
            affine = affine_of(min(low for low, _ in known), max(high for _, high in known))
            self.affines.update(dict.fromkeys(names, affine))
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            raise InvalidInput(
                f"{self.network.name}: no range is known of {', '.join(map(repr, missing[:3]))}{more}; give ranges "
                "from activation_ranges, or a network without quantisation for a float32 file"
            )

    def _range(self, name: str) -> tuple[float, float] | None:
        """From where to where a tensor's numbers go, as far as that is known."""
        data = self.program.tensors[name].data
        if data is not None:
            return float(data.min()), float(data.max())
        if self.ranges is not None and name in self.ranges:
            low, high = self.ranges[name]
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise InvalidInput(
                    f"{self.network.name}: range {low} to {high} of {name!r}: give finite numbers, the smaller first"
                )
            return float(low), float(high)
        return self._inner_range(name)

    def _inner_range(self, name: str) -> tuple[float, float] | None:
        """The bounds that an operation inside of a written-out operator sets itself."""
        writer = self.writers.get(name)
        if writer is None or name in self.network.graph.shapes:
            return None
        if writer.options.get("FusedActivationFunction") == 3:
            return 0.0, 6.0
        if writer.code == "MUL":
            ends = [self._bounds(source) for source in writer.inputs]
            products = [a * b for a in ends[0] for b in ends[1]]
            return (min(products), max(products)) if products else None
        return None

    def _bounds(self, name: str) -> tuple[float, ...]:
        if name in self.affines:
            return tuple(self._ends(self.affines[name]))
        return self._range(name) or ()

    @staticmethod
    def _ends(affine: Affine) -> Sequence[float]:
        return [float(affine.scales[0]) * (end - int(affine.zero_points[0])) for end in (LOW, HIGH)]

    def _layers(self) -> None:
        """Integers of weights and biases."""
        for operation in self.operations:
            layer = LAYERS.get(operation.code)
            if layer is None:
                continue
            source, weight, bias = (operation.inputs[place] for place in (layer.source, layer.weight, layer.bias))
            weights, biases = (self.program.tensors[name].data for name in (weight, bias))
            assert weights is not None
            assert biases is not None
            scale = float(self.affines[source].scales[0])
            affine = self._weight_affine(weight, weights, biases, scale, layer.axis)
            self.program.change(weight, integers(weights, affine), "int8", affine)
            steps = (np.float32(scale) * affine.scales).astype(np.float32)
            sums = np.round(biases / steps.astype(np.float64))
            limit = np.iinfo(np.int32)
            stored = np.clip(sums, limit.min, limit.max).astype(np.int32)
            self.program.change(bias, stored, "int32", Affine(steps, np.zeros(len(steps), np.int64)))

    def _weight_affine(self, name: str, weights: Array, biases: Array, scale: float, axis: int) -> Affine:
        given = self.given.get(name)
        if given is not None and given.bits == 8 and not any(given.zero_points):
            affine = Affine(np.array(given.scales, np.float32), np.zeros(len(given.scales), np.int64), axis)
            shape = [1] * weights.ndim
            shape[axis] = -1
            # Weights that were trained since then may have left what the integers of the file can say.
            if np.abs(weights / affine.scales.reshape(shape)).max(initial=0) <= HIGH + 1.5:
                return affine
        others = tuple(index for index in range(weights.ndim) if index != axis)
        largest = np.abs(weights).max(others).astype(np.float64)
        scales = np.maximum(largest / HIGH, np.abs(biases) / (scale * BIAS_STEPS))
        scales = np.where(scales > 0, scales, 1.0).astype(np.float32)
        return Affine(scales, np.zeros(len(scales), np.int64), axis)

    def _rewrite(self) -> None:
        """The operations on integers, with QUANTIZE and DEQUANTIZE where scales or types meet that differ."""
        constants = {name: tensor.data for name, tensor in self.program.tensors.items()}
        for name, affine in self.affines.items():
            data = constants[name]
            self.program.change(name, None if data is None else integers(data, affine), "int8", affine)
        self.program.operations = []
        fitted: dict[tuple[str, str], str] = {}
        for operation in self.operations:
            inputs: list[str] = []
            for name in operation.inputs:
                if operation.real:
                    name = self._real(name, constants[name], fitted) if name in self.affines else name
                elif name in self.lowest:
                    name = self._lowest_integer(name, self.affines[operation.output])
                elif operation.code in MOVES and name in self.affines:
                    name = self._fitted(name, constants[name], operation.output, fitted)
                inputs.append(name)
            self._append(replace(operation, inputs=tuple(inputs)))

    def _append(self, operation: Operation) -> None:
        if not operation.real:
            self.program.operations.append(operation)
            return
        if operation.output in self.network.graph.shapes:
            self.program.in_float.append(operation.output)
        output = operation.output
        if output in self.affines:
            real = self.program.add(Tensor(self.fresh(f"{output}/float"), self.program.tensors[output].shape))
            self.program.operations.append(replace(operation, output=real))
            self.program.operations.append(Operation("QUANTIZE", (real,), output))
        else:
            self.program.operations.append(operation)

    def fresh(self, wanted: str) -> str:
        return self.program.fresh(wanted, self.network.graph.shapes)

    def _real(self, name: str, data: Array | None, fitted: dict[tuple[str, str], str]) -> str:
        """The tensor in float32."""
        if (name, "") not in fitted:
            tensor = self.program.tensors[name]
            real = self.program.add(Tensor(self.fresh(f"{name}/float"), tensor.shape, data))
            if data is None:
                self.program.operations.append(Operation("DEQUANTIZE", (name,), real))
            fitted[name, ""] = real
        return fitted[name, ""]

    def _fitted(self, name: str, data: Array | None, output: str, fitted: dict[tuple[str, str], str]) -> str:
        """The tensor with the scale and zero point of the operation's output."""
        affine = self.affines[output]
        if self.affines[name].same(affine):
            return name
        if (name, output) not in fitted:
            shape = self.program.tensors[name].shape
            stored = None if data is None else integers(data, affine)
            other = self.program.add(Tensor(self.fresh(f"{name}/requantised"), shape, stored, "int8", affine))
            if data is None:
                self.program.operations.append(Operation("QUANTIZE", (name,), other))
            fitted[name, output] = other
        return fitted[name, output]

    def _lowest_integer(self, name: str, affine: Affine) -> str:
        shape = self.program.tensors[name].shape
        self.program.change(name, np.full(shape, LOW, np.int8), "int8", affine)
        return name


def _is_lowest(data: Array) -> bool:
    """Whether a constant is the filling that no maximum finds: it is no part of any range."""
    return data.size == 1 and float(data.reshape(-1)[0]) == float(np.finfo(np.float32).min)


def _checked(name: str, quantisation: Quantisation, network: str) -> Affine:
    """A tensor's own quantisation. Raises `InvalidInput` where it is not of 8 bits or differs by channel."""
    if quantisation.bits != 8 or len(quantisation.scales) != 1:
        raise InvalidInput(
            f"{network}: tensor {name!r} has {quantisation.bits} bits and {len(quantisation.scales)} scales; "
            "int8 files hold 8 bits and one scale; give ranges"
        )
    return Affine(np.array(quantisation.scales, np.float32), np.array(quantisation.zero_points, np.int64))

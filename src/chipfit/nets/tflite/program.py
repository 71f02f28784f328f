"""A network in TFLite's terms: tensors and operations, before numbers become integers and all becomes a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

Options = Mapping[str, int | float | bool]
"""Options of an operation by the names of the fields in TFLite's schema, such as "StrideH"."""


@dataclass(frozen=True, slots=True)
class Affine:
    """real = scale × (integer − zero point), for the tensor or for each index along `axis`; both arrays are (k,)."""

    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    axis: int = 0

    def same(self, other: Affine) -> bool:
        """Whether integers mean the same numbers."""
        return np.array_equal(self.scales, other.scales) and np.array_equal(self.zero_points, other.zero_points)


@dataclass(frozen=True, slots=True)
class Tensor:
    """`data` of a constant: float32 for numbers, int32 for shapes and axes, int8 and int32 where it is quantised."""

    name: str
    shape: tuple[int, ...]
    data: Array | None = None
    type: str = "float32"
    affine: Affine | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """`code` is a name in TFLite's `BuiltinOperator`; `real` says that it must compute with floating-point numbers."""

    code: str
    inputs: tuple[str, ...]
    output: str
    options: Options = field(default_factory=dict[str, int])
    real: bool = False


@dataclass(slots=True)
class Program:
    """Operations in the order of execution; tensors by name; nodes that compute in float32 while others have int8."""

    name: str
    tensors: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    operations: list[Operation] = field(default_factory=list[Operation])
    inputs: list[str] = field(default_factory=list[str])
    outputs: list[str] = field(default_factory=list[str])
    in_float: list[str] = field(default_factory=list[str])

    def fresh(self, wanted: str, taken: Mapping[str, Any] | None = None) -> str:
        """`wanted`, or the first of wanted_1, wanted_2, … that neither a tensor nor anything in `taken` is named."""
        name, number = wanted, 0
        while name in self.tensors or (taken is not None and name in taken):
            number += 1
            name = f"{wanted}_{number}"
        return name

    def add(self, tensor: Tensor) -> str:
        """Adds a tensor and gives its name."""
        self.tensors[tensor.name] = tensor
        return tensor.name

    def change(self, name: str, data: Array | None, type: str, affine: Affine | None) -> None:
        """Makes a tensor one of integers."""
        self.tensors[name] = replace(self.tensors[name], data=data, type=type, affine=affine)


FILE_AXIS = (0, 3, 1, 2)
"""Where each axis of an image of the graph (batch, channels, height, width) stands in the file."""

TO_FILE, TO_GRAPH = (0, 2, 3, 1), (0, 3, 1, 2)
"""Orders of axes that turn a graph's image into the file's, and back."""


def turned(shape: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    """A shape with its axes in another order."""
    return tuple([shape[axis] for axis in order])


def moves_nothing(shape: Sequence[int], order: Sequence[int]) -> bool:
    """Whether another order of the axes leaves the numbers where they are: only axes of size 1 change place."""
    wide = [axis for axis in order if shape[axis] != 1]
    return wide == sorted(wide)

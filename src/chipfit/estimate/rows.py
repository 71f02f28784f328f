"""Subgraphs as rows of numbers, from which everything else is worked out for many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.graph.workload import WORKLOAD_FIELDS, WORKLOAD_KINDS, Workload

Floats = NDArray[np.float64]

KIND_CODES = {kind: code for code, kind in enumerate(WORKLOAD_KINDS)}
"""Rows carry their kind as its place in `WORKLOAD_KINDS`."""

_FIELD = {name: position for position, name in enumerate(WORKLOAD_FIELDS)}

RANGE_FIELDS = (
    "in_height", "in_width", "in_channels", "out_height", "out_width", "out_channels", "kernel_height", "kernel_width",
    "stride_height", "stride_width", "dilation_height", "dilation_width", "macs", "parameters", "in_elements",
    "out_elements",
)  # fmt: skip
"""Fields whose smallest and largest measured value bound where predictions interpolate."""
_RANGE = [_FIELD[name] for name in RANGE_FIELDS]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """n closed workloads: `kinds` (n,) are codes, `values` (n, fields) the numbers in the order of WORKLOAD_FIELDS."""

    kinds: NDArray[np.int64]
    values: Floats

    @classmethod
    def of(cls, kinds: NDArray[np.int64], values: Floats) -> Rows:
        """Rows with every convolution called what its numbers make it.

        An open graph may hold one row for a convolution that is depthwise under some codes only; the row has to cost
        what the closed graph's row costs.
        """
        groups, channels = values[:, _FIELD["groups"]], values[:, _FIELD["in_channels"]]
        conv, depthwise = KIND_CODES["conv"], KIND_CODES["depthwise"]
        named = np.where((groups == channels) & (channels > 1), depthwise, conv)
        return cls(np.where((kinds == conv) | (kinds == depthwise), named, kinds), values)

    @classmethod
    def of_workloads(cls, workloads: Sequence[Workload]) -> Rows:
        """Closed workloads as rows. Raises `TypeError` for one that still depends on decisions."""
        values = np.array([workload[1:] for workload in workloads], dtype=np.float64).reshape(
            len(workloads), len(WORKLOAD_FIELDS)
        )
        return cls.of(np.array([KIND_CODES[workload.kind] for workload in workloads], dtype=np.int64), values)

    def __len__(self) -> int:
        return len(self.kinds)

    def __getitem__(self, name: str) -> Floats:
        return self.values[:, _FIELD[name]]

    def take(self, index: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Rows:
        """The rows at `index`."""
        return Rows(self.kinds[index], self.values[index])

    def with_fields(self, fields: Mapping[str, Floats]) -> Rows:
        """The same rows with other numbers (n,) in some fields."""
        values = self.values.copy()
        for name, numbers in fields.items():
            values[:, _FIELD[name]] = numbers
        return Rows(self.kinds, values)

    def range_keys(self) -> Floats:
        """Logarithms (n, range fields) of the numbers that the range check looks at."""
        return np.log2(1 + self.values[:, _RANGE])

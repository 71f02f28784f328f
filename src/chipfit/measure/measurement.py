"""What measuring a subgraph on a target gives, and where the figure comes from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from chipfit.errors import InvalidInput
from chipfit.graph.workload import Workload


@dataclass(frozen=True, slots=True)
class Source:
    """Where a figure comes from. `date` is the day of a measurement; a simulation gives the same on every day."""

    kind: Literal["measured", "simulated"]
    tool: str
    version: str
    date: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("measured", "simulated"):
            raise InvalidInput(f"source of a measurement: kind {self.kind!r} is neither 'measured' nor 'simulated'")
        if not self.tool or not self.version:
            raise InvalidInput(f"source of a measurement needs a tool and its version, got {self}")


@dataclass(frozen=True, slots=True)
class Measurement:
    """Cost of one subgraph for one image; None is what the tool does not tell.

    `spread_s` is the standard deviation of repeated measurements, 0 for a deterministic tool. `peak_bytes` are the
    activation bytes that the subgraph needs at once. Raises `InvalidInput` for a figure that cannot be.
    """

    latency_s: float
    source: Source
    cycles: int | None = None
    peak_bytes: int | None = None
    energy_j: float | None = None
    spread_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("latency_s", "cycles", "peak_bytes", "energy_j", "spread_s"):
            figure = getattr(self, name)
            if figure is not None and (not math.isfinite(figure) or figure < 0):
                raise InvalidInput(f"{self.source.tool} gave {name} = {figure}: it must be finite and not negative")


Measure = Callable[[Sequence[Workload]], Sequence[Measurement]]
"""Measures closed workloads (every field a number) one after the other; one measurement for each, in order."""

"""What measuring gives, where the figures come from, and what a tool that measures has to offer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph
from chipfit.graph.workload import Workload
from chipfit.measure.specimen import Largest, Specimen
from chipfit.nets.network import Network


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

    `peak_bytes` are the activation bytes that the subgraph needs at once, `spread_s` the standard deviation of repeated
    measurements, 0 for a deterministic tool. Raises `InvalidInput` for a figure that cannot be.
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


@dataclass(frozen=True, slots=True)
class Part:
    """A subgraph inside a whole network, as measured there."""

    workload: Workload
    measurement: Measurement


@dataclass(frozen=True, slots=True)
class Run:
    """A whole network: its latency and, where the tool tells them, its parts by the name of the subgraph.

    `memory_bytes` says how much of each memory it takes, `elsewhere` names the nodes that ran on another processor.
    """

    measurement: Measurement
    parts: Mapping[str, Part]
    memory_bytes: Mapping[str, int]
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """What could not be measured, and why."""

    why: str


class Tool(Protocol):
    """A way to measure on one target. Both methods give one result for each item, in order.

    `largest` bounds what it can measure in reasonable time, `budget` says how many subgraphs a fit measures unless told
    otherwise, `whole` how many whole networks.
    """

    @property
    def largest(self) -> Largest: ...

    @property
    def budget(self) -> int: ...

    @property
    def whole(self) -> int: ...

    def subgraphs(self, specimens: Sequence[Specimen]) -> Sequence[Part | Failure]: ...

    def networks(self, models: Sequence[Graph | Network]) -> Sequence[Run | Failure]: ...


Measure = Callable[[Sequence[Workload]], Sequence[Measurement]]
"""Measures closed workloads (every field a number) one after the other; one measurement for each, in order."""

"""What sets of changes bring to a network: costs as shares of those as given, and how uncertain the difference is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.estimate.accumulate import Costs, distinct_rows
from chipfit.estimate.estimator import LayerCost, SpaceCosts
from chipfit.estimate.rows import KIND_CODES, Floats, Rows
from chipfit.graph.graph import Graph
from chipfit.graph.values import Choice, Value
from chipfit.graph.workload import WORKLOAD_FIELDS
from chipfit.measure.subgraphs import subgraphs_of

SMALLEST = 1e-30


@dataclass(frozen=True, slots=True)
class Gain:
    """What changes, as shares of the network as given, below 0 for less; `spread` is one standard deviation of the
    latency's, of errors that the two networks do not share."""

    latency: float
    spread: float
    energy: float
    weights: float
    peak: float
    parameters: float


@dataclass(frozen=True, eq=False)
class Gains:
    """What sets of changes bring to a network whose subgraphs cost `layers`."""

    space: Graph
    prepared: SpaceCosts
    given: Costs
    layers: Sequence[LayerCost]

    def of(self, code: Sequence[int]) -> Gain:
        """What one set of changes brings."""
        return self.of_each([code])[0]

    def of_each(self, codes: Sequence[Sequence[int]]) -> list[Gain]:
        """What each of some sets of changes brings."""
        if not codes:
            return []
        found = np.array(codes, np.int64)
        costs = self.prepared.at(found)

        def change(name: str) -> Floats:
            before = max(float(getattr(self.given, name)[0]), SMALLEST)
            return np.asarray(getattr(costs, name), np.float64) / before - 1

        spread = self._spread_s(found) / float(self.given.latency_s[0])
        shares = [change(name) for name in ("latency_s", "energy_j", "weight_bytes", "peak_bytes", "parameters")]
        return [Gain(*row) for row in np.stack([shares[0], spread, *shares[1:]], axis=1).tolist()]

    def _spread_s(self, codes: NDArray[np.int64]) -> Floats:
        """One standard deviation (n,) of the differences in latency: errors of subgraphs that both networks have
        cancel, and an error that all subgraphs share changes no share."""
        both = np.concatenate([np.zeros((1, codes.shape[1]), np.int64), codes])
        variance = np.zeros(len(codes))
        for latency_s, spread_s in self._subgraphs(both):
            changed = (latency_s[1:] != latency_s[0]) | (spread_s[1:] != spread_s[0])
            variance += np.where(changed, spread_s[1:] ** 2 + spread_s[0] ** 2, 0)
        return np.sqrt(variance)

    def _subgraphs(self, codes: NDArray[np.int64]) -> Iterator[tuple[Floats, Floats]]:
        """Latency and spread (n,) of each subgraph in the networks of `codes`, 0 where it is absent."""
        count, estimator = len(codes), self.prepared.estimator
        parts = estimator.target.run_of(subgraphs_of(self.space.along(codes), estimator.target))
        there = [np.flatnonzero(_each(part.presence, count)) for part in parts]
        fields = [[_each(value, count) for value in part.workload[1:]] for part in parts]
        values = [np.stack(each, axis=1)[place] for each, place in zip(fields, there, strict=True)]
        kinds = [np.full(len(place), KIND_CODES[part.workload.kind]) for part, place in zip(parts, there, strict=True)]
        # Of networks that a target runs nothing of there is nothing to join.
        none = np.zeros((0, len(WORKLOAD_FIELDS)))
        rows = Rows.of(np.concatenate([np.zeros(0, np.int64), *kinds]), np.concatenate([none, *values]))
        distinct, index = distinct_rows(rows)
        predicted = estimator.predict(distinct).take(index)
        start = 0
        for place in there:
            own = slice(start, start + len(place))
            start += len(place)
            latency_s, spread_s = np.zeros(count), np.zeros(count)
            latency_s[place], spread_s[place] = predicted.latency_s[own], predicted.spread_s[own]
            yield latency_s, spread_s


def _each(value: Value, count: int) -> Floats:
    """A value that depends on the candidate alone, or on nothing, as (n,) numbers."""
    return np.broadcast_to(np.asarray(value.values if isinstance(value, Choice) else value, np.float64), (count,))

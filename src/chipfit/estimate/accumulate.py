"""From predicted subgraphs to the costs of whole networks: sums and maxima of tables over the open decisions.

Every subgraph's workload is enumerated over the decisions that touch it, each distinct row is predicted once, and
latency, energy and bytes become tables that are zero where the subgraph is absent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.estimate.memory.buffers import Pace, paces
from chipfit.estimate.memory.peaks import has_buffers, moments
from chipfit.estimate.pieces.search import distinct
from chipfit.estimate.regress import Prediction
from chipfit.estimate.rows import KIND_CODES, Floats, Rows
from chipfit.graph.graph import Graph
from chipfit.graph.subgraphs import Subgraph
from chipfit.graph.tables import TableMax, TableSum
from chipfit.graph.totals import parameters
from chipfit.graph.values import Choice, TableTooLarge, Value, table, where
from chipfit.graph.workload import WORKLOAD_FIELDS
from chipfit.measure.stored import stored_of
from chipfit.measure.subgraphs import laid_out
from chipfit.targets.target import Precision, Target

LARGEST_ENUMERATION = 1 << 20
"""Rows of one subgraph above which a space is evaluated along the codes that are asked for."""

CHUNK = 1 << 12
"""Codes that are evaluated at a time where tables would grow too large."""

Predict = Callable[[Rows], Prediction]


@dataclass(frozen=True, slots=True, eq=False)
class Costs:
    """Costs of n networks, every field an (n,) array.

    `latency_s` and `energy_j` are predicted, without what the target cannot run (`Estimator.unsupported`); `spread_s`
    is one standard deviation of the latency. The rest is counted: `weight_bytes` weights and biases as the chip stores
    them, with batch normalisation folded, `peak_bytes` activations by liveness with the weights that lie beside them,
    `parameters` as `graph.totals` counts them. `in_range` is False where a subgraph lies outside what the estimator was
    trained on.
    """

    latency_s: Floats
    spread_s: Floats
    energy_j: Floats
    weight_bytes: NDArray[np.int64]
    peak_bytes: NDArray[np.int64]
    macs: NDArray[np.int64]
    parameters: NDArray[np.int64]
    in_range: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.latency_s)


def joined(parts: Sequence[Costs]) -> Costs:
    """The costs of several batches as one."""
    return Costs(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Costs)))


QUANTITIES: Mapping[str, tuple[str, int]] = {
    "latency_s": ("latency", 0),
    "energy_j": ("predicted", 1),
    "weight_bytes": ("counted", 0),
    "macs": ("counted", 1),
    "parameters": ("parameters", 0),
}
"""Quantities that are sums of tables, with the sum and the column that hold them."""


@dataclass(frozen=True, slots=True, eq=False)
class CostTables:
    """A space's costs as tables: `latency` (seconds), `predicted` (variance, energy, rows out of range), `counted`
    (weight bytes, MACs), `parameters` and `peak` (bytes); `systematic` is the relative error that rows share."""

    latency: TableSum
    predicted: TableSum
    counted: TableSum
    parameters: TableSum
    peak: TableMax
    systematic: float

    def at(self, codes: NDArray[Any]) -> Costs:
        """Costs of `codes` (n, d) of option indices."""
        latency_s, peak_bytes = self.latency.at(codes)[:, 0], self.peak.at(codes)
        variance, energy_j, outside = self.predicted.at(codes).T
        weight_bytes, macs = np.rint(self.counted.at(codes)).astype(np.int64).T
        return Costs(
            latency_s,
            network_spread(latency_s, variance, self.systematic),
            energy_j,
            weight_bytes,
            np.rint(peak_bytes).astype(np.int64),
            macs,
            np.rint(self.parameters.at(codes)[:, 0]).astype(np.int64),
            outside < 0.5,
        )

    def tables(self, quantity: str) -> list[tuple[tuple[int, ...], Floats]]:
        """Tables whose sum is one of `QUANTITIES`: indices of their decisions, and one axis of values for each."""
        total, column = QUANTITIES[quantity]
        return getattr(self, total).tables(column)


def network_spread(latency_s: Floats, variance: Floats, systematic: float) -> Floats:
    """Spread of networks: independent errors of their rows, and one error that all rows share.

    `variance` (n,) is the sum of the rows' squared spreads, `systematic` the relative error that does not average out.
    """
    return np.sqrt(np.maximum(variance, 0) + (systematic * latency_s) ** 2)


def tabulate(graph: Graph, target: Target, precision: Precision, predict: Predict, systematic: float) -> CostTables:
    """The costs of a space (or of a closed graph) as tables.

    Raises `TableTooLarge` where a subgraph depends on too many decisions at once.
    """
    subgraphs, steps = laid_out(graph, target)
    run = target.run_of(subgraphs)
    found = [_Enumeration.of(subgraph) for subgraph in run]
    kinds = np.concatenate([np.zeros(0, np.int64), *(each.kinds for each in found)])
    values = np.concatenate([np.zeros((0, len(WORKLOAD_FIELDS))), *(each.values for each in found)])
    rows, place = distinct_rows(Rows.of(kinds, values))
    predicted = predict(rows)
    columns = np.stack(
        [predicted.latency_s, predicted.spread_s**2, predicted.energy_j, ~predicted.in_range], axis=1
    ).astype(np.float64)[place]
    terms: list[tuple[Value, ...]] = []
    start = 0
    for subgraph, each in zip(run, found, strict=True):
        own = columns[start : start + len(each.values)]
        start += len(own)
        terms.append(tuple(where(subgraph.presence, each.value(column), 0) for column in own.T))
    pace_of: dict[str, Pace] = {}
    if has_buffers(target):
        for subgraph, each, own in zip(run, found, _split(paces(target, rows)[place], found), strict=True):
            pace_of[subgraph.name] = Pace(*(each.value(column) for column in own.T))
    stored = stored_of(precision, subgraphs)
    return CostTables(
        TableSum.of([(term[0],) for term in terms], graph.decisions),
        TableSum.of([term[1:] for term in terms], graph.decisions, 3),
        TableSum.of([counted(subgraph, stored[subgraph.name]) for subgraph in subgraphs], graph.decisions, 2),
        parameters(graph),
        TableMax.of(
            [
                [size for _, size in moment.held]
                for moment in moments(steps, subgraphs, target, precision, stored, pace_of)
            ],
            graph.decisions,
        ),
        systematic,
    )


def along(
    graph: Graph,
    codes: NDArray[np.int64],
    target: Target,
    precision: Precision,
    predict: Predict,
    systematic: float,
) -> Costs:
    """Costs of `codes` (n, d) row by row, for spaces whose tables would be too large; the same numbers."""
    parts: list[Costs] = []
    for start in range(0, max(len(codes), 1), CHUNK):
        chunk = codes[start : start + CHUNK]
        bound = graph.along(chunk) if len(chunk) else graph.along(np.zeros((1, len(graph.decisions)), np.int64))
        tables = tabulate(bound, target, precision, predict, systematic)
        parts.append(tables.at(np.arange(len(chunk))[:, None]))
    return joined(parts)


def counted(subgraph: Subgraph, stored: Value) -> tuple[Value, Value]:
    """Weight bytes and MACs of a subgraph whose weights take `stored` bytes, zero where it is absent."""
    return where(subgraph.presence, stored, 0), where(subgraph.presence, subgraph.workload.macs, 0)


def _split(columns: Floats, found: Sequence[_Enumeration]) -> list[Floats]:
    """Rows of all enumerations (m, any), shared out among them."""
    return np.split(columns, np.cumsum([len(each.values) for each in found])[:-1])


@dataclass(frozen=True, slots=True, eq=False)
class _Enumeration:
    """The distinct rows of one subgraph: `kinds` (m,), `values` (m, fields), and for every combination of `decisions`
    which row it has in `place`, m where the subgraph is absent."""

    decisions: tuple[str, ...]
    place: NDArray[np.int64]
    kinds: NDArray[np.int64]
    values: Floats

    @classmethod
    def of(cls, subgraph: Subgraph) -> _Enumeration:
        given = [getattr(subgraph.workload, name) for name in WORKLOAD_FIELDS]
        lengths = _lengths(given)
        names = tuple(sorted(lengths))
        shape = tuple(lengths[name] for name in names)
        entries = int(np.prod(shape, dtype=np.float64))
        if entries > LARGEST_ENUMERATION:
            raise TableTooLarge(f"{subgraph.name}: {entries} rows over {', '.join(names)}")
        key = _keys(given, names, lengths).ravel()
        kept = np.flatnonzero(_present(subgraph.presence, names, lengths).ravel())
        _, first, inverse = np.unique(key[kept], return_index=True, return_inverse=True)
        place = np.full(entries, len(first), dtype=np.int64)
        place[kept] = inverse
        chosen = dict(zip(names, np.unravel_index(kept[first], shape) if names else (), strict=True))
        values = np.empty((len(first), len(WORKLOAD_FIELDS)))
        for column, value in enumerate(given):
            if isinstance(value, Choice):
                values[:, column] = value.values[tuple(chosen[name] for name in value.decisions)]
            else:
                values[:, column] = value
        kinds = np.full(len(first), KIND_CODES[subgraph.workload.kind])
        return cls(names, place.reshape(shape), kinds, values)

    def value(self, column: Floats) -> Value:
        """One number per row (m,) as a value over the decisions, zero where the subgraph is absent."""
        return table(self.decisions, np.append(column, 0.0)[self.place])


def _lengths(values: Sequence[Value]) -> dict[str, int]:
    lengths: dict[str, int] = {}
    for value in values:
        if isinstance(value, Choice):
            lengths.update(zip(value.decisions, value.values.shape, strict=True))
    return lengths


def _keys(values: Sequence[Value], names: tuple[str, ...], lengths: Mapping[str, int]) -> NDArray[np.int64]:
    """A number for every combination of the decisions, equal where all `values` are equal."""
    alike: dict[tuple[str, ...], list[Choice]] = {}
    for value in values:
        if isinstance(value, Choice):
            alike.setdefault(value.decisions, []).append(value)
    key = np.zeros([lengths[name] for name in names], dtype=np.int64)
    largest = 1
    for decisions, group in alike.items():
        stacked = np.stack([value.values.ravel().astype(np.float64) for value in group], axis=1)
        found, code = np.unique(stacked, axis=0, return_inverse=True)
        if largest * len(found) >= 1 << 62:
            distinct, key = np.unique(key, return_inverse=True)
            largest = len(distinct)
        axes = [lengths[name] if name in decisions else 1 for name in names]
        key = key * len(found) + code.reshape(axes)
        largest *= len(found)
    return key


def _present(presence: Value, names: tuple[str, ...], lengths: Mapping[str, int]) -> NDArray[np.bool_]:
    """Under which combinations of `names` a subgraph is there for some choice of all other decisions."""
    shape = [lengths[name] for name in names]
    if not isinstance(presence, Choice):
        return np.full(shape, bool(presence))
    others = tuple(axis for axis, name in enumerate(presence.decisions) if name not in lengths)
    held = presence.values.astype(bool).any(axis=others)
    axes = [lengths[name] if name in presence.decisions else 1 for name in names]
    return np.broadcast_to(held.reshape(axes), shape)


def distinct_rows(rows: Rows) -> tuple[Rows, NDArray[np.int64]]:
    """The rows without repetition, and for each of the given ones its place among them."""
    first, place = distinct(np.column_stack([rows.kinds.astype(np.float64), rows.values]))
    return rows.take(first), place

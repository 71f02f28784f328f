"""The estimator: latency, energy and memory of networks from a fitted regression; no hardware, no compiler, no run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidGraph
from chipfit.estimate.accumulate import Costs, CostTables, along, counted, distinct_rows, network_spread, tabulate
from chipfit.estimate.calibration import Calibration
from chipfit.estimate.gaps import Unsupported, gaps
from chipfit.estimate.memory.buffers import Pace, paces
from chipfit.estimate.memory.peaks import Peak, has_buffers, highest, moments
from chipfit.estimate.regress import BOUNDS, Prediction, Regression
from chipfit.estimate.rows import Floats, Rows
from chipfit.graph.graph import Graph
from chipfit.graph.order import best_order
from chipfit.graph.subgraphs import Subgraph, cut
from chipfit.graph.totals import count_parameters
from chipfit.graph.values import Shape, TableTooLarge, Value
from chipfit.graph.workload import Workload
from chipfit.measure.measurement import Source
from chipfit.measure.stored import stored_bytes, stored_of
from chipfit.measure.subgraphs import Laid, graph_of, laid_out, steps_of, subgraphs_of
from chipfit.nets.network import Network
from chipfit.search.exact import Minimum, Table, minimum
from chipfit.targets.target import Precision, Target, Vela

SEARCHED = 4096
"""Codes among which the cheapest is looked for where a space has no tables."""


@dataclass(frozen=True, slots=True)
class Errors:
    """Relative errors of predicted latencies on `count` held-out items, as fractions; `spearman` is their rank
    correlation and `coverage` the share that lies within the predicted spread (0.68 is honest)."""

    count: int
    median: float
    p99: float
    largest: float
    spearman: float
    coverage: float


@dataclass(frozen=True, slots=True)
class Provenance:
    """What an estimator was trained on and how far off it is.

    `source` is the tool that measured, `fitted` the day of the fit. `counts` and `subgraph_errors` go by workload
    kind; the errors are of held-out subgraphs and of whole networks that were never seen, None where none was measured.
    """

    source: Source
    fitted: str
    seed: int
    counts: Mapping[str, int]
    subgraph_errors: Mapping[str, Errors]
    network_errors: Errors | None

    @property
    def subgraphs(self) -> int:
        """Subgraphs that were measured for training."""
        return sum(self.counts.values())

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class LayerCost:
    """One subgraph of a closed network.

    `utilisation` is MACs by what the array could do in the time, `bound` what decides ("compute", "on_chip", "dram" or
    "overhead"), `bound_by` what is moved where a memory decides ("weights" or "activations"; else as `bound`), `share`
    the part of the network's latency, `in_range` whether such shapes were measured. `activation_bytes` are read and
    written once, `weight_bytes` read: a chip that works in pieces may move some of them again.
    """

    name: str
    kind: str
    latency_s: float
    spread_s: float
    energy_j: float
    macs: int
    weight_bytes: int
    activation_bytes: int
    out_shape: Shape
    utilisation: float
    bound: str
    bound_by: str
    share: float
    in_range: bool

    @property
    def moved_bytes(self) -> int:
        """Weights and activations that are moved at least."""
        return self.weight_bytes + self.activation_bytes


@dataclass(frozen=True, slots=True)
class Reordered:
    """Another order of execution: its peak in bytes, and the subgraphs in that order."""

    size: int
    order: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Estimator:
    """Predicts what networks cost on one target at one precision. Build it with `fit` or `load_estimator`.

    `systematic` is the relative error that all rows of a network share, calibrated on held-out networks. `calibration`
    is what whole networks on a board changed, None where none were measured (`calibrate`).
    """

    target: Target
    precision_name: str
    regression: Regression
    systematic: float
    provenance: Provenance
    calibration: Calibration | None = None

    @cached_property
    def precision(self) -> Precision:
        """The number format that the predictions are for."""
        return self.target.precision(self.precision_name)

    @property
    def peak_macs_per_second(self) -> float:
        """Multiply-accumulates per second with every lane busy, at this precision."""
        return self.target.lanes.macs_per_cycle * self.precision.throughput * self.target.clock_hz

    def predict(self, rows: Rows) -> Prediction:
        """Costs of single subgraphs, which the target must be able to run."""
        found = self.regression.predict(self.target, self.precision, rows)
        return found if self.calibration is None else self.calibration.apply(rows, found)

    def costs(self, model: Graph | Network, codes: NDArray[np.int64] | None = None) -> Costs:
        """Costs of a closed graph (n = 1), or of `codes` (n, d) of an open one; for many codes `prepare` is faster.

        A network's own weights count where the target compresses them. Raises `InvalidGraph` for an open graph without
        codes and for codes that do not fit the decisions.
        """
        if codes is None:
            return self._closed(model)
        return along(graph_of(model), np.asarray(codes), self.target, self.precision, self.predict, self.systematic)

    def prepare(self, graph: Graph) -> SpaceCosts:
        """The costs of a space, ready for millions of codes: one pass over the open graph."""
        try:
            return SpaceCosts(self, graph, self._tabulate(graph))
        except TableTooLarge:
            return SpaceCosts(self, graph, None)

    def by_layer(self, model: Graph | Network) -> tuple[LayerCost, ...]:
        """One row per subgraph of a closed graph in execution order, without what the target cannot run."""
        graph = graph_of(model)
        _need_closed(graph)
        running = self._running(subgraphs_of(model, self.target))
        predicted = self.predict(running.rows).take(running.place)
        total = float(predicted.latency_s.sum())
        return tuple(self._layer(graph, part, predicted, index, total) for index, part in enumerate(running.subgraphs))

    def unsupported(self, graph: Graph) -> tuple[Unsupported, ...]:
        """Nodes that the target cannot run, under some code at least. Latency and energy are without them."""
        return tuple(gaps(graph, cut(graph, self.target.fuses), self.target))

    def _tabulate(self, graph: Graph) -> CostTables:
        return tabulate(graph, self.target, self.precision, self.predict, self.systematic)

    def peak(self, model: Graph | Network) -> Peak:
        """The moment of a closed graph that needs most memory, in bytes, as the target lays tensors and weights."""
        laid = laid_out(model, self.target)
        return self._peak(laid, self._running(laid.subgraphs))

    def reordered(self, model: Graph | Network) -> Reordered | None:
        """The peak of a closed graph in the order of execution that needs least memory.

        None where no order needs less, and where the target's compiler chooses the order itself.
        """
        if isinstance(self.target.tool, Vela):
            return None
        graph, given = graph_of(model), laid_out(model, self.target)
        found = best_order(graph, given.subgraphs, self.target.layout.channel_block)
        lowest = self._peak(Laid(found, steps_of(graph, found, self.target)), self._running(found)).size
        if lowest >= self._peak(given, self._running(given.subgraphs)).size:
            return None
        return Reordered(lowest, tuple(part.name for part in found))

    def _running(self, subgraphs: Sequence[Subgraph]) -> _Running:
        run = self.target.run_of(subgraphs)
        rows, place = distinct_rows(Rows.of_workloads([part.workload for part in run]))
        return _Running(run, rows, place, stored_of(self.precision, subgraphs))

    def _closed(self, model: Graph | Network) -> Costs:
        graph = graph_of(model)
        _need_closed(graph)
        laid = laid_out(model, self.target)
        running = self._running(laid.subgraphs)
        predicted = self.predict(running.rows).take(running.place)
        sums = [counted(part, running.stored[part.name]) for part in laid.subgraphs]
        weight_bytes, macs = np.array(sums, dtype=np.int64).reshape(-1, 2).sum(axis=0)
        latency_s, variance = predicted.latency_s.sum(), (predicted.spread_s**2).sum()
        return Costs(
            np.array([latency_s]),
            network_spread(np.array([latency_s]), np.array([variance]), self.systematic),
            np.array([predicted.energy_j.sum()]),
            np.array([weight_bytes]),
            np.array([self._peak(laid, running).size]),
            np.array([macs]),
            np.array([count_parameters(graph)]),
            np.array([predicted.in_range.all()]),
        )

    def _peak(self, laid: Laid, running: _Running) -> Peak:
        pace_of: dict[str, Pace] = {}
        if has_buffers(self.target):
            found = paces(self.target, running.rows)[running.place].tolist()
            pace_of = {part.name: Pace(*pace) for part, pace in zip(running.subgraphs, found, strict=True)}
        return highest(moments(laid.steps, laid.subgraphs, self.target, self.precision, running.stored, pace_of))

    def _layer(self, graph: Graph, subgraph: Subgraph, rows: Prediction, index: int, total: float) -> LayerCost:
        latency_s, load = float(rows.latency_s[index]), subgraph.workload
        weight_bytes = stored_bytes(self.precision, load)
        elements: Any = load.in_elements + load.out_elements
        activation_bytes = -(-int(elements) * self.precision.activation_bits // 8)
        bound = BOUNDS[rows.bound[index]]
        return LayerCost(
            name=subgraph.name,
            kind=load.kind,
            latency_s=latency_s,
            spread_s=float(rows.spread_s[index]),
            energy_j=float(rows.energy_j[index]),
            macs=int(load.macs),  # type: ignore[arg-type]
            weight_bytes=int(weight_bytes),  # type: ignore[arg-type]
            activation_bytes=activation_bytes,
            out_shape=graph.shapes[subgraph.name],
            utilisation=float(load.macs) / (latency_s * self.peak_macs_per_second),  # type: ignore[arg-type]
            bound=bound,
            bound_by=self._bound_by(bound, load, int(weight_bytes), activation_bytes),  # type: ignore[arg-type]
            share=latency_s / total,
            in_range=bool(rows.in_range[index]),
        )

    def _bound_by(self, bound: str, load: Workload, weight_bytes: int, activation_bytes: int) -> str:
        """What a memory is busy with: the larger part of what goes through it."""
        if bound not in ("on_chip", "dram"):
            return bound
        # Activations leave the chip only where they do not fit, by themselves or beside what surrounds them.
        outside = bool(load.far_input) or bool(load.far_output)
        there = bound == "on_chip" or outside or activation_bytes > self.target.memory.activation_bytes
        return "activations" if there and activation_bytes > weight_bytes else "weights"


@dataclass(frozen=True, slots=True, eq=False)
class _Running:
    """The subgraphs of a closed network that the target runs: their different rows, and which of these each one has;
    `stored` are the bytes of the weights of all subgraphs."""

    subgraphs: Sequence[Subgraph]
    rows: Rows
    place: NDArray[np.int64]
    stored: Mapping[str, Value]


@dataclass(frozen=True, eq=False)
class SpaceCosts:
    """The costs of one space. `tables` is None where they would be too large: codes are then evaluated one by one."""

    estimator: Estimator
    graph: Graph
    tables: CostTables | None = field(repr=False)

    def at(self, codes: NDArray[np.int64]) -> Costs:
        """Costs of `codes` (n, d) of option indices. Raises ValueError or `InvalidGraph` for codes that do not fit."""
        return self.estimator.costs(self.graph, codes) if self.tables is None else self.tables.at(codes)

    def latency_s(self, codes: NDArray[np.int64]) -> Floats:
        """Latencies (n,) alone: one gather per table."""
        return self.at(codes).latency_s if self.tables is None else self.tables.latency.at(codes)[:, 0]

    def minimum(self, quantity: str) -> Minimum:
        """The cheapest network in one of `accumulate.QUANTITIES`: exact from the tables, else of a seeded sample."""
        cardinalities = self.graph.cardinalities
        if self.tables is not None:
            return minimum([Table(axes, values) for axes, values in self.tables.tables(quantity)], cardinalities)
        codes = np.random.default_rng(0).integers(0, cardinalities, size=(SEARCHED, len(cardinalities)))
        values = getattr(self.at(codes), quantity)
        best = int(values.argmin())
        return Minimum(float(values[best]), codes[best], exact=False, bound=0.0)


def _need_closed(graph: Graph) -> None:
    if graph.decisions:
        raise InvalidGraph(
            f"the graph has {len(graph.decisions)} open decisions: give codes, or close it with graph.close(code)"
        )

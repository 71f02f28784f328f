"""What to measure next: what estimates of whole networks hang on, and what is unlike all that was measured.

A subgraph is worth its share of the time of networks times the relative spread of its prediction, and the less the
nearer it lies to what was measured or is chosen already. After each batch everything is learnt anew, until the errors
on whole networks that are held out are as small as was asked for, or the budget is spent. Where what lies in memory
around a subgraph counts, subgraphs on their own do not tell it: whole networks are chosen by what theirs are worth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.estimate.fit import LEAST_BUDGET, measured_networks, measured_subgraphs
from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.regress import Prediction, regress
from chipfit.estimate.rows import Floats, Rows
from chipfit.estimate.sampling import SAMPLED_KINDS, sample
from chipfit.estimate.wholes import sums
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Activation, BatchNorm, Constant, Conv2d, ConvTranspose2d, Elementwise, Linear
from chipfit.graph.subgraphs import Subgraph
from chipfit.graph.workload import Workload
from chipfit.measure.measurement import Tool
from chipfit.measure.specimen import Largest, Specimen
from chipfit.measure.subgraphs import subgraphs_of
from chipfit.measure.table import Table, joined
from chipfit.targets.target import Target

START = 4
"""Subgraphs of each kind that are measured first, wherever in its range they lie."""
CANDIDATE_NETWORKS = 400
"""Random networks whose subgraphs can be chosen."""
HELD_NETWORKS = 60
"""Random networks on which the error is estimated, at most."""
ERROR_QUANTILE = 0.9
"""The error of a fit is what so many held-out networks lie within."""
LEAST_BATCH = 25
GROWTH = 0.5
"""A batch is this share of what was measured before: then learning costs as much for every budget."""

Indices = NDArray[np.int64]
Stop = Literal["error", "budget", "candidates"]


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Subgraphs that can be measured next: n distinct ones, and which of `graphs` have them.

    `specimens` and `rows` are the n subgraphs; `uses` (m,) says which of them each of the m subgraphs of all networks
    is, `networks` (m,) the place of its network.
    """

    graphs: tuple[Graph, ...]
    specimens: tuple[Specimen, ...]
    rows: Rows
    uses: Indices
    networks: Indices

    def __len__(self) -> int:
        return len(self.rows)

    def shares(self, latency_s: Floats) -> Floats:
        """The share (n,) of the time of a network that each subgraph takes on average, from latencies (n,)."""
        times = latency_s[self.uses]
        _, network = np.unique(self.networks, return_inverse=True)
        totals = np.bincount(network, weights=times)
        return np.bincount(self.uses, weights=times / totals[network], minlength=len(self)) / len(totals)


@dataclass(frozen=True, slots=True)
class Round:
    """Where choosing stands: all that was measured, how many subgraphs and how many held-out networks, and the error.

    `error` is what nine of ten held-out networks lie within, as a fraction; `stopped` says why this is the last round
    ("error": it is small enough, "budget": as many were measured as allowed, "candidates": nothing is left to choose),
    None while there are more.
    """

    table: Table
    subgraphs: int
    held_out: int
    error: float
    stopped: Stop | None


def choosing(
    target: Target,
    tool: Tool,
    *,
    error: float,
    budget: int | None = None,
    seed: int = 0,
    precision: str | None = None,
) -> Iterator[Round]:
    """Measures subgraphs batch by batch, each chosen by what the ones before have taught.

    It ends when nine of ten held-out random networks are estimated within `error` (a fraction; 0: never), though not
    before a fit has enough to learn from, or when `budget` subgraphs are measured (None: the tool's own). The networks
    come on top: their subgraphs are in the table, but are not learnt from meanwhile. Raises `InvalidInput` for an error
    or a budget that cannot be, and where the tool can measure no network.
    """
    budget = tool.budget if budget is None else budget
    _check(error, budget)
    numbers, generator = target.precision(precision), np.random.default_rng([seed, 2])
    held = measured_networks(target, tool, random_networks(min(tool.whole, HELD_NETWORKS), generator))
    if not held and not held.wholes:
        raise InvalidInput(f"none of the random networks could be measured on {target.name}: no error can be estimated")
    networks = len(set(held.networks)) + len(held.wholes)
    around = bool(target.layout.striped) and len(held) > 0
    pool = pool_of(random_networks(CANDIDATE_NETWORKS, generator), target, tool.largest)
    table = _start(target, tool, generator)
    novelty = unlike_all(pool.rows, Rows.of_workloads(table.workloads))
    while True:
        latency_s = np.array([found.latency_s for found in table.measurements])
        learnt = regress(target, numbers, Rows.of_workloads(table.workloads), latency_s, None, generator)
        predict = partial(learnt.predict, target, numbers)
        off, predicted = network_error(held, predict), predict(pool.rows)
        worth = pool.shares(predicted.latency_s) * predicted.spread_s / predicted.latency_s * novelty
        room = min(budget - len(table), max(LEAST_BATCH, int(GROWTH * len(table))))
        batch = chosen_networks(pool, worth, room) if around else chosen(pool.rows, worth, room)
        enough = off <= error and len(table) >= LEAST_BUDGET
        stopped = _stopped(enough, len(table) >= budget, len(batch) == 0)
        yield Round(joined([table, held]), len(table), networks, off, stopped)
        if stopped is not None:
            return
        if around:
            found = _alone(measured_networks(target, tool, [pool.graphs[place] for place in batch]))
            batch = np.unique(pool.uses[np.isin(pool.networks, batch)])
        else:
            found = measured_subgraphs(tool, [pool.specimens[place] for place in batch])
        table = joined([table, found])
        novelty *= unlike_all(pool.rows, pool.rows.take(batch))


def _check(error: float, budget: int) -> None:
    if budget < LEAST_BUDGET:
        raise InvalidInput(f"budget {budget}: an estimator needs at least {LEAST_BUDGET} measured subgraphs")
    if not 0 <= error < 1:
        raise InvalidInput(f"error {error}: must be a fraction from 0 to 1, such as 0.02 for 2 %")


def _stopped(enough: bool, spent: bool, empty: bool) -> Stop | None:
    return "error" if enough else "budget" if spent else "candidates" if empty else None


def network_error(held: Table, predict: Callable[[Rows], Prediction]) -> float:
    """What `ERROR_QUANTILE` of the whole networks in a table are predicted within, as a fraction of their latency."""
    measured, predicted, _ = sums(held.wholes, predict)
    if len(held):
        _, network = np.unique(np.array(held.networks), return_inverse=True)
        rows = [found.latency_s for found in held.measurements], predict(Rows.of_workloads(held.workloads)).latency_s
        totals = [np.bincount(network, weights=column) for column in rows]
        measured, predicted = np.concatenate([measured, totals[0]]), np.concatenate([predicted, totals[1]])
    return float(np.quantile(np.abs(predicted / measured - 1), ERROR_QUANTILE))


def chosen(rows: Rows, worth: Floats, count: int) -> Indices:
    """At most `count` of n rows with the highest worth (n,), which falls near those that are chosen before."""
    left = worth.copy()
    found: list[int] = []
    while len(found) < count and left.max(initial=0) > 0:
        best = int(left.argmax())
        found.append(best)
        left *= unlike(rows, rows.take(slice(best, best + 1)))
    return np.array(found, dtype=np.int64)


def chosen_networks(pool: Pool, worth: Floats, count: int) -> Indices:
    """Places of the networks whose subgraphs have the highest mean worth, `worth` (n,) being that of each subgraph.

    They hold at most `count` distinct subgraphs together; at least one is chosen unless none has any worth.
    """
    holds = np.zeros((len(pool.graphs), len(pool)), dtype=bool)
    holds[pool.networks, pool.uses] = True
    sizes = holds.sum(axis=1)
    left, room = worth.copy(), count
    found: list[int] = []
    while True:
        values = np.where(sizes <= (room if found else len(pool)), holds @ left / np.maximum(sizes, 1), 0)
        best = int(values.argmax()) if len(values) else 0
        if room <= 0 or not len(values) or values[best] <= 0:
            return np.array(found, dtype=np.int64)
        found.append(best)
        room -= int(sizes[best])
        left *= unlike_all(pool.rows, pool.rows.take(np.flatnonzero(holds[best])))


def _alone(table: Table) -> Table:
    """The distinct subgraphs of measured networks, as any others to learn from."""
    first: dict[Workload, int] = {}
    for place, load in enumerate(table.workloads):
        first.setdefault(load, place)
    return Table(tuple(first), tuple(table.measurements[place] for place in first.values()), (None,) * len(first))


def unlike(rows: Rows, other: Rows) -> Floats:
    """How unlike n rows are one other: 0 for the same numbers, 1 for another kind or sizes octaves apart."""
    near = np.flatnonzero(rows.kinds == other.kinds[0])
    found = np.ones(len(rows))
    octaves = np.log2(1 + rows.values[near]) - np.log2(1 + other.values[0])
    found[near] = -np.expm1(-(octaves**2).sum(axis=1) / 2)
    return found


def unlike_all(rows: Rows, others: Rows) -> Floats:
    """How unlike n rows are all of some others: the product over them."""
    found = np.ones(len(rows))
    for place in range(len(others)):
        found *= unlike(rows, others.take(slice(place, place + 1)))
    return found


def pool_of(graphs: Sequence[Graph], target: Target, largest: Largest = Largest()) -> Pool:  # noqa: B008 (frozen)
    """The subgraphs of closed networks that a tool can measure on a target, each distinct one once."""
    places: dict[Specimen, int] = {}
    loads, uses, networks = [], [], []
    for number, graph in enumerate(graphs):
        for part in subgraphs_of(graph, target):
            if part.workload.kind not in SAMPLED_KINDS or not target.runs(part.workload) or not _fits(part, largest):
                continue
            specimen = specimen_of(graph, part)
            if specimen not in places:
                places[specimen] = len(places)
                loads.append(part.workload)
            uses.append(places[specimen])
            networks.append(number)
    rows = Rows.of_workloads(loads)
    return Pool(tuple(graphs), tuple(places), rows, np.array(uses, np.int64), np.array(networks, np.int64))


def specimen_of(graph: Graph, part: Subgraph) -> Specimen:
    """A subgraph of a closed network as a specimen: its operator, the shapes around it and what is fused with it."""
    node = graph.by_key[part.name]
    followers = [graph.by_key[key].op for key, _ in part.members[1:]]
    op = node.op
    if isinstance(op, (Conv2d, ConvTranspose2d, Linear)) and any(isinstance(each, BatchNorm) for each in followers):
        op = replace(op, bias=True)
    functions = [each.function for each in followers if isinstance(each, Activation)]
    return Specimen(
        op,
        tuple(graph.input_shapes(node)),
        tuple(isinstance(getattr(graph.by_key.get(name), "op", None), Constant) for name in node.inputs),
        functions[-1] if functions else "",
        any(isinstance(each, Elementwise) for each in followers),
    )


def _fits(part: Subgraph, largest: Largest) -> bool:
    load = part.workload
    sizes = (load.in_elements, load.out_elements, load.in_height * load.in_width * load.in_channels)
    return max(sizes) <= largest.tensor and load.parameters <= largest.weights  # type: ignore[operator]


def _start(target: Target, tool: Tool, generator: np.random.Generator) -> Table:
    drawn = [
        item
        for kind in SAMPLED_KINDS
        if kind not in target.unsupported
        for item in sample(kind, START, generator, target.fuses, tool.largest)
    ]
    return measured_subgraphs(tool, [item for item in drawn if target.runs(item.workload(target.fuses))])

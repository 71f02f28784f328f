"""Fitting an estimator: draw subgraphs, measure them, learn, and say how far off the result is on what it never saw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.estimate.accumulate import network_spread
from chipfit.estimate.estimator import Errors, Estimator, Provenance
from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.regress import Prediction, regress
from chipfit.estimate.rows import Floats, Rows
from chipfit.estimate.sampling import SAMPLED_KINDS, sample
from chipfit.estimate.wholes import sums, whole_of
from chipfit.graph.functions import function_name
from chipfit.graph.graph import Graph
from chipfit.graph.workload import WORKLOAD_KINDS
from chipfit.measure.measurement import Part, Run, Source, Tool
from chipfit.measure.specimen import Specimen
from chipfit.measure.table import Table, Whole, joined
from chipfit.targets.target import Target

SHARES: Mapping[str, float] = {
    "conv": 7, "depthwise": 3, "linear": 1.5, "transposed_conv": 1.5, "matmul": 1.5, "elementwise": 1.5, "pool": 1.5,
    "activation": 1, "normalisation": 1, "softmax": 0.8, "resize": 1.5, "copy": 1.5,
}  # fmt: skip
"""How the budget is divided among kinds."""
HELD_OUT = 0.15
"""Share of the subgraphs that errors are measured on."""
LEARNT_NETWORKS = 0.7
"""Share of the whole networks whose subgraphs are learnt from, as they are measured in their place, before errors are
measured on the rest; the spread is calibrated on half of them and checked on the other half."""
LEAST_BUDGET = 100
LEAST_NETWORKS = 10

Progress = Callable[[Iterable[Any]], Iterable[Any]]


def identity(items: Iterable[Any]) -> Iterable[Any]:
    """Progress that nobody sees."""
    return items


def measure_samples(
    target: Target,
    tool: Tool,
    budget: int | None = None,
    seed: int = 0,
    progress: Progress = identity,
    networks: Sequence[Graph] = (),
) -> Table:
    """Measurements of `budget` subgraphs that cover what networks hold, and of the subgraphs of whole networks.

    The networks are random ones and the closed graphs in `networks`. What the tool cannot measure is left out.
    `progress` wraps the steps of the work. Raises `InvalidInput` for a budget below `LEAST_BUDGET`.
    """
    budget = tool.budget if budget is None else budget
    if budget < LEAST_BUDGET:
        raise InvalidInput(f"budget {budget}: an estimator needs at least {LEAST_BUDGET} measured subgraphs")
    generator = np.random.default_rng(seed)
    kinds = [kind for kind in SAMPLED_KINDS if target.runs_some(kind)]
    total = sum(SHARES[kind] for kind in kinds)
    tables: list[Table] = []
    graphs = [*random_networks(min(tool.whole, max(4, budget // 13)), generator), *networks]
    steps: list[str | range] = [*kinds, *(range(at, min(at + 20, len(graphs))) for at in range(0, len(graphs), 20))]
    for step in progress(steps):
        if isinstance(step, str):
            count = max(8, round(budget * SHARES[step] / total))
            drawn = sample(step, count, generator, target.fuses, tool.largest)
            run = [item for item in drawn if target.runs(item.workload(target.fuses))]
            tables.append(measured_subgraphs(tool, run))
        else:
            tables.append(measured_networks(target, tool, [graphs[place] for place in step], step.start))
    return joined(tables)


def measured_subgraphs(tool: Tool, specimens: Sequence[Specimen]) -> Table:
    """Measurements of subgraphs on their own. What the tool cannot measure is left out."""
    parts = [part for part in tool.subgraphs(specimens) if isinstance(part, Part)]
    return Table(
        tuple(part.workload for part in parts), tuple(part.measurement for part in parts), (None,) * len(parts)
    )


def measured_networks(target: Target, tool: Tool, graphs: Sequence[Graph], first: int = 0) -> Table:
    """Measurements of whole networks, numbered from `first`: of their subgraphs, or of all together where the tool
    tells no more. What the tool cannot measure, or not all of, is left out."""
    parts: list[Part] = []
    numbers: list[int | None] = []
    wholes: list[Whole] = []
    for number, (graph, run) in enumerate(zip(graphs, tool.networks(graphs), strict=True), start=first):
        if not isinstance(run, Run) or run.elsewhere:
            continue
        parts += run.parts.values()
        numbers += [number] * len(run.parts)
        if not run.parts and (whole := whole_of(graph, run, target)):
            wholes.append(whole)
    return Table(
        tuple(part.workload for part in parts), tuple(part.measurement for part in parts), tuple(numbers), tuple(wholes)
    )


def fit(
    target: Target,
    tool: Tool,
    *,
    budget: int | None = None,
    seed: int = 0,
    precision: str | None = None,
    progress: Progress = identity,
    networks: Sequence[Graph] = (),
) -> Estimator:
    """An estimator of `target` from `budget` subgraphs that `tool` measures; equal for equal seeds.

    `progress` wraps the steps of the work (measuring and learning, kind by kind). `networks` are closed graphs that are
    held out besides the random ones. Raises `InvalidInput` as `measure_samples` and `fit_measured` do.
    """
    target.precision(precision)
    table = measure_samples(target, tool, budget, seed, progress, networks)
    return fit_measured(target, table, precision=precision, seed=seed, progress=progress)


def fit_measured(
    target: Target,
    table: Table,
    *,
    precision: str | None = None,
    seed: int = 0,
    progress: Progress = identity,
) -> Estimator:
    """An estimator of `target` from a table of measurements.

    Errors and spreads are those of a regression that did not see a share of the subgraphs and of the whole networks;
    the one that is returned then learns from all of them. Without whole networks the spread of a network is that of its
    rows alone, and `Provenance.network_errors` is None. Raises `InvalidInput` for too few subgraphs, kinds that the
    target cannot run, measurements without latency or from several tools, and an unknown precision.
    """
    numbers, generator = target.precision(precision), np.random.default_rng([seed, 1])
    source = _checked(target, table)
    measured = _Measured.of(table)
    alone = np.array([number is None for number in table.networks])
    unseen = _unseen(table, generator)
    held = alone & (generator.random(len(alone)) < HELD_OUT)
    train, test = measured.part(~unseen & ~held), measured.part(held)
    regression = regress(target, numbers, train.rows, train.latency_s, train.energy_j, generator, progress)
    predict = partial(regression.predict, target, numbers)
    predicted = predict(test.rows)
    codes = {WORKLOAD_KINDS[code]: code for code in np.unique(train.rows.kinds).tolist()}
    systematic, network_errors = 0.0, None
    if unseen.any() or table.wholes:
        own = _sums(measured.part(unseen), table, unseen, predict)
        systematic, network_errors = _whole_networks(
            *map(np.concatenate, zip(own, sums(table.wholes, predict), strict=True))
        )
    provenance = Provenance(
        source,
        source.date or date.today().isoformat(),
        seed,
        {WORKLOAD_KINDS[code]: int((measured.rows.kinds == code).sum()) for code in np.unique(measured.rows.kinds)},
        {
            kind: errors(predicted.latency_s[own], test.latency_s[own], predicted.spread_s[own])
            for kind, code in codes.items()
            if (own := test.rows.kinds == code).any()
        },
        network_errors,
    )
    learnt = regress(target, numbers, measured.rows, measured.latency_s, measured.energy_j, generator, progress)
    return Estimator(target, precision or target.default_precision, learnt, systematic, provenance)


def _unseen(table: Table, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Which rows (n,) belong to networks that are not learnt from."""
    numbers = np.array([-1 if number is None else number for number in table.networks])
    networks = np.unique(numbers[numbers >= 0])
    learnt = generator.permutation(networks)[: int(len(networks) * LEARNT_NETWORKS)]
    return (numbers >= 0) & ~np.isin(numbers, learnt)


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """Measured workloads as arrays (n,); `energy_j` is None where the tool tells none."""

    rows: Rows
    latency_s: Floats
    energy_j: Floats | None

    @classmethod
    def of(cls, table: Table) -> _Measured:
        energies = [found.energy_j for found in table.measurements if found.energy_j]
        return cls(
            Rows.of_workloads(table.workloads),
            np.array([found.latency_s for found in table.measurements]),
            np.array(energies) if len(energies) == len(table) else None,
        )

    def part(self, chosen: NDArray[np.bool_]) -> _Measured:
        energy_j = None if self.energy_j is None else self.energy_j[chosen]
        return _Measured(self.rows.take(chosen), self.latency_s[chosen], energy_j)


def _checked(target: Target, table: Table) -> Source:
    """The one tool that measured a table, with the day of the last measurement."""
    alone = sum(number is None for number in table.networks)
    if alone < LEAST_BUDGET:
        raise InvalidInput(f"{alone} measured subgraphs are too few: an estimator needs at least {LEAST_BUDGET}")
    if odd := sorted({function_name(load.kind, load.function) for load in table.workloads if not target.runs(load)}):
        raise InvalidInput(f"measurements of {odd[0]!r} workloads, which {target.name} cannot run: leave them out")
    sources = [found.source for found in (*table.measurements, *(whole.measurement for whole in table.wholes))]
    if len(tools := {(source.tool, source.version) for source in sources}) != 1:
        raise InvalidInput(f"measurements of several tools in one fit: {sorted(tools)}; keep one tool and version")
    if not all(found.latency_s > 0 for found in table.measurements):
        raise InvalidInput(f"{sources[0].tool} gave a latency of 0: every subgraph needs one above 0")
    return max(sources, key=lambda source: source.date or "")


def errors(predicted: Floats, measured: Floats, spread: Floats) -> Errors:
    """How far predictions (n,) are from measurements (n,), relative to these."""
    off = np.abs(predicted - measured) / measured
    return Errors(
        len(off),
        float(np.median(off)),
        float(np.quantile(off, 0.99)),
        float(off.max()),
        rank_correlation(predicted, measured),
        float((np.abs(predicted - measured) <= spread).mean()),
    )


def rank_correlation(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation; ties share their mean rank; 1 where there is nothing to order."""
    ranks = [_ranks(values) - (len(values) - 1) / 2 for values in (a, b)]
    scale = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum()) / scale if scale else 1.0


def _ranks(values: Floats) -> Floats:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts + 1) / 2)[place]


def _sums(
    whole: _Measured, table: Table, unseen: NDArray[np.bool_], predict: Callable[[Rows], Prediction]
) -> tuple[Floats, Floats, Floats]:
    """As `wholes.sums`, of the networks whose subgraphs were measured in their place."""
    if not unseen.any():
        return np.zeros(0), np.zeros(0), np.zeros(0)
    rows = predict(whole.rows)
    numbers = [number for number, out in zip(table.networks, unseen, strict=True) if out and number is not None]
    _, place = np.unique(np.array(numbers), return_inverse=True)
    columns = (whole.latency_s, rows.latency_s, rows.spread_s**2)
    measured, predicted, variance = (np.bincount(place, weights=column).astype(np.float64) for column in columns)
    return measured, predicted, variance


def _whole_networks(measured: Floats, predicted: Floats, variance: Floats) -> tuple[float, Errors]:
    """The relative error that a network's rows share, and the errors on whole networks (n,).

    `variance` is what the spreads of their rows add up to. Every other network calibrates the spread and the rest say
    how often it holds; where there are few, all do both.
    """
    step = 2 if len(measured) >= LEAST_NETWORKS else 1
    systematic = shared_error(predicted[::step], measured[::step], variance[::step])
    spread = network_spread(predicted, variance, systematic)
    found = errors(predicted, measured, spread)
    coverage = float((np.abs(predicted - measured) <= spread)[step - 1 :: step].mean())
    return systematic, replace(found, coverage=coverage)


def shared_error(predicted: Floats, measured: Floats, variance: Floats) -> float:
    """The smallest relative error, shared by all rows, with which 68 % of networks lie within their spread."""
    left = np.maximum((predicted - measured) ** 2 - variance, 0) / predicted**2
    place = min(len(left), int(np.ceil(0.6827 * (len(left) + 1)))) - 1
    return float(np.sqrt(np.sort(left)[place]))

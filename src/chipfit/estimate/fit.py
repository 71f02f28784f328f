"""Fitting an estimator: draw subgraphs, measure them, learn, and say how far off the result is on what it never saw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.estimate.accumulate import network_spread, runs
from chipfit.estimate.estimator import Errors, Estimator, Provenance
from chipfit.estimate.features import KIND_CODES, Floats, Rows
from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.regress import Prediction, regress
from chipfit.estimate.sampling import SAMPLED_KINDS, sample
from chipfit.graph.graph import Graph
from chipfit.graph.subgraphs import Workload, cut
from chipfit.measure.measurement import Measure, Measurement, Source
from chipfit.targets.target import Target

BUDGET = 24_000
"""Subgraphs that are measured by default, those held out included."""
SHARES: Mapping[str, float] = {
    "conv": 7, "depthwise": 3, "linear": 2.5, "transposed_conv": 1.5, "matmul": 1.5, "elementwise": 1.5, "pool": 1.5,
    "activation": 1, "normalisation": 1, "softmax": 0.8, "resize": 1, "copy": 1,
}  # fmt: skip
"""How the budget is divided among kinds."""
HELD_OUT = 0.15
"""Share of the subgraphs that errors are measured on."""
NETWORKS = 120
"""Random networks that errors are measured on, fewer where the budget is small: a network is about 25 subgraphs to
measure. The spread is calibrated on half of them and checked on the other half."""
LEAST_BUDGET = 400

Progress = Callable[[Iterable[Any]], Iterable[Any]]


def identity(items: Iterable[Any]) -> Iterable[Any]:
    """Progress that nobody sees."""
    return items


@dataclass(frozen=True, slots=True, eq=False)
class _Measured:
    """Measured workloads as arrays (n,); `energy_j` is None where the tool tells none."""

    rows: Rows
    latency_s: Floats
    energy_j: Floats | None
    source: Source


def fit(
    target: Target,
    measure: Measure,
    *,
    budget: int = BUDGET,
    seed: int = 0,
    precision: str | None = None,
    progress: Progress = identity,
    networks: Sequence[Graph] = (),
) -> Estimator:
    """An estimator of `target` from `budget` subgraphs that `measure` measures; equal for equal seeds.

    `progress` wraps the steps of the work (measuring and learning, kind by kind). `networks` are closed graphs that are
    held out besides the random ones. Raises `InvalidInput` for a budget below `LEAST_BUDGET`, and for measurements
    without latency or from several tools.
    """
    if budget < LEAST_BUDGET:
        raise InvalidInput(f"budget {budget}: an estimator needs at least {LEAST_BUDGET} measured subgraphs")
    numbers = target.precision(precision)
    generator = np.random.default_rng(seed)
    kinds = [kind for kind in SAMPLED_KINDS if runs(target, kind)]
    total = sum(SHARES[kind] for kind in kinds)
    drawn = {kind: max(20, round(budget * SHARES[kind] / total)) for kind in kinds}
    parts = [
        _measured(measure, sample(kind, count, generator, target.fuses)) for kind, count in progress(drawn.items())
    ]
    everything = _joined(parts)
    held = generator.random(len(everything.rows)) < HELD_OUT
    train, test = _part(everything, ~held), _part(everything, held)
    regression = regress(target, numbers, train.rows, train.latency_s, train.energy_j, generator, progress)
    predicted = regression.predict(target, numbers, test.rows)
    checked = _check_networks(
        target, measure, [*random_networks(min(NETWORKS, budget // 20), generator), *networks],
        lambda rows: regression.predict(target, numbers, rows),
    )  # fmt: skip
    names = {kind: KIND_CODES[kind] for kind in kinds}
    provenance = Provenance(
        everything.source,
        everything.source.date or date.today().isoformat(),
        seed,
        {kind: int((train.rows.kinds == code).sum()) for kind, code in names.items()},
        {
            kind: errors(predicted.latency_s[own], test.latency_s[own], predicted.spread_s[own])
            for kind, code in names.items()
            if (own := test.rows.kinds == code).any()
        },
        checked.errors,
    )
    return Estimator(target, precision or target.default_precision, regression, checked.systematic, provenance)


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


def _measured(measure: Measure, workloads: Sequence[Workload]) -> _Measured:
    found = measure(workloads)
    if len(found) != len(workloads):
        raise InvalidInput(f"the measure function gave {len(found)} measurements for {len(workloads)} subgraphs")
    latency_s = np.array([item.latency_s for item in found])
    if not (latency_s > 0).all():
        raise InvalidInput(f"{found[0].source.tool} gave a latency of 0 for a {workloads[0].kind} subgraph")
    return _Measured(Rows.of_workloads(workloads), latency_s, _energies(found), _source(item.source for item in found))


def _energies(found: Sequence[Measurement]) -> Floats | None:
    energies = [item.energy_j for item in found if item.energy_j]
    return np.array(energies) if len(energies) == len(found) else None


def _source(found: Iterable[Source]) -> Source:
    """The one tool that measured, with the day of the last measurement."""
    sources = list(found)
    if len(tools := {(source.tool, source.version) for source in sources}) != 1:
        raise InvalidInput(f"measurements of several tools in one fit: {sorted(tools)}; keep one tool and version")
    return max(sources, key=lambda source: source.date or "")


def _joined(parts: Sequence[_Measured]) -> _Measured:
    energies = [part.energy_j for part in parts if part.energy_j is not None]
    rows = [part.rows for part in parts]
    return _Measured(
        Rows(np.concatenate([each.kinds for each in rows]), np.concatenate([each.values for each in rows])),
        np.concatenate([part.latency_s for part in parts]),
        np.concatenate(energies) if len(energies) == len(parts) else None,
        _source(part.source for part in parts),
    )


def _part(measured: _Measured, chosen: NDArray[np.bool_]) -> _Measured:
    energy_j = None if measured.energy_j is None else measured.energy_j[chosen]
    return _Measured(measured.rows.take(chosen), measured.latency_s[chosen], energy_j, measured.source)


@dataclass(frozen=True, slots=True)
class _Checked:
    errors: Errors
    systematic: float


def _check_networks(
    target: Target, measure: Measure, networks: Sequence[Graph], predict: Callable[[Rows], Prediction]
) -> _Checked:
    """Errors on whole networks, and the relative error that their rows share.

    The first half of the networks calibrates the spread, the second says how often it holds.
    """
    loads = [
        [item.workload for item in cut(graph, target.fuses) if runs(target, item.workload.kind)] for graph in networks
    ]
    sizes = [len(each) for each in loads]
    flat = [load for each in loads for load in each]
    truth, rows = np.array([item.latency_s for item in measure(flat)]), predict(Rows.of_workloads(flat))
    starts = np.cumsum([0, *sizes[:-1]])
    measured, latency_s, variance = (
        np.add.reduceat(column, starts) for column in (truth, rows.latency_s, rows.spread_s**2)
    )
    half = len(networks) // 2
    first, second = slice(0, half), slice(half, None)
    systematic = shared_error(latency_s[first], measured[first], variance[first])
    spread = network_spread(latency_s, variance, systematic)
    whole = errors(latency_s, measured, spread)
    within = float((np.abs(latency_s - measured) <= spread)[second].mean())
    return _Checked(Errors(whole.count, whole.median, whole.p99, whole.largest, whole.spearman, within), systematic)


def shared_error(predicted: Floats, measured: Floats, variance: Floats) -> float:
    """The smallest relative error, shared by all rows, with which 68 % of networks lie within their spread."""
    left = np.maximum((predicted - measured) ** 2 - variance, 0) / predicted**2
    place = min(len(left), int(np.ceil(0.6827 * (len(left) + 1)))) - 1
    return float(np.sqrt(np.sort(left)[place]))

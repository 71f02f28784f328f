"""Fitting an estimator to a board that gives nothing but the times of whole networks.

The time of a network is fitted as a non-negative sum of what the estimator says for each kind of subgraph and of a cost
per subgraph, MAC, element and parameter, with relative errors. The factors are held to a common one and the extra
costs to nothing, as strongly as best predicts networks that were left out (ridge regression, Hoerl and Kennedy,
Technometrics 12, 1970); so ten networks may already be asked, and whatever they do not tell stays the estimator's.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidGraph, InvalidInput
from chipfit.estimate.accumulate import network_spread
from chipfit.estimate.calibration import EXTRAS, Calibration, extras
from chipfit.estimate.estimator import Errors, Estimator
from chipfit.estimate.fit import errors, shared_error
from chipfit.estimate.rows import Floats, Rows
from chipfit.graph.graph import Graph
from chipfit.graph.workload import WORKLOAD_KINDS
from chipfit.measure.measurement import Source
from chipfit.measure.subgraphs import graph_of, subgraphs_of
from chipfit.nets.network import Network

LEAST_NETWORKS = 5
STRENGTHS = tuple(10.0**power for power in np.arange(-4, 3.5, 0.5).tolist())
"""How strongly factors are held together and extra costs down."""
LEAST_FACTOR = 0.05
"""Share of the common factor that no kind's factor falls below."""
PARTS = 10
"""Into so many parts networks without families are divided to be left out in turn."""

_KINDS = len(WORKLOAD_KINDS)


def calibrate(
    estimator: Estimator,
    models: Sequence[Graph | Network],
    latency_s: Floats,
    source: Source,
    families: Sequence[Hashable] | None = None,
) -> Estimator:
    """The estimator as a board has it, of which `latency_s` (n,) of n whole networks are known.

    `models` are closed, `source` is what measured them, `families` (n,) say which networks are alike; without, each is
    one of its own. `Estimator.calibration` of the result holds the errors on networks whose whole family was left out,
    from which its spread comes too. What `fit` found on subgraphs stays in `provenance`; energy stays as it was.

    Raises `InvalidInput` for fewer than `LEAST_NETWORKS` networks or two families, latencies that are not above 0,
    networks that the target cannot run, and an estimator that is calibrated already; `InvalidGraph` for open graphs.
    """
    taken = np.asarray(latency_s, dtype=np.float64)
    alike = _families(families, len(models))
    _check(estimator, [graph_of(model) for model in models], taken, alike)
    networks = _Networks.of(estimator, models, taken)
    predicted, variance = np.empty(len(taken)), np.empty(len(taken))
    for held in np.unique(alike):
        out = alike == held
        rest = networks.part(~out)
        coefficients = _coefficients(rest, _strength(rest, alike[~out]))
        predicted[out] = networks.part(out).latency_s(coefficients)
        variance[out] = networks.variances[out] @ coefficients[:_KINDS] ** 2
    systematic = shared_error(predicted, taken, variance)
    strength = _strength(networks, alike)
    coefficients = _coefficients(networks, strength)
    unseen = errors(predicted, taken, network_spread(predicted, variance, systematic))
    before = networks.columns[:, :_KINDS].sum(axis=1)
    found = _calibration(coefficients, strength, source, alike, unseen, errors(before, taken, before).median)
    return replace(estimator, systematic=systematic, calibration=found)


def _families(families: Sequence[Hashable] | None, count: int) -> NDArray[np.int64]:
    """Numbers (n,) of families, or of the parts that are left out in turn."""
    if families is None:
        return np.arange(count) % PARTS
    names = list(dict.fromkeys(families))
    return np.array([names.index(family) for family in families], dtype=np.int64)


def _check(estimator: Estimator, graphs: Sequence[Graph], latency_s: Floats, families: NDArray[np.int64]) -> None:
    if estimator.calibration is not None:
        raise InvalidInput("the estimator is calibrated already: calibrate the one that it was made from")
    if len(graphs) < LEAST_NETWORKS:
        raise InvalidInput(f"{len(graphs)} measured networks are too few: a calibration needs {LEAST_NETWORKS}")
    if latency_s.shape != (len(graphs),) or len(families) != len(graphs):
        raise InvalidInput(
            f"{len(graphs)} networks, latencies {latency_s.shape}, {len(families)} families: give one for each network"
        )
    if len(np.unique(families)) < 2:
        raise InvalidInput(
            "all networks are of one family: give two, or leave families out to hold out single networks"
        )
    if (wrong := np.flatnonzero(~(np.isfinite(latency_s) & (latency_s > 0)))).size:
        raise InvalidInput(f"network {wrong[0]} took {latency_s[wrong[0]]} s: measure it again or leave it out")
    for number, graph in enumerate(graphs):
        if graph.decisions:
            raise InvalidGraph(f"network {number} has {len(graph.decisions)} open decisions: give graph.close(code)")
        if gaps := estimator.unsupported(graph):
            raise InvalidInput(
                f"network {number}: {estimator.target.name} cannot run node {gaps[0].node!r} ({gaps[0].operator}), "
                "so its time is not the sum of what is estimated; leave the network out"
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Networks:
    """n measured networks: `columns` (n, kinds + extras) of estimated seconds per kind and of how much of each extra
    there is, `variances` (n, kinds) of the estimated seconds, `taken_s` (n,)."""

    columns: Floats
    variances: Floats
    taken_s: Floats

    @classmethod
    def of(cls, estimator: Estimator, models: Sequence[Graph | Network], taken_s: Floats) -> _Networks:
        columns, variances = np.zeros((len(models), _KINDS + len(EXTRAS))), np.zeros((len(models), _KINDS))
        for number, model in enumerate(models):
            rows = Rows.of_workloads([part.workload for part in subgraphs_of(model, estimator.target)])
            found = estimator.predict(rows)
            columns[number, :_KINDS] = np.bincount(rows.kinds, found.latency_s, _KINDS)
            columns[number, _KINDS:] = extras(rows).sum(axis=0)
            variances[number] = np.bincount(rows.kinds, found.spread_s**2, _KINDS)
        return cls(columns, variances, taken_s)

    def part(self, chosen: NDArray[np.bool_]) -> _Networks:
        return _Networks(self.columns[chosen], self.variances[chosen], self.taken_s[chosen])

    def latency_s(self, coefficients: Floats) -> Floats:
        return self.columns @ coefficients


def _strength(networks: _Networks, families: NDArray[np.int64]) -> float:
    """The strength with the smallest mean error, in logarithms, on families that are left out in turn."""
    missed = np.zeros(len(STRENGTHS))
    groups = np.unique(families)
    if len(groups) < 2:
        return STRENGTHS[-1]
    for held in groups:
        out = families == held
        rest, unseen = networks.part(~out), networks.part(out)
        for place, strength in enumerate(STRENGTHS):
            predicted = unseen.latency_s(_coefficients(rest, strength))
            missed[place] += np.abs(np.log(np.maximum(predicted, 1e-12) / unseen.taken_s)).sum()
    # Of strengths that do as well the largest: it changes the estimator least.
    return STRENGTHS[int(np.flatnonzero(missed <= missed.min() * (1 + 1e-9))[-1])]


def _coefficients(networks: _Networks, strength: float) -> Floats:
    """Factors and seconds per extra (kinds + extras,), none negative, nearest to the measurements and to the estimator.

    A factor is held to the common one in units of it, an extra to 0 in units in which it would be the whole latency.
    """
    from sklearn.linear_model import LinearRegression

    shares = networks.columns / networks.taken_s[:, None]
    common = 1 / float(np.median(shares[:, :_KINDS].sum(axis=1)))
    sizes = np.sqrt((shares[:, _KINDS:] ** 2).mean(axis=0))
    units = np.concatenate([np.full(_KINDS, common), 1 / np.where(sizes > 0, sizes, 1)])
    held = np.concatenate([np.ones(_KINDS), np.zeros(len(EXTRAS))])
    weight = np.sqrt(strength)
    matrix = np.concatenate([shares * units / np.sqrt(len(shares)), weight * np.eye(len(units))])
    aims = np.concatenate([np.full(len(shares), 1 / np.sqrt(len(shares))), weight * held])
    model = LinearRegression(positive=True, fit_intercept=False).fit(matrix, aims)
    found = np.asarray(model.coef_) * units
    # Every subgraph takes some time, however little the networks tell of its kind.
    return np.concatenate([np.maximum(found[:_KINDS], LEAST_FACTOR * common), found[_KINDS:]])


def _calibration(
    coefficients: Floats, strength: float, source: Source, families: NDArray[np.int64], unseen: Errors, before: float
) -> Calibration:
    return Calibration(
        factors=tuple(coefficients[:_KINDS].tolist()),
        extras_s=tuple(coefficients[_KINDS:].tolist()),
        source=source,
        networks=len(families),
        families=len(np.unique(families)),
        strength=strength,
        median_error=unseen.median,
        largest_error=unseen.largest,
        spearman=unseen.spearman,
        median_error_before=before,
    )

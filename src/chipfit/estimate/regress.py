"""The regression: per kind a roofline fitted to the measurements, boosted trees for what it misses, and a spread.

The roofline is a max-affine function (Magnani and Boyd, "Convex piecewise-linear fitting", Optimization and
Engineering 10, 2009): cycles = max over resources of a non-negative combination of the resource's terms. It starts from
the description, corrects its figures where measurements disagree, and extrapolates as the hardware does. The trees
then learn log(latency / roofline). A row's spread is the 68 % quantile of the out-of-fold errors in its region.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.estimate.features import Physics, described, described_energy, feature_matrix, physics
from chipfit.estimate.forest import Forest, Rows32, Tree, boosted, grown, leaf_of, trees_of
from chipfit.estimate.rows import RANGE_FIELDS, Floats, Rows
from chipfit.graph.workload import WORKLOAD_KINDS
from chipfit.targets.target import Precision, Target

BOUNDS = ("compute", "on_chip", "dram", "overhead")
"""What can bound a subgraph. The table port counts as computing."""

OUTSIDE_SPREAD = 0.1
"""Relative spread added for every octave that a row lies outside what was measured."""
ROUNDS = 300
FOLDS = 3

_PIECE_BOUND = np.array([0, 0, 1, 2, 2, 2, 2])
_SMALLEST_ERROR = 1e-4
_LEAST_ROWS, _PLENTY_OF_ROWS = 8, 40
_KINDS = len(WORKLOAD_KINDS)


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Costs of n rows, each (n,). `spread_s` is one standard deviation; `bound` are places in `BOUNDS`."""

    latency_s: Floats
    spread_s: Floats
    energy_j: Floats
    bound: NDArray[np.int64]
    in_range: NDArray[np.bool_]

    def take(self, index: NDArray[np.int64]) -> Prediction:
        """The rows at `index`."""
        return Prediction(*(getattr(self, name)[index] for name in self.__slots__))


@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """What was learnt, for every kind in the order of `WORKLOAD_KINDS`.

    `pieces` (kinds, resources, terms) and `energy` (kinds, energy terms) are coefficients, 1 where the description
    is right; `low` and `high` (kinds, range fields) bound the measured range, in the logarithms of `range_keys`.
    """

    pieces: Floats
    energy: Floats
    latency_trees: Forest
    energy_trees: Forest
    spread_trees: Forest
    low: Floats
    high: Floats

    def predict(self, target: Target, precision: Precision, rows: Rows) -> Prediction:
        """Costs of n rows of any kinds."""
        facts = physics(target, precision, rows)
        kinds = rows.kinds
        cycles = self._pieces_at(kinds, facts.terms)
        roofline = cycles.max(axis=1)
        matrix = feature_matrix(rows, facts, roofline)
        latency_s = roofline / target.clock_hz * np.exp(self.latency_trees.at(kinds, matrix))
        energy_j = modelled_energy(self.energy[kinds], facts, latency_s) * np.exp(self.energy_trees.at(kinds, matrix))
        keys = rows.range_keys()
        outside = np.maximum(np.maximum(self.low[kinds] - keys, keys - self.high[kinds]), 0).max(axis=1, initial=0)
        spread = np.exp(self.spread_trees.at(kinds, matrix)) + OUTSIDE_SPREAD * np.minimum(outside, 10)
        decides = cycles.argmax(axis=1)
        fixed = self.pieces[kinds, decides, 0] * facts.terms[:, 0]
        bound = np.where(2 * fixed >= roofline, BOUNDS.index("overhead"), _PIECE_BOUND[decides])
        return Prediction(latency_s, latency_s * spread, energy_j, bound, outside <= 0)

    def _pieces_at(self, kinds: NDArray[np.int64], terms: Floats) -> Floats:
        return np.einsum("nt,npt->np", terms, self.pieces[kinds])


def modelled_energy(coefficients: Floats, facts: Physics, latency_s: Floats) -> Floats:
    """Joules (n,) of the energy terms under `coefficients` (n or 1, terms)."""
    terms = facts.energy_terms.copy()
    terms[:, -1] *= latency_s
    return np.maximum((terms * coefficients).sum(axis=1), 1e-18)


def regress(
    target: Target,
    precision: Precision,
    rows: Rows,
    latency_s: Floats,
    energy_j: Floats | None,
    generator: np.random.Generator,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Regression:
    """Learns from n measured rows.

    `latency_s` and `energy_j` are (n,); without energies the description's own are kept. Kinds without rows keep the
    description and are never in range. `progress` wraps the loop over kinds.
    """
    start = described(target)
    pieces = np.repeat(start[None], _KINDS, axis=0)
    energy = np.repeat(described_energy(target)[None], _KINDS, axis=0)
    low, high = np.full((_KINDS, len(RANGE_FIELDS)), np.inf), np.full((_KINDS, len(RANGE_FIELDS)), -np.inf)
    trees: dict[str, list[list[Tree]]] = {name: [[] for _ in range(_KINDS)] for name in ("latency", "energy", "spread")}
    facts = physics(target, precision, rows)
    keys = rows.range_keys()
    for kind in progress(np.unique(rows.kinds).tolist()):
        index = np.flatnonzero(rows.kinds == kind)
        own = facts.take(index)
        cycles = latency_s[index] * target.clock_hz
        pieces[kind] = fit_roofline(own.terms, cycles, start)
        roofline = (own.terms @ pieces[kind].T).max(axis=1)
        matrix = feature_matrix(rows.take(index), own, roofline)
        missed = np.log(cycles / roofline)
        trees["latency"][kind], errors = _corrected(matrix, missed, generator)
        trees["spread"][kind] = [_spread_tree(matrix, errors)]
        if energy_j is not None:
            energy[kind] = fit_energy(own, latency_s[index], energy_j[index], energy[kind])
            modelled = modelled_energy(energy[kind][None], own, latency_s[index])
            trees["energy"][kind], _ = _corrected(matrix, np.log(energy_j[index] / modelled), generator)
        low[kind], high[kind] = keys[index].min(axis=0), keys[index].max(axis=0)
    forests = {name: Forest.of(found) for name, found in trees.items()}
    return Regression(pieces, energy, forests["latency"], forests["energy"], forests["spread"], low, high)


def fit_roofline(terms: Floats, cycles: Floats, start: Floats) -> Floats:
    """Coefficients (resources, terms) of the max-affine function of `terms` (n, terms) nearest to `cycles` (n,).

    From `start` (resources, terms), by turns, every row is given to the resource that decides it, and every resource
    fitted to its rows with relative errors; a resource that decides few rows, and a term that is zero in them, keep
    what they had at the start.
    """
    best, lowest, pieces = start, np.inf, start.copy()
    least = int(np.clip(len(cycles) / 8, _LEAST_ROWS, _PLENTY_OF_ROWS))
    for _ in range(8):
        values = terms @ pieces.T
        error = float(np.abs(np.log(values.max(axis=1) / cycles)).mean())
        if error < lowest:
            best, lowest = pieces.copy(), error
        decides = values.argmax(axis=1)
        for piece in range(len(pieces)):
            rows = np.flatnonzero(decides == piece)
            if len(rows) < least:
                continue
            used = (start[piece] > 0) & ((terms[rows] > 0).sum(axis=0) >= least)
            pieces[piece, used] = _non_negative(terms[np.ix_(rows, used)] / cycles[rows, None])
            # Nothing runs faster than its fixed cycles, and a logarithm needs something above zero.
            pieces[piece, 0] = max(pieces[piece, 0], 0.05)
    return best


def fit_energy(facts: Physics, latency_s: Floats, energy_j: Floats, described: Floats) -> Floats:
    """Coefficients of `ENERGY_TERMS` nearest to measured energies, relative errors; unused terms keep theirs."""
    terms = facts.energy_terms.copy()
    terms[:, -1] *= latency_s
    used = (terms > 0).sum(axis=0) >= min(_LEAST_ROWS, len(energy_j))
    coefficients = described.copy()
    coefficients[used] = _non_negative(terms[:, used] / energy_j[:, None])
    fitted, kept = (
        np.abs(np.log(np.maximum(terms @ each, 1e-18) / energy_j)).mean() for each in (coefficients, described)
    )
    return coefficients if fitted < kept else described


def _non_negative(shares: Floats) -> Floats:
    """Non-negative coefficients that bring the sum of `shares` (n, terms) nearest to 1."""
    from sklearn.linear_model import LinearRegression

    # Columns at one scale, or a rare large term would decide the numerics of all others.
    scale = np.sqrt((shares**2).mean(axis=0))
    model = LinearRegression(positive=True, fit_intercept=False).fit(shares / scale, np.ones(len(shares)))
    return np.asarray(model.coef_) / scale


def _corrected(matrix: Rows32, missed: Floats, generator: np.random.Generator) -> tuple[list[Tree], Floats]:
    """Trees for what a model misses, and the out-of-fold errors (n,); no trees where they do not help."""
    seed = int(generator.integers(1 << 31))
    fold = generator.permutation(len(missed)) % FOLDS
    errors = missed.copy()
    if len(missed) < _LEAST_ROWS or np.abs(missed).max() < _SMALLEST_ERROR:
        return [], errors
    for held in range(FOLDS):
        out = fold == held
        errors[out] -= boosted(matrix[~out], missed[~out], ROUNDS, seed).predict(matrix[out])
    if np.abs(errors).mean() > 0.95 * np.abs(missed).mean():
        return [], missed
    return trees_of(boosted(matrix, missed, ROUNDS, seed)), errors


def _spread_tree(matrix: Rows32, errors: Floats) -> Tree:
    """The logarithm of the 68 % quantile of the errors in each of the regions where they are alike."""
    sizes = np.log(np.maximum(np.abs(errors), _SMALLEST_ERROR))
    tree = grown(matrix, sizes, _LEAST_ROWS, 0)
    leaf = leaf_of(tree, matrix)
    quantiles = tree.leaves.copy()
    for each in np.unique(leaf):
        found = np.sort(sizes[leaf == each])
        quantiles[each] = found[min(len(found) - 1, int(np.ceil(0.6827 * (len(found) + 1))) - 1)]
    return Tree(tree.features, tree.thresholds, quantiles)

"""The default surrogate of guided search: an average of Gaussian processes over codes and hints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, cholesky, solve_triangular

from chipfit.errors import InvalidInput
from chipfit.search.features import Features

Floats = NDArray[np.float64]

HINT_SHARES = (0.0, 0.35, 0.7)
REACHES = (1.0, 4.0)
NOISES = (3e-3, 3e-2, 2e-1)
"""The kernels that are compared, see `Kernel`."""

MOST_LEARNED = 400
"""So many networks are learned from at most: the better half of them, and the others evenly over all the rest."""

_MOST_COMPARED = 200
_MOST_AVERAGED = 3
_LEAST_WEIGHT = 0.1
_PRIOR_POINTS = 2.0


@dataclass(frozen=True, slots=True)
class Kernel:
    """A prior covariance of unit variance: what share of it comes from hints, the rest from options, plus noise.

    Options: half is a sum over decisions, half is exp(-reach × the share of decisions in which two codes differ), which
    is a product over decisions and holds interactions of all orders. Hints: half is linear, half a squared exponential.
    """

    hint_share: float
    reach: float
    noise: float


@dataclass(frozen=True, slots=True, eq=False)
class _Likeness:
    """What covariances between two sets of networks are made of, each (n, k)."""

    options: Floats
    linear: Floats
    hints: Floats

    def at(self, rows: NDArray[np.int64]) -> _Likeness:
        pairs = np.ix_(rows, rows)
        return _Likeness(self.options[pairs], self.linear[pairs], self.hints[pairs])

    def covariance(self, kernel: Kernel) -> Floats:
        codes = 0.5 * (1.0 - self.options) + 0.5 * np.exp(-kernel.reach * self.options)
        if kernel.hint_share == 0:
            return codes
        hints = 0.5 * self.linear + 0.5 * np.exp(-0.5 * self.hints)
        return (1 - kernel.hint_share) * codes + kernel.hint_share * hints


@dataclass(frozen=True, slots=True, eq=False)
class _Solved:
    """A process given values: its constant mean, variance, Cholesky factor (n, n), weights (n,) and log evidence."""

    kernel: Kernel
    mean: float
    variance: float
    factor: Floats
    weights: Floats
    evidence: float


@dataclass(frozen=True, slots=True, eq=False)
class Surrogate:
    """Processes with different kernels, averaged by their evidence; call it with features to predict.

    Gives the mean (n,) and one standard deviation (n,) of the mixture, in the units of the values learned.
    """

    features: Features
    members: tuple[_Solved, ...]
    shares: Floats

    def __call__(self, features: Features) -> tuple[Floats, Floats]:
        alike = _likeness(features, self.features)
        squares = (features.hints**2).mean(axis=1) if features.hints.shape[1] else np.zeros(len(features))
        means, variances = np.empty((2, len(self.members), len(features)))
        for number, member in enumerate(self.members):
            across = alike.covariance(member.kernel)
            reduced = solve_triangular(member.factor, across.T, lower=True, check_finite=False)
            prior = 1.0 + member.kernel.hint_share * 0.5 * (squares - 1.0)
            variances[number] = member.variance * np.maximum(prior - np.einsum("ij,ij->j", reduced, reduced), 1e-9)
            means[number] = member.mean + across @ member.weights
        mean = self.shares @ means
        return mean, np.sqrt(self.shares @ (variances + (means - mean) ** 2))


def fit(features: Features, values: Floats) -> Surrogate:
    """Learns values (n,), the smaller the better, of n >= 1 networks; a `chipfit.search.guided.Fit`.

    The kernels of a small grid are weighted by their evidence, the marginal likelihood with a constant mean and a
    variance that are fitted: where hints do not help, kernels without them win. On small data, where one kernel could
    not be chosen, several are averaged, which widens the spread (Rasmussen and Williams 2006, sections 2.7 and 5.2).
    Everything is closed form, at most `MOST_LEARNED` networks enter. Raises InvalidInput for no values, and for
    values or features that are not finite.
    """
    if not len(values) or len(features) != len(values) or not np.isfinite(values).all():
        raise InvalidInput(f"{len(values)} values of {len(features)} networks: give one finite value for each")
    if not (np.isfinite(features.options).all() and np.isfinite(features.hints).all()):
        raise InvalidInput("features of networks are not finite: give 0 where a hint is missing")
    if len(values) > MOST_LEARNED:
        rows = _instructive(values)
        features, values = features.at(rows), values[rows]
    centre, unit = float(values.mean()), float(values.std()) or 1.0
    scaled = (values - centre) / unit
    alike = _likeness(features, features)
    compared = np.argsort(values, kind="stable")[_evenly(len(values), _MOST_COMPARED)]
    found = sorted(_compared(alike.at(compared), scaled[compared]), key=lambda solved: -solved.evidence)
    best = found[0].evidence
    kept = [solved for solved in found if solved.evidence >= best + math.log(_LEAST_WEIGHT)][:_MOST_AVERAGED]
    shares = np.exp([solved.evidence - best for solved in kept])
    whole = [_solved(solved.kernel, alike.covariance(solved.kernel), scaled) for solved in kept]
    members = tuple(
        replace(
            solved, mean=centre + unit * solved.mean, variance=unit**2 * solved.variance, weights=unit * solved.weights
        )
        for solved in whole
    )
    return Surrogate(features, members, shares / shares.sum())


def _instructive(values: Floats) -> NDArray[np.int64]:
    order = np.argsort(values, kind="stable")
    half = MOST_LEARNED // 2
    return np.sort(np.concatenate([order[:half], order[half:][_evenly(len(values) - half, MOST_LEARNED - half)]]))


def _evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most so many of count positions, evenly over all of them."""
    return np.arange(count) if count <= most else np.linspace(0, count - 1, most).round().astype(np.int64)


def _compared(alike: _Likeness, values: Floats) -> Sequence[_Solved]:
    found: list[_Solved] = []
    for share in HINT_SHARES if alike.linear.any() else HINT_SHARES[:1]:
        for reach in REACHES:
            covariance = alike.covariance(Kernel(share, reach, 0.0))
            found += [_solved(Kernel(share, reach, noise), covariance, values) for noise in NOISES]
    return found


def _solved(kernel: Kernel, covariance: Floats, values: Floats) -> _Solved:
    """A process with a constant mean by generalised least squares and the variance that the values say.

    The variance is as if two more values with a variance of 1 had been seen, so that few values do not make it 0.
    """
    count = len(values)
    factor = cholesky(covariance + kernel.noise * np.eye(count), lower=True, check_finite=False)
    solved = cho_solve((factor, True), np.stack([values, np.ones(count)], axis=1), check_finite=False)
    total = float(solved[:, 1].sum())
    mean = float(values @ solved[:, 1]) / total
    weights = solved[:, 0] - mean * solved[:, 1]
    variance = (float((values - mean) @ weights) + _PRIOR_POINTS) / (count + _PRIOR_POINTS)
    log_determinant = 2.0 * float(np.log(np.diag(factor)).sum())
    evidence = -0.5 * ((count + _PRIOR_POINTS) * math.log(variance) + log_determinant + math.log(total))
    return _Solved(kernel, mean, variance, factor, weights, evidence)


def _likeness(first: Features, second: Features) -> _Likeness:
    width = max(1, first.hints.shape[1])
    linear = first.hints @ second.hints.T / width
    hints = _squared_distances(first.hints, second.hints) / width
    return _Likeness(_squared_distances(first.options, second.options), linear, hints)


def _squared_distances(first: Floats, second: Floats) -> Floats:
    squared = first @ (-2.0 * second.T)
    squared += (first**2).sum(axis=1)[:, None]
    squared += (second**2).sum(axis=1)
    return np.maximum(squared, 0.0, out=squared)

"""Latencies of many networks on a new device from a few that were measured there, and from what other devices take.

The other devices are explained first, so that the noise of their tables does not come along. Each one's latency is a
weighted sum of the features; which features matter is learnt from all devices together. What the features leave counts
where devices share it and is scatter where only one has it.

Then a Gaussian process (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006, 2.2 and 5.4) predicts
the ratio of a latency to that of the average known device. The ratio is a constant plus
- a weighted sum of the other devices' own ratios, so that a new device is a mixture of known ones,
- a weighted sum of the features as they matter, so that a cost per feature which no other device has can be learnt,
- a smooth function of both, for what does not add up,
- scatter.
How much of each there is nobody has to say: every combination of the sizes below predicts, and counts as much as it
makes the measured latencies likely. Ratios add up as latencies do and their errors are relative errors. A figure far
from the rest, of a known device or of the new one, is drawn in, so that one bad measurement does not decide.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.estimate.rows import Floats

LINEAR = (0.01, 0.1, 1.0)
"""Variances of the ratio that the other devices explain, and those that the features explain."""
SMOOTH = (0.003, 0.03)
LENGTH = 1.4
"""Distance over which the smooth function changes; by devices or features alone, two networks lie as far apart."""
NOISE = (1e-4, 1e-3, 1e-2)
"""Variances of the scatter: coefficients of variation of 1, 3 and 10 %."""
CONSTANT = 100.0
"""Variance of the constant: so large that any is as likely."""

PLANNED = (0.3, 0.03, 0.03, 1e-2)
"""Devices, features, smooth and scatter with which the networks to measure are chosen."""
CANDIDATES = 1000
"""Networks, drawn at random, that those to measure are chosen among."""

LEAST_MEASURED = 3
_MEMBERS, _LEAST_CHANCE = 12, 0.02
_ROUNDS, _LEAST_VARIANCE = 30, 1e-6
_EQUAL = 0.01
_FLOOR = 0.2
_LEAST_RATIO = 0.05
_KNOWN_DEVIATIONS, _MEASURED_DEVIATIONS, _LEAST_DEVIATION = 4.0, 3.0, 0.03

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Population:
    """n networks as they are told apart; build it with `population`.

    `base` (n,) is the latency on the average known device, relative to its median. `devices` (n, d) and `features`
    (n, f) have inner products that say how alike two ratios are; `place` (n, d + f) is where the smooth function
    lives.
    """

    base: Floats
    devices: Floats
    features: Floats
    place: Floats

    def __len__(self) -> int:
        return len(self.base)


@dataclass(frozen=True, slots=True, eq=False)
class Transferred:
    """Predicted latencies (n,) and their standard deviations (n,), which include the scatter of measuring."""

    latency_s: Floats
    spread_s: Floats


def population(features: Floats | None, known: Floats | None = None) -> Population:
    """Networks by their `features` (n, f), any numbers, and by what they cost elsewhere, `known` (n, d).

    A column of `known` is a cost above 0 that is roughly proportional to latency, in any unit: latencies on another
    device, simulated latencies, MACs. NaN is a network that was not measured there. Raises `InvalidInput` for arrays
    that do not fit together and for figures that cannot be.
    """
    count = next((len(each) for each in (features, known) if each is not None), 0)
    own = np.zeros((count, 0)) if features is None else np.asarray(features, dtype=np.float64)
    costs = np.zeros((count, 0)) if known is None else np.asarray(known, dtype=np.float64)
    if own.ndim != 2 or costs.ndim != 2 or len(own) != len(costs) or count < 2:
        raise InvalidInput(
            f"features {own.shape} and known costs {costs.shape}: give one row each for 2 or more networks"
        )
    if not np.isfinite(own).all():
        raise InvalidInput("features that are not finite: leave the column out, or fill it in")
    if (costs <= 0).any() or np.isinf(costs).any() or np.isnan(costs).all(axis=0).any():
        raise InvalidInput("known costs must be above 0 and finite, or NaN where one is missing, and no column all NaN")
    scaled = _standard(own)
    scaled /= np.sqrt(max(scaled.shape[1], 1))
    if not costs.shape[1]:
        return Population(np.ones(count), np.zeros((count, 0)), scaled, scaled)
    base, ratios = _average(costs)
    matter = np.ones(scaled.shape[1])
    if scaled.shape[1]:
        matter, ratios = _explained(scaled, base, ratios)
        base, ratios = _average(ratios * base[:, None])
    places = _standard(np.log(np.maximum(ratios, _LEAST_RATIO) * base[:, None])) / np.sqrt(costs.shape[1])
    fixed = 0.5 * _unit(1 / base[:, None])
    return Population(
        base,
        np.concatenate([_unit(ratios), fixed], axis=1),
        _unit(scaled * np.sqrt(matter) / base[:, None]),
        np.concatenate([places, scaled], axis=1),
    )


def choose(networks: Population, count: int, generator: np.random.Generator) -> Indices:
    """Places (count,) of the networks whose latencies tell most about all others, before anything was measured.

    One by one, the network that most lowers the variance of all candidates (Seo et al., "Gaussian process regression:
    active data selection and test point rejection", IJCNN 2000). Raises `InvalidInput` for an impossible count.
    """
    candidates = generator.choice(len(networks), min(CANDIDATES, len(networks)), replace=False)
    if not 1 <= count <= len(candidates):
        raise InvalidInput(f"{count} networks to measure: must be from 1 to {len(candidates)}")
    *sizes, noise = PLANNED
    covariance = np.tensordot(sizes, _likeness(networks, candidates, candidates), 1) + CONSTANT
    chosen: list[int] = []
    for _ in range(count):
        own = np.diag(covariance) + noise
        gain = (covariance**2).sum(axis=0) / own
        gain[chosen] = -1
        best = int(gain.argmax())
        chosen.append(best)
        covariance = covariance - np.outer(covariance[best], covariance[best]) / own[best]
    return candidates[chosen]


def transfer(networks: Population, measured: Indices, latency_s: Floats) -> Transferred:
    """Latencies of all networks on a new device, where those at the places `measured` (k,) took `latency_s` (k,).

    Raises `InvalidInput` for fewer than `LEAST_MEASURED`, for places that repeat or do not exist, and for latencies
    that are not above 0.
    """
    places, taken = np.asarray(measured), np.asarray(latency_s, dtype=np.float64)
    _check(networks, places, taken)
    ratio = taken / networks.base[places]
    level = float(np.median(ratio))
    ratio = _drawn_in(ratio[:, None] / level, _MEASURED_DEVIATIONS)[:, 0]
    middle = float(ratio.mean())
    sizes, scatter = _combinations(networks)
    covariance = np.tensordot(sizes, _likeness(networks, places, places), 1) + CONSTANT
    covariance += scatter[:, None, None] * np.eye(len(places))
    chances = _chances(covariance, ratio - middle)
    members = np.argsort(-chances)[:_MEMBERS]
    members = members[chances[members] > _LEAST_CHANCE * chances.max()]
    likeness = _likeness(networks, np.arange(len(networks)), places)
    itself = np.stack([(networks.devices**2).sum(axis=1), (networks.features**2).sum(axis=1), np.ones(len(networks))])
    mean, square = np.zeros(len(networks)), np.zeros(len(networks))
    for size, noise, own, chance in zip(
        sizes[members], scatter[members], covariance[members], chances[members], strict=True
    ):
        share = chance / chances[members].sum()
        cross, inverse = np.tensordot(size, likeness, 1) + CONSTANT, np.linalg.inv(own)
        found = cross @ (inverse @ (ratio - middle))
        variance = size @ itself + CONSTANT + noise - ((cross @ inverse) * cross).sum(axis=1)
        mean += share * found
        square += share * (found**2 + np.maximum(variance, noise))
    scale = level * networks.base
    return Transferred(np.maximum(mean + middle, _LEAST_RATIO) * scale, np.sqrt(square - mean**2) * scale)


def _check(networks: Population, measured: Indices, latency_s: Floats) -> None:
    if measured.ndim != 1 or measured.shape != latency_s.shape or len(measured) < LEAST_MEASURED:
        raise InvalidInput(
            f"measured networks {measured.shape} and latencies {latency_s.shape}: give one latency for each of "
            f"{LEAST_MEASURED} or more networks"
        )
    if len(np.unique(measured)) < len(measured) or measured.min() < 0 or measured.max() >= len(networks):
        raise InvalidInput(f"places of measured networks must differ and be from 0 to {len(networks) - 1}")
    if not (np.isfinite(latency_s).all() and (latency_s > 0).all()):
        raise InvalidInput(
            "a measured latency is not above 0 or not finite: measure that network again or leave it out"
        )


def _explained(features: Floats, base: Floats, ratios: Floats) -> tuple[Floats, Floats]:
    """How much each feature (f,) matters, relative to a sum of 1, and the devices' ratios (n, d) without scatter.

    No feature matters nothing at all: what no known device pays for, a new one may.
    """
    columns = np.concatenate([features, np.full((len(base), 1), 0.5)], axis=1) / base[:, None]
    variance, explained = _regressed(columns / np.sqrt((columns**2).mean(axis=0).sum()), ratios)
    matter = variance[:-1] / variance[:-1].sum() + _EQUAL / features.shape[1]
    return matter, np.maximum(explained + _shared(ratios - explained), _LEAST_RATIO)


def _regressed(columns: Floats, targets: Floats) -> tuple[Floats, Floats]:
    """Variance of the weights of each column (f,), the same for all targets, and what the columns explain (n, d).

    The variances and each target's scatter are those that make the targets most likely (MacKay, "Bayesian
    interpolation", Neural Computation 1992, by its fixed point): a column that no target needs ends near 0.
    """
    count, width = columns.shape
    products, sides = columns.T @ columns, columns.T @ targets
    variance, explained = np.full(width, 1 / width), np.zeros(targets.shape)
    noise = np.maximum(0.1 * targets.var(axis=0), _LEAST_VARIANCE)
    for _ in range(_ROUNDS):
        size = np.sqrt(variance)
        left = np.linalg.inv(np.eye(width) + size[:, None] * products * size / noise[:, None, None])
        weights = size[:, None] * np.einsum("dfg,gd->fd", left, size[:, None] * sides / noise)
        learnt = 1 - np.diagonal(left, axis1=1, axis2=2)
        explained = columns @ weights
        freedom = np.maximum(count - learnt.sum(axis=1), 1)
        noise = np.maximum(((targets - explained) ** 2).sum(axis=0) / freedom, _LEAST_VARIANCE)
        variance = (weights**2).sum(axis=1) / np.maximum(learnt.sum(axis=0), _LEAST_VARIANCE)
        variance = np.maximum(variance, 1e-9 * variance.max())
    return variance, explained


def _shared(rest: Floats) -> Floats:
    """The part of columns (n, d) that several of them have: principal components beyond what scatter alone makes.

    The bound is Marchenko and Pastur's. One column cannot say what of it is scatter; all of it is kept.
    """
    count, width = rest.shape
    if width == 1:
        return rest
    spread = np.maximum(np.sqrt((rest**2).mean(axis=0)), np.sqrt(_LEAST_VARIANCE))
    left, sizes, right = np.linalg.svd(rest / spread, full_matrices=False)
    strength = sizes**2 / count
    kept = np.where(strength > (1 + np.sqrt(width / count)) ** 2, 1 - 1 / np.maximum(strength, 1), 0)
    return (left * (sizes * kept)) @ right * spread


def _likeness(networks: Population, rows: Indices, columns: Indices) -> Floats:
    """How alike networks are (3, rows, columns) by devices, by features, and to the smooth function."""
    a, b = networks.place[rows], networks.place[columns]
    apart = np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0)
    devices = networks.devices[rows] @ networks.devices[columns].T
    features = networks.features[rows] @ networks.features[columns].T
    return np.stack([devices, features, np.exp(-apart / (2 * LENGTH**2))])


def _combinations(networks: Population) -> tuple[Floats, Floats]:
    """Every combination of the sizes (g, 3), by devices, features and smooth function, and of the scatter (g,)."""
    devices, features = (LINEAR if each.shape[1] else (0.0,) for each in (networks.devices, networks.features))
    combined = np.array([*product(devices, features, SMOOTH, NOISE)])
    return combined[:, :3], combined[:, 3]


def _chances(covariance: Floats, ratio: Floats) -> Floats:
    """How likely each of g covariances (g, k, k) makes the centred ratios (k,); they sum to 1."""
    lower = np.linalg.cholesky(covariance)
    whitened = np.zeros(lower.shape[:2])
    # Forward substitution for all covariances at once: numpy's own solver does not know that they are triangular.
    for row in range(len(ratio)):
        known = (lower[:, row, :row] * whitened[:, :row]).sum(axis=1)
        whitened[:, row] = (ratio[row] - known) / lower[:, row, row]
    logs = -0.5 * (whitened**2).sum(axis=1) - np.log(np.diagonal(lower, axis1=1, axis2=2)).sum(axis=1)
    chances = np.exp(logs - logs.max())
    return chances / chances.sum()


def _average(costs: Floats) -> tuple[Floats, Floats]:
    """The average (n,) of devices brought to medians of 1, and how far each (n, d) is from it, outliers drawn in.

    Where a network was not measured a device counts as the average one. A network of almost no latency would turn
    its ratios into noise: the average never falls below a share of its median.
    """
    costs = costs / np.nanmedian(costs, axis=0)
    base = _floored(np.nanmean(np.where(np.isnan(costs).all(axis=1, keepdims=True), 1.0, costs), axis=1))
    base = _floored(base * _drawn_in(np.nan_to_num(costs / base[:, None], nan=1.0), _KNOWN_DEVIATIONS).mean(axis=1))
    ratios = _drawn_in(np.nan_to_num(costs / base[:, None], nan=1.0), _KNOWN_DEVIATIONS)
    return base, ratios / ratios.mean(axis=0)


def _floored(base: Floats) -> Floats:
    return np.maximum(base, _FLOOR * np.median(base))


def _drawn_in(values: Floats, deviations: Floats | float) -> Floats:
    """Columns (n, d) with values beyond so many robust standard deviations from the median brought back to there."""
    middle = np.median(values, axis=0)
    deviation = np.maximum(1.4826 * np.median(np.abs(values - middle), axis=0), _LEAST_DEVIATION)
    return np.clip(values, middle - deviations * deviation, middle + deviations * deviation)


def _unit(values: Floats) -> Floats:
    """Columns centred, all at one scale at which their variances sum to 1; constant columns stay 0."""
    centred = values - values.mean(axis=0) if values.size else values
    total = float(centred.var(axis=0).sum())
    return centred / np.sqrt(total) if total > 0 else centred


def _standard(values: Floats) -> Floats:
    """Columns centred, with variance 1; constant columns are left out."""
    centred = values - values.mean(axis=0) if values.size else values
    deviation = np.sqrt((centred**2).mean(axis=0))
    varies = np.flatnonzero(deviation > 1e-9 * np.abs(values).mean(axis=0))
    return centred[:, varies] / deviation[varies]

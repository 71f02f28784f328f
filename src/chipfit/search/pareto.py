"""Pareto mathematics on arrays. All objectives are minimised; a row with a NaN is a failed evaluation."""

import moocore
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ranks = NDArray[np.int64]


def _failed(objectives: Floats, violation: Floats | None) -> Bools:
    failed = np.asarray(np.isnan(objectives).any(axis=1), dtype=np.bool_)
    return failed if violation is None else failed | np.isnan(violation)


def dominates(objectives: Floats, violation: Floats | None = None) -> Bools:
    """Which point dominates which, with constraint domination (Deb et al. 2002, section VI).

    objectives (n, m), violation (n,) >= 0 -> (n, n): entry [i, j] says that i dominates j. A feasible point
    dominates every infeasible one, the smaller violation dominates the larger. Failed points neither dominate
    one another nor anything else; every other point dominates them. Memory grows with n squared.
    """
    failed = _failed(objectives, violation)
    count = len(objectives)
    no_worse = np.ones((count, count), dtype=np.bool_)
    better = np.zeros((count, count), dtype=np.bool_)
    for column in objectives.T:
        no_worse &= column[:, None] <= column[None, :]
        better |= column[:, None] < column[None, :]
    result = no_worse & better
    if violation is not None:
        feasible = violation <= 0
        result &= feasible[:, None] & feasible[None, :]
        result |= np.maximum(violation[:, None], 0) < np.maximum(violation[None, :], 0)
    result[failed] = False
    result[:, failed] = ~failed[:, None]
    return result


def constrained_ranks(objectives: Floats, violation: Floats | None = None) -> Ranks:
    """Rank of each point by non-dominated sorting with constraint domination.

    objectives (n, m), violation (n,) >= 0 -> (n,), 0 for the first front. Feasible points come first, then
    infeasible ones by violation (equal violation, equal rank), then all failed ones in one last rank.
    Source: Deb et al. 2002, sections III and VI.
    """
    failed = _failed(objectives, violation)
    feasible = ~failed if violation is None else ~failed & (violation <= 0)
    infeasible = ~failed & ~feasible
    ranks = np.zeros(len(objectives), dtype=np.int64)
    following = 0
    if feasible.any():
        ranks[feasible] = _sorted_fronts(objectives[feasible])
        following = int(ranks[feasible].max()) + 1
    if violation is not None and infeasible.any():
        order = np.unique(violation[infeasible], return_inverse=True)[1]
        ranks[infeasible] = following + order
        following += int(order.max()) + 1
    ranks[failed] = following
    return ranks


def _sorted_fronts(objectives: Floats) -> Ranks:
    # Equal points share a rank; sorting them once keeps that independent of how the library breaks ties.
    distinct, inverse = np.unique(objectives, axis=0, return_inverse=True)
    return np.asarray(moocore.pareto_rank(distinct), dtype=np.int64)[inverse.reshape(-1)]


def front_mask(objectives: Floats, violation: Floats | None = None) -> Bools:
    """Which points no other dominates: objectives (n, m), violation (n,) -> (n,).

    Equal points on the front are all on it. Infeasible (violation > 0) and failed points never are.
    """
    candidates = ~_failed(objectives, violation)
    if violation is not None:
        candidates &= violation <= 0
    mask = np.zeros(len(objectives), dtype=np.bool_)
    if candidates.any():
        mask[candidates] = moocore.is_nondominated(objectives[candidates], keep_weakly=True)
    return mask


def crowding_distance(objectives: Floats, ranks: Ranks | None = None) -> Floats:
    """Crowding distance within each rank (Deb et al. 2002, section III-B): objectives (n, m) -> (n,).

    The ends of each rank have an infinite distance; an objective that is constant within a rank adds
    nothing. Without ranks all points are one front. Failed points have distance 0.
    """
    distance = np.zeros(len(objectives))
    alive = ~_failed(objectives, None)
    groups = np.zeros(len(objectives), dtype=np.int64) if ranks is None else ranks
    for rank in np.unique(groups[alive]):
        members = np.flatnonzero(alive & (groups == rank))
        for column in objectives[members].T:
            order = np.argsort(column, kind="stable")
            ordered = column[order]
            extent = ordered[-1] - ordered[0]
            if extent > 0:
                distance[members[order[1:-1]]] += (ordered[2:] - ordered[:-2]) / extent
            distance[members[order[[0, -1]]]] = np.inf
    return distance


def ties(objectives: Floats, spread: Floats) -> Bools:
    """Which points cannot be told apart: objectives (n, m), spread (n, m) or (m,) -> (n, n), symmetric.

    Two points tie when they differ in every objective by no more than the root of the sum of their squared
    spreads. Give the points of the front only (`front_mask`). A point does not tie with itself; failed points
    tie with none. Tying is not transitive, hence a matrix and not groups.
    """
    spreads = np.broadcast_to(spread, objectives.shape)
    tied = np.ones((len(objectives), len(objectives)), dtype=np.bool_)
    for column, width in zip(objectives.T, spreads.T, strict=True):
        tied &= np.abs(column[:, None] - column[None, :]) <= np.hypot(width[:, None], width[None, :])
    np.fill_diagonal(tied, False)
    return tied


def hypervolume(points: Floats, reference: Floats) -> float:
    """Volume that the points dominate below the reference: points (n, m), reference (m,) -> volume.

    Points that are not better than the reference in every objective, and failed ones, add nothing.
    """
    inside = (points < reference).all(axis=1)
    return float(moocore.hypervolume(points[inside], ref=reference)) if inside.any() else 0.0

"""Pareto mathematics on arrays. All objectives are minimised; a row with a NaN is a failed evaluation."""

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ranks = NDArray[np.int64]

_LARGEST_BLOCK = 2**22


def _failed(objectives: Floats, violation: Floats | None) -> Bools:
    failed = np.zeros(len(objectives), dtype=np.bool_)
    for column in objectives.T:
        failed |= np.isnan(column)
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
    if len(objectives) and feasible.all():
        return _sorted_fronts(objectives)
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
    import moocore  # imports an HTTP client, which nothing else here needs

    # Equal points share a rank; sorting them once keeps that independent of how the library breaks ties.
    order = np.lexsort(objectives.T[::-1])
    points = objectives[order]
    new = np.ones(len(points), dtype=np.bool_)
    new[1:] = False
    for column in points.T:
        new[1:] |= column[1:] != column[:-1]
    distinct = points[new]
    found = _fronts_of_two(distinct) if objectives.shape[1] == 2 else moocore.pareto_rank(distinct)
    ranks = np.empty(len(points), dtype=np.int64)
    ranks[order] = np.asarray(found, dtype=np.int64)[np.cumsum(new) - 1]
    return ranks


def _fronts_of_two(points: Floats) -> list[int]:
    """Ranks of different points (n, 2) in ascending order of the first, then of the second objective.

    A point belongs to the first front whose lowest second objective so far is above its own; these lowest values
    ascend with the rank. Source: Jensen 2003, section III-A.
    """
    lowest: list[float] = []
    ranks: list[int] = []
    for value in points[:, 1].tolist():
        rank = bisect_right(lowest, value)
        if rank == len(lowest):
            lowest.append(value)
        else:
            lowest[rank] = value
        ranks.append(rank)
    return ranks


def front_mask(objectives: Floats, violation: Floats | None = None) -> Bools:
    """Which points no other dominates: objectives (n, m), violation (n,) -> (n,).

    Equal points on the front are all on it. Infeasible (violation > 0) and failed points never are.
    """
    import moocore  # imports an HTTP client, which nothing else here needs

    candidates = ~_failed(objectives, violation)
    if violation is not None:
        candidates &= violation <= 0
    mask = np.zeros(len(objectives), dtype=np.bool_)
    if candidates.any():
        mask[candidates] = moocore.is_nondominated(objectives[candidates], keep_weakly=True)
    return mask


def shadowed(points: Floats, front: Floats) -> Bools:
    """Which points (n, m) some point of a front (f, m) weakly dominates, equal ones included: (n,).

    No point of the front may dominate another one, and none have failed.
    """
    if not len(front):
        return np.zeros(len(points), dtype=np.bool_)
    if points.shape[1] == 1:
        return points[:, 0] >= front[:, 0].min()
    if points.shape[1] == 2:
        # Along the front the second objective falls as the first rises: the last that is no worse decides.
        steps = front[np.argsort(front[:, 0], kind="stable")]
        last = np.searchsorted(steps[:, 0], points[:, 0], side="right") - 1
        return (last >= 0) & (steps[last, 1] <= points[:, 1])
    block = max(1, _LARGEST_BLOCK // max(1, front.size))
    parts = [
        np.any((front[None] <= points[start : start + block, None]).all(axis=2), axis=1)
        for start in range(0, len(points), block)
    ]
    return np.concatenate([np.zeros(0, dtype=np.bool_), *parts])


def crowding_distance(objectives: Floats, ranks: Ranks | None = None) -> Floats:
    """Crowding distance within each rank (Deb et al. 2002, section III-B): objectives (n, m) -> (n,).

    The ends of each rank have an infinite distance; an objective that is constant within a rank adds
    nothing. Without ranks all points are one front. Failed points have distance 0.
    """
    distance = np.zeros(len(objectives))
    alive = np.flatnonzero(~_failed(objectives, None))
    if not len(alive):
        return distance
    groups = np.zeros(len(alive), dtype=np.int64) if ranks is None else ranks[alive]
    sums = np.zeros(len(alive))
    for column in objectives[alive].T:
        order = np.lexsort((column, groups))
        ordered, group = column[order], groups[order]
        bounds = np.flatnonzero(group[1:] != group[:-1]) + 1
        first, last = np.append(0, bounds), np.append(bounds, len(order)) - 1
        extent = np.repeat(ordered[last] - ordered[first], last - first + 1)
        gaps = np.zeros(len(order))
        gaps[1:-1] = ordered[2:] - ordered[:-2]
        np.divide(gaps, extent, out=gaps, where=extent > 0)
        gaps[extent == 0] = 0.0
        gaps[first] = gaps[last] = np.inf
        sums[order] += gaps
    distance[alive] = sums
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
    import moocore  # imports an HTTP client, which nothing else here needs

    inside = (points < reference).all(axis=1)
    return float(moocore.hypervolume(points[inside], ref=reference)) if inside.any() else 0.0

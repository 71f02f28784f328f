"""Exact Pareto fronts of objectives that are sums of small tables, by dynamic programming over a trellis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.search.algorithm import Codes
from chipfit.search.exact import Table, total
from chipfit.search.pareto import front_mask
from chipfit.search.trellis import MAX_LAYER_ENTRIES, Trellis, trellis

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MAX_POINTS = 2**18
"""Most partial sums that are carried along by default."""

_ROUNDING_BITS = 44
"""Sums closer than their size by 2^-44 are the same: options in another order must not fill the front."""


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """The front: codes (n, d) and their values (n, m), the first objective ascending.

    exact says that no code has values that no row weakly dominates, up to the rounding of floating-point sums. Else
    some row is, for every code, in each objective above it by at most gap (m,), which is rigorous. Of codes with equal
    values one is given.
    """

    codes: Codes
    values: Floats
    exact: bool
    gap: Floats


def front(
    objectives: Sequence[Sequence[Table]],
    cardinalities: Sequence[int],
    epsilon: float = 0.0,
    max_points: int = MAX_POINTS,
    max_layer_entries: int = MAX_LAYER_ENTRIES,
) -> Front:
    """The Pareto front of m objectives, each the sum of its tables, over all codes with the cardinalities given.

    Partial sums are carried along decision by decision, for each way to set the decisions that later tables depend on,
    and those that another one dominates are dropped (Daumas-Ladouce et al. 2012; Rollon and Larrosa 2006). With an
    epsilon sums are also dropped that are better by no more than their part of it, so that gap is epsilon times the
    range of each objective. Where more than max_points remain, they are thinned and gap says how much that costs.
    Raises InvalidInput for tables that do not fit, for no objectives, a negative epsilon, fewer points than one, and
    where more decisions meet than max_layer_entries allows.
    """
    if not objectives or epsilon < 0 or max_points < 1:
        raise InvalidInput(
            f"a front of {len(objectives)} objectives, epsilon {epsilon}, at most {max_points} points: give at least "
            "one objective, an epsilon of 0 or more, and room for a point"
        )
    paths = trellis(objectives, cardinalities, max_layer_entries)
    low, high = _ranges(paths)
    smallest = rounding_unit(np.maximum(np.abs(low), np.abs(high)))
    asked = epsilon * (high - low) / max(1, len(paths.layers))
    codes, gap = _walk(paths, smallest, np.maximum(asked, smallest), max_points)
    values = np.stack([total(tables, codes) for tables in objectives], axis=1)
    best = np.flatnonzero(front_mask(values))
    best = best[np.unique(values[best], axis=0, return_index=True)[1]]
    return Front(codes[best], values[best], not gap.any(), gap)


def _walk(paths: Trellis, smallest: Floats, unit: Floats, max_points: int) -> tuple[Codes, Floats]:
    """The codes that are left at the end, and by how much thinning may have raised each objective."""
    columns = paths.columns
    values, states = paths.constant[None], np.zeros(1, dtype=np.int64)
    gap = np.zeros(columns)
    steps: list[tuple[Ints, Ints]] = []
    for layer in paths.layers:
        options = layer.values.shape[1]
        values = (values[:, None] + layer.values[states]).reshape(-1, columns)
        states = layer.following[states].reshape(-1)
        kept = undominated(np.rint(values / unit), states, layer.states_after)
        used = unit
        while len(kept) > max(max_points, layer.states_after):
            spread = np.ptp(values, axis=0) / max_points
            used = np.maximum(2 * used, np.where(used > smallest, used, spread))
            kept = kept[undominated(np.rint(values[kept] / used), states[kept], layer.states_after)]
        gap += np.where(used > smallest, used, 0.0)
        values, states = values[kept], states[kept]
        steps.append((kept // options, kept % options))
    codes = np.empty((len(values), paths.decisions), dtype=np.int64)
    rows = np.arange(len(values))
    for layer, (parents, chosen) in zip(reversed(paths.layers), reversed(steps), strict=True):
        codes[:, layer.decision] = chosen[rows]
        rows = parents[rows]
    return codes, gap


def rounding_unit(size: Floats) -> Floats:
    """The difference, a power of two, that sums of this size (m,) do not show: (m,)."""
    return np.exp2(np.floor(np.log2(np.where(size > 0, size, 1.0))) - _ROUNDING_BITS)


def undominated(values: Floats, groups: Ints, group_count: int) -> Ints:
    """Indices of the points (n, m) that no other of their group (n,) weakly dominates; of equal points one."""
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    if values.shape[1] > 2:
        return _undominated_of_many(values, groups, group_count)
    first, second = values[:, 0], values[:, -1]
    order = np.argsort(first)
    if group_count > 1:
        narrow = np.uint16 if group_count <= 2**16 else np.int64
        order = order[np.argsort(groups[order].astype(narrow), kind="stable")]
    falling, group = second[order], groups[order]
    bounds = [0, *(np.flatnonzero(group[1:] != group[:-1]) + 1).tolist(), len(order)]
    lowest = np.empty_like(falling)
    for begin, end in pairwise(bounds):
        lowest[begin] = np.inf
        np.minimum.accumulate(falling[begin : end - 1], out=lowest[begin + 1 : end])
    kept = order[falling < lowest]
    # Of equal first objectives the last one kept has the lowest second one.
    repeated = (first[kept[1:]] == first[kept[:-1]]) & (groups[kept[1:]] == groups[kept[:-1]])
    return kept[~np.append(repeated, False)]


def _undominated_of_many(values: Floats, groups: Ints, group_count: int) -> Ints:
    import moocore  # imports an HTTP client, which nothing else here needs

    if group_count == 1:
        return np.flatnonzero(moocore.is_nondominated(values, keep_weakly=False))
    order = np.argsort(groups, kind="stable")
    bounds = np.flatnonzero(np.diff(groups[order])) + 1
    parts = [
        members[moocore.is_nondominated(values[members], keep_weakly=False)] for members in np.split(order, bounds)
    ]
    return np.concatenate(parts)


def _ranges(paths: Trellis) -> tuple[Floats, Floats]:
    """Smallest and largest value of each objective alone: (m,), (m,)."""
    low = np.zeros((1, paths.columns))
    high = low
    for layer in reversed(paths.layers):
        low = (layer.values + low[layer.following]).min(axis=1)
        high = (layer.values + high[layer.following]).max(axis=1)
    return low[0] + paths.constant, high[0] + paths.constant

"""Which decisions matter: the share of a cost's variance that each explains by itself.

First-order indices (Sobol 1993) under options that are drawn evenly and independently: Var(E[cost | decision]) by
Var(cost). What the indices lack to 1 is explained by decisions jointly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Table = tuple[tuple[int, ...], Floats]

CONSTANT = 1e-24
"""A variance below this share of the squared mean is rounding."""


def exact_influence(tables: Sequence[Table], decisions: int) -> Floats:
    """Shares (decisions,) of the variance of a sum of tables; zeros where it is constant."""
    means: list[dict[tuple[int, ...], Floats]] = [{} for _ in tables]

    def mean(index: int, kept: tuple[int, ...]) -> Floats:
        """What a table is on average over all decisions but those kept, which are increasing."""
        if kept not in means[index]:
            axes, values = tables[index]
            left = values.mean(axis=tuple(place for place, axis in enumerate(axes) if axis not in kept))
            order = [axis for axis in axes if axis in kept]
            means[index][kept] = left.transpose(np.argsort(order)) if order else left
        return means[index][kept]

    alone = [np.zeros(1)] * decisions
    variance, level = 0.0, 0.0
    for first, (axes, values) in enumerate(tables):
        level += float(values.mean())
        for axis in axes:
            alone[axis] = alone[axis] + mean(first, (axis,))
        for second in range(first, len(tables)):
            if shared := tuple(sorted(set(axes) & set(tables[second][0]))):
                one, other = mean(first, shared), mean(second, shared)
                # Decisions that only one of two independent tables has add nothing to what they vary together.
                together = float(((one - one.mean()) * (other - other.mean())).mean())
                variance += together if first == second else 2 * together
    return _shares(np.array([part.var() for part in alone]), variance, level)


def sampled_influence(codes: Codes, costs: Floats, cardinalities: Sequence[int], complete: bool) -> Floats:
    """The same from costs (n,) of codes (n, d), all of the space if `complete`, else drawn evenly.

    Of a sample the variance that the means of groups have by chance is taken off.
    """
    variance, found = float(costs.var()), np.zeros(len(cardinalities))
    for index, options in enumerate(cardinalities):
        counts = np.bincount(codes[:, index], minlength=options)
        used = counts > 0
        means = np.bincount(codes[:, index], costs, options)[used] / counts[used]
        weights = counts[used] / len(codes)
        between = float((weights * (means - costs.mean()) ** 2).sum())
        chance = 0.0 if complete else (int(used.sum()) - 1) / len(codes) * (variance - between)
        found[index] = max(0.0, between - chance)
    return _shares(found, variance, float(costs.mean()))


def _shares(alone: Floats, variance: float, level: float) -> Floats:
    if variance <= CONSTANT * level * level or variance <= 0:
        return np.zeros(len(alone))
    return np.minimum(alone / variance, 1.0)

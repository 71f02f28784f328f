"""How far a metric over examples would differ with other examples."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNKNOWN = 0.5
"""The standard error of a fraction of which nothing is known: half of all there is."""


def jackknife_error(counts: NDArray[Any], metric: Callable[[NDArray[Any]], NDArray[np.float64]]) -> float:
    """Standard error of a metric of summed counts, by leaving out one example at a time; `UNKNOWN` for one example.

    counts: (n, ...), of each example. metric: sums (m, ...) to values (m,).
    Source: Efron and Stein, "The jackknife estimate of variance", The Annals of Statistics 9 (1981).
    """
    count = len(counts)
    if count < 2:
        return UNKNOWN
    without = metric(counts.sum(axis=0)[None] - counts)
    return min(UNKNOWN, float(np.sqrt((count - 1) * np.mean((without - without.mean()) ** 2))))

"""Scores together: ranks within a set of networks, combined."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from chipfit.errors import InvalidInput

Floats = NDArray[np.float64]


def ensemble(scores: Floats) -> Floats:
    """One score (n,) from k scores (n, k) of n networks, larger for better: the mean logarithm of ranks over n.

    Lee and Ham 2024, "AZ-NAS", equation 8: a network that one score ranks very low stays low. A network with a score
    that failed (NaN) has none here either: NaN. Raises `InvalidInput` for another shape or infinite scores.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[1] == 0:
        raise InvalidInput(f"an ensemble is of scores (networks, scores), got an array of shape {scores.shape}")
    if np.isinf(scores).any():
        raise InvalidInput("an ensemble takes finite scores, and NaN where one failed; some are infinite")
    whole = ~np.isnan(scores).any(axis=1)
    found = np.full(len(scores), np.nan)
    if whole.any():
        ranks = np.column_stack([rankdata(column) for column in scores[whole].T])
        found[whole] = np.log(ranks / whole.sum()).mean(axis=1)
    return found

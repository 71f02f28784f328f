"""Whether a score ranks networks as their trained accuracies do, and whether it can be trusted to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, rankdata

from chipfit.errors import InvalidInput

Floats = NDArray[np.float64]

FEWEST = 6
"""Trained networks from which on a correlation says anything: of 5, one order in 60 looks like perfect agreement."""

THRESHOLD = 0.2
"""Spearman that the lower end of the interval has to exceed for a score to be trusted."""

RESAMPLES = 1000
LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Agreement:
    """How a score ranks n networks beside their accuracies.

    `spearman` and `kendall` (tau-b) with the `LEVEL` interval of Spearman (low, high) over bootstrap resamples of the
    networks. All are None where they are not known: fewer than `FEWEST` networks, or all of one score or accuracy.
    `failed` counts networks without a score, which take no part.
    """

    networks: int
    failed: int
    spearman: float | None = None
    kendall: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float = THRESHOLD

    @property
    def known(self) -> bool:
        """Whether there were networks enough to tell."""
        return self.spearman is not None

    @property
    def trusted(self) -> bool:
        """Whether the score is shown to rank: its interval lies above the threshold. False while not known."""
        return self.low is not None and self.low > self.threshold

    @property
    def refuted(self) -> bool:
        """Whether it is known that the score cannot be trusted, so that a run should stop using it."""
        return self.known and not self.trusted


def agreement(
    scores: Floats, accuracies: Floats, *, threshold: float = THRESHOLD, resamples: int = RESAMPLES, seed: int = 0
) -> Agreement:
    """How `scores` (n,), NaN where one failed, rank networks beside their `accuracies` (n,).

    The interval is that of percentiles over `resamples` draws of n networks with replacement, drawn from `seed`. Raises
    `InvalidInput` for arrays that do not fit, infinite scores or accuracies that are not finite.
    """
    scores, accuracies = np.asarray(scores, np.float64), np.asarray(accuracies, np.float64)
    if scores.ndim != 1 or scores.shape != accuracies.shape:
        raise InvalidInput(f"scores {scores.shape} and accuracies {accuracies.shape} have to be of the same networks")
    if np.isinf(scores).any() or not np.isfinite(accuracies).all():
        raise InvalidInput("scores have to be finite or NaN (failed), and accuracies finite")
    has = ~np.isnan(scores)
    found, wanted = scores[has], accuracies[has]
    count, failed = int(has.sum()), int((~has).sum())
    if count < FEWEST or np.ptp(found) == 0 or np.ptp(wanted) == 0:
        return Agreement(count, failed, threshold=threshold)
    draws = np.random.default_rng(seed).integers(0, count, (resamples, count))
    drawn = _spearman(found[draws], wanted[draws])
    low, high = np.quantile(drawn, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    spearman, kendall = float(_spearman(found, wanted)), float(np.asarray(kendalltau(found, wanted))[0])
    return Agreement(count, failed, spearman, kendall, float(low), float(high), threshold)


def _spearman(one: Floats, other: Floats) -> Floats:
    """Pearson's correlation of ranks along the last axis, ties sharing theirs; 0 where one is constant."""
    ranks = np.stack([rankdata(one, axis=-1), rankdata(other, axis=-1)])
    ranks -= ranks.mean(axis=-1, keepdims=True)
    lengths = np.sqrt((ranks**2).sum(axis=-1)).prod(axis=0)
    found = (ranks[0] * ranks[1]).sum(axis=-1) / np.where(lengths > 0, lengths, 1)
    return np.where(lengths > 0, found.clip(-1, 1), 0.0)

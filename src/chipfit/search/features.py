"""What a surrogate sees of codes: options in a space where distance means something, and hints on one scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from chipfit.errors import InvalidInput
from chipfit.search.algorithm import Codes, Domain, Hints

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """What a surrogate sees of n networks.

    options (n, f): the squared distance of two rows is the share of decisions in which they differ, 0 to 1, where two
    options next to each other count about half. hints (n, h): normal scores, 0 where a hint is missing.
    """

    options: Floats
    hints: Floats

    def __len__(self) -> int:
        return len(self.options)

    def at(self, rows: NDArray[np.int64]) -> Features:
        """The features of some of the networks."""
        return Features(self.options[rows], self.hints[rows])


class Describe:
    """Features of the codes of a domain; hints are placed by their ranks in a sample (s, d) of codes.

    Raises InvalidInput for hints of another shape than (n, h), or infinite ones.
    """

    def __init__(self, domain: Domain, hints: Hints | None, sample: Codes) -> None:
        self._tables = _embeddings(domain.cardinalities)
        self._hints = hints
        columns = [] if hints is None else list(_checked(hints(sample), len(sample)).T)
        self._scales = [_normal_scores(column) for column in columns]

    def __call__(self, codes: Codes) -> Features:
        parts = [table[codes[:, decision]] for decision, table in self._tables]
        options = np.concatenate(parts, axis=1) if parts else np.zeros((len(codes), 0))
        hints = np.zeros((len(codes), len(self._scales)))
        if self._hints is not None and len(codes):
            raw = _checked(self._hints(codes), len(codes))
            for column, (known, scores) in enumerate(self._scales):
                there = ~np.isnan(raw[:, column])
                hints[there, column] = np.interp(raw[there, column], known, scores)
        return Features(options, hints)


def _checked(hints: Floats, count: int) -> Floats:
    if hints.ndim != 2 or len(hints) != count or np.isinf(hints).any():
        raise InvalidInput(
            f"hints of shape {hints.shape} for {count} codes: give finite numbers (n, h), NaN where there is none"
        )
    return hints


def _embeddings(cardinalities: tuple[int, ...]) -> list[tuple[int, Floats]]:
    """A vector per option of every open decision: half of the squared distance is identity, half is order."""
    opened = [decision for decision, cardinality in enumerate(cardinalities) if cardinality > 1]
    tables: list[tuple[int, Floats]] = []
    for decision in opened:
        count = cardinalities[decision]
        same = np.eye(count) * np.sqrt(0.25 / len(opened))
        order = np.tri(count, count - 1, -1) * np.sqrt(0.5 / len(opened) / (count - 1))
        tables.append((decision, np.concatenate([same, order], axis=1)))
    return tables


def _normal_scores(values: Floats) -> tuple[Floats, Floats]:
    """The different values in ascending order, and the quantile of the normal distribution at each one's mean rank."""
    known = np.sort(values[~np.isnan(values)])
    if not len(known):
        return np.zeros(1), np.zeros(1)
    distinct = np.unique(known)
    rank = (np.searchsorted(known, distinct, "left") + np.searchsorted(known, distinct, "right")) / 2
    return distinct, ndtri(np.clip(rank / len(known), 0.5 / len(known), 1 - 0.5 / len(known)))

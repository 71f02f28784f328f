"""What an algorithm sees of a search space, and what a search run asks of an algorithm."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput

Codes = NDArray[np.int64]
"""(n, d): one row per network, one column per decision; 0 <= codes[:, j] < cardinalities[j]."""


Hints = Callable[[Codes], NDArray[np.float64]]
"""Cheap signs that a network may be good: codes (n, d) -> (n, h), the larger the better, NaN where there is none."""


@dataclass(frozen=True, slots=True, eq=False)
class FreeCosts:
    """What is known of n codes without evaluating them.

    objectives (n, k) are minimised, k may be 0; violation (n,) >= 0 is 0 where all limits on what is known
    for free are met, and grows with the distance from them.
    """

    objectives: NDArray[np.float64]
    violation: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.objectives.ndim != 2 or self.violation.shape != self.objectives.shape[:1]:
            raise InvalidInput(
                f"free costs of shapes {self.objectives.shape} and {self.violation.shape}: "
                "give objectives (n, k) and violation (n,)"
            )


@dataclass(frozen=True, slots=True, eq=False)
class Domain:
    """The codes to search. The zero code is the baseline.

    canonical maps codes (n, d) to the canonical code of the same network each; it must be idempotent and keep
    canonical codes as they are. free gives what is known of codes at no cost, hints what may be a sign of their
    accuracy, for algorithms that learn whether it is one. All are vectorised and pure.
    Raises InvalidInput for a cardinality below 1.
    """

    cardinalities: tuple[int, ...]
    canonical: Callable[[Codes], Codes] | None = None
    free: Callable[[Codes], FreeCosts] | None = None
    hints: Hints | None = None

    def __post_init__(self) -> None:
        for position, cardinality in enumerate(self.cardinalities):
            if cardinality < 1:
                raise InvalidInput(f"decision {position} has {cardinality} options: it needs at least one")

    @property
    def size(self) -> int:
        """How many codes there are, as an exact integer; several of them may be the same network."""
        return math.prod(self.cardinalities)

    def canonicalised(self, codes: Codes) -> Codes:
        """The canonical code of each code, (n, d) -> (n, d). Raises InvalidInput for codes out of range."""
        codes = self.checked(codes).copy()
        return codes if self.canonical is None else self.canonical(codes)

    def free_costs(self, codes: Codes) -> FreeCosts:
        """What is known of codes (n, d) for free; without `free`, no objectives and no violation."""
        if self.free is None:
            return FreeCosts(np.empty((len(codes), 0)), np.zeros(len(codes)))
        return self.free(codes)

    def checked(self, codes: Codes) -> Codes:
        """The codes as an (n, d) int64 array. Raises InvalidInput for another shape or unknown options."""
        codes = np.asarray(codes)
        if codes.ndim != 2 or codes.shape[1] != len(self.cardinalities) or codes.dtype.kind not in "iu":
            raise InvalidInput(
                f"codes of shape {codes.shape} and type {codes.dtype}: "
                f"give integers of shape (n, {len(self.cardinalities)})"
            )
        limits = np.asarray(self.cardinalities, dtype=np.uint64)
        # As unsigned integers, negative options are larger than any limit: one comparison finds both.
        outside = codes.astype(np.int64, copy=False).view(np.uint64) >= limits
        if outside.any():
            row, decision = np.argwhere(outside)[0]
            raise InvalidInput(
                f"code {row} sets decision {decision} to {codes[row, decision]}: "
                f"it has options 0 to {self.cardinalities[decision] - 1}"
            )
        return codes.astype(np.int64, copy=False)


class Algorithm(Protocol):
    """Proposes codes and learns from their values.

    Deterministic given its seed and the sequence of asks and tells, so a run is resumed by repeating them.
    `chipfit.testing.algorithms.check_algorithm` checks everything said here.
    """

    def ask(self, n: int) -> Codes:
        """At most n canonical codes, none of them asked or told before, all meeting the free limits.

        Fewer rows, possibly none, say that no more of them could be found: the space, or the part of it
        that is still worth an evaluation, is exhausted. In a small space this is exact, in a large one it
        is what a bounded effort finds. Where no code meets the free limits, those that violate them least
        may be given.
        """
        ...

    def tell(self, codes: Codes, objectives: NDArray[np.float64], violation: NDArray[np.float64] | None = None) -> None:
        """Values of codes (n, d): objectives (n, m), all minimised, and violation (n,) >= 0 of all limits.

        The objectives told are all objectives. The first k columns are the free ones, in the order and with
        the values of `Domain.free`; the columns after them were paid for. A limit on something paid for
        (accuracy of at least x) arrives in violation, together with the free limits; None says that all
        limits are met. A row with a NaN failed. Codes that were never asked may be told; a code told again
        replaces its values.
        """
        ...

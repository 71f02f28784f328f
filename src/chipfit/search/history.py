"""What an algorithm was told, in order."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.search.algorithm import Codes, Domain
from chipfit.search.pareto import front_mask

Floats = NDArray[np.float64]


def keys(codes: Codes) -> list[bytes]:
    """A hashable key per code (n, d)."""
    return [row.tobytes() for row in np.ascontiguousarray(codes)]


class History:
    """Codes and their values by position, in the order in which they were first told."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._positions: dict[bytes, int] = {}
        self._codes: list[Codes] = []
        self._objectives: list[Floats] = []
        self._violation: list[float] = []
        self._columns: int | None = None
        self._all_free = False
        self._front = np.empty((0, 0))

    def __len__(self) -> int:
        return len(self._codes)

    def __contains__(self, key: bytes) -> bool:
        return key in self._positions

    def add(self, codes: Codes, objectives: Floats, violation: Floats | None) -> list[int]:
        """Keeps the values of codes (see `Algorithm.tell`) and gives their positions, each once.

        Raises InvalidInput for shapes that do not fit, infinite objectives, a negative violation, or first
        columns that are not the free objectives.
        """
        codes = self._domain.canonicalised(codes)
        objectives, violation = self._checked(codes, objectives, violation)
        known = len(self)
        told: dict[int, None] = {}
        for key, code, row, excess in zip(keys(codes), codes, objectives, violation.tolist(), strict=True):
            position = self._positions.setdefault(key, len(self))
            if position == len(self):
                self._codes.append(code)
                self._objectives.append(row)
                self._violation.append(excess)
            else:
                self._objectives[position] = row
                self._violation[position] = excess
            told[position] = None
        if self._all_free:
            self._extend_front(objectives, violation, replaced=len(self) - known < len(codes))
        return list(told)

    def codes(self, positions: Sequence[int]) -> Codes:
        """Codes (n, d) at the positions."""
        empty = np.empty((0, len(self._domain.cardinalities)), dtype=np.int64)
        return np.stack([self._codes[position] for position in positions]) if len(positions) else empty

    def objectives(self, positions: Sequence[int]) -> Floats:
        """Objectives (n, m) at the positions; a failed row is NaN throughout."""
        empty = np.empty((0, self._columns or 0))
        return np.stack([self._objectives[position] for position in positions]) if len(positions) else empty

    def violation(self, positions: Sequence[int]) -> Floats:
        """Violation (n,) at the positions; 0 for a failed one."""
        return np.array([self._violation[position] for position in positions], dtype=np.float64)

    def succeeded(self, positions: Sequence[int]) -> list[int]:
        """Those of the positions whose evaluation did not fail."""
        return [position for position in positions if not np.isnan(self._objectives[position][0])]

    def dominated_by(self, free_objectives: Floats) -> Floats:
        """How far each point (n, k) must still improve to leave the shadow of the points told: (n,).

        Only where every objective told is free is this more than -inf: accuracy then enters only as a
        limit, and a code whose objectives are weakly dominated by a feasible point told cannot improve the
        front whatever its accuracy. Its value is >= 0, that of any other code is below. Objectives are scaled
        by the largest on the front. Source: the additive epsilon indicator (Zitzler et al. 2003) of one point.
        """
        result = np.full(len(free_objectives), -np.inf)
        if len(self._front):
            largest = np.abs(self._front).max(axis=0)
            scale = np.where(largest > 0, largest, 1.0)
            for point in self._front:
                np.maximum(result, ((free_objectives - point) / scale).min(axis=1), out=result)
        return result

    def _extend_front(self, objectives: Floats, violation: Floats, replaced: bool) -> None:
        if replaced:
            everything = range(len(self))
            objectives, violation = self.objectives(everything), self.violation(everything)
        else:
            objectives = np.concatenate([self._front.reshape(-1, objectives.shape[1]), objectives])
            violation = np.concatenate([np.zeros(len(self._front)), violation])
        self._front = np.unique(objectives[front_mask(objectives, violation)], axis=0)

    def _checked(self, codes: Codes, objectives: Floats, violation: Floats | None) -> tuple[Floats, Floats]:
        objectives = np.array(objectives, dtype=np.float64)
        violation = np.zeros(len(codes)) if violation is None else np.array(violation, dtype=np.float64)
        if objectives.ndim != 2 or len(objectives) != len(codes) or violation.shape != (len(codes),):
            raise InvalidInput(
                f"{len(codes)} codes told with objectives of shape {objectives.shape} and violation of shape "
                f"{violation.shape}: give (n, m) and (n,)"
            )
        if np.isinf(objectives).any() or (violation < 0).any():
            raise InvalidInput(
                "an infinite objective or a negative violation was told: give NaN for a failed evaluation, "
                "and 0 for a code that meets all limits"
            )
        failed = np.isnan(objectives).any(axis=1) | np.isnan(violation)
        self._check_columns(codes, objectives, failed)
        objectives[failed] = np.nan
        violation[failed] = 0.0
        return objectives, violation

    def _check_columns(self, codes: Codes, objectives: Floats, failed: NDArray[np.bool_]) -> None:
        free, columns = self._domain.free_costs(codes).objectives, objectives.shape[1]
        expected = columns if self._columns is None else self._columns
        if columns != expected or columns < max(1, free.shape[1]):
            raise InvalidInput(
                f"{columns} objectives were told: expected "
                + (f"{expected} as before" if columns != expected else f"at least {max(1, free.shape[1])}")
            )
        if not np.allclose(objectives[~failed, : free.shape[1]], free[~failed], rtol=1e-6, atol=0.0):
            raise InvalidInput(
                f"the first {free.shape[1]} objectives told differ from the domain's free objectives: "
                "tell all objectives, free ones first and in the same order"
            )
        self._columns, self._all_free = columns, columns == free.shape[1]

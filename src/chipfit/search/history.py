"""What an algorithm was told, in order."""

from collections.abc import KeysView, Sequence

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.search.algorithm import Codes, Domain, FreeCosts
from chipfit.search.pareto import front_mask, shadowed

Floats = NDArray[np.float64]
Positions = Sequence[int] | NDArray[np.int64]

_TOLERANCE = 1e-6
"""How far told values of free objectives may be from the free ones, as a fraction: the same sum in another order."""

_LEAST_ROWS = 64
_LARGEST_BLOCK = 2**20


def keys(codes: Codes) -> list[bytes]:
    """A hashable key per code (n, d): its bytes."""
    width = 8 * codes.shape[1]
    if width == 0:
        return [b""] * len(codes)
    return np.ascontiguousarray(codes).view(f"V{width}").ravel().tolist()


def codes_of(names: Sequence[bytes], decisions: int) -> Codes:
    """The codes (n, d) of keys over so many decisions."""
    return np.frombuffer(b"".join(names), dtype=np.int64).reshape(len(names), decisions).copy()


class History:
    """Codes and their values by position, in the order in which they were first told."""

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self._positions: dict[bytes, int] = {}
        self._codes: Codes = np.empty((0, len(domain.cardinalities)), dtype=np.int64)
        self._objectives = np.empty((0, 0))
        self._violation = np.empty(0)
        self._columns: int | None = None
        self._all_free = False
        self._front = np.empty((0, 0))

    def __len__(self) -> int:
        return len(self._positions)

    def __contains__(self, key: bytes) -> bool:
        return key in self._positions

    @property
    def names(self) -> KeysView[bytes]:
        """The keys of all codes told, in order."""
        return self._positions.keys()

    def add(self, codes: Codes, objectives: Floats, violation: Floats | None) -> list[int]:
        """Keeps the values of codes (see `Algorithm.tell`) and gives their positions, each once.

        Raises InvalidInput for shapes that do not fit, infinite objectives, a negative violation, or first
        columns that are not the free objectives.
        """
        codes = self._domain.canonicalised(codes)
        return self.add_canonical(codes, keys(codes), self._domain.free_costs(codes), objectives, violation)

    def add_canonical(
        self, codes: Codes, names: Sequence[bytes], free: FreeCosts, objectives: Floats, violation: Floats | None
    ) -> list[int]:
        """The same for canonical codes whose keys and free costs are known."""
        objectives, violation = self._checked(free.objectives, objectives, violation)
        known = len(self)
        positions = self._positions
        told = [positions.setdefault(name, len(positions)) for name in names]
        self._reserve(len(positions), objectives.shape[1])
        # Of a code that is told twice at once the later values stay, as numpy assigns in order.
        self._codes[told], self._objectives[told], self._violation[told] = codes, objectives, violation
        if self._all_free:
            self._extend_front(objectives, violation, replaced=len(self) - known < len(codes))
        return list(dict.fromkeys(told))

    def codes(self, positions: Positions) -> Codes:
        """Codes (n, d) at the positions."""
        return self._codes[np.asarray(positions, dtype=np.int64)]

    def objectives(self, positions: Positions) -> Floats:
        """Objectives (n, m) at the positions; a failed row is NaN throughout."""
        return self._objectives[np.asarray(positions, dtype=np.int64)]

    def violation(self, positions: Positions) -> Floats:
        """Violation (n,) at the positions; 0 for a failed one."""
        return self._violation[np.asarray(positions, dtype=np.int64)]

    def succeeded(self, positions: Positions) -> list[int]:
        """Those of the positions whose evaluation did not fail."""
        asked = np.asarray(positions, dtype=np.int64)
        return asked[~np.isnan(self._objectives[asked]).any(axis=1)].tolist()

    def shadowed(self, free_objectives: Floats) -> NDArray[np.bool_]:
        """Which points (n, k) lie in the shadow of the points told: (n,), where `dominated_by` is at least 0."""
        if not len(self._front):
            return np.zeros(len(free_objectives), dtype=np.bool_)
        return shadowed(free_objectives, self._front)

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
            block = max(1, _LARGEST_BLOCK // max(1, free_objectives.size))
            for start in range(0, len(self._front), block):
                gaps = (free_objectives[:, None] - self._front[None, start : start + block]) / scale
                np.maximum(result, gaps.min(axis=2).max(axis=1), out=result)
        return result

    def _reserve(self, count: int, columns: int) -> None:
        """Makes room for count rows, doubling the arrays so that adding takes constant time per row."""
        if count <= len(self._codes) and self._objectives.shape[1] == columns:
            return
        rows = max(count, 2 * len(self._codes), _LEAST_ROWS)
        known = len(self._violation)
        codes, objectives = np.empty((rows, self._codes.shape[1]), np.int64), np.full((rows, columns), np.nan)
        codes[:known], self._codes = self._codes, codes
        if self._objectives.shape[1] == columns:
            objectives[:known] = self._objectives
        self._objectives = objectives
        self._violation = np.concatenate([self._violation, np.zeros(rows - known)])

    def _extend_front(self, objectives: Floats, violation: Floats, replaced: bool) -> None:
        if replaced:
            objectives, violation = self._objectives[: len(self)], self._violation[: len(self)]
        else:
            objectives = np.concatenate([self._front.reshape(-1, objectives.shape[1]), objectives])
            violation = np.concatenate([np.zeros(len(self._front)), violation])
        self._front = np.unique(objectives[front_mask(objectives, violation)], axis=0)

    def _checked(self, free: Floats, objectives: Floats, violation: Floats | None) -> tuple[Floats, Floats]:
        count = len(free)
        objectives = np.array(objectives, dtype=np.float64)
        violation = np.zeros(count) if violation is None else np.array(violation, dtype=np.float64)
        if objectives.ndim != 2 or len(objectives) != count or violation.shape != (count,):
            raise InvalidInput(
                f"{count} codes told with objectives of shape {objectives.shape} and violation of shape "
                f"{violation.shape}: give (n, m) and (n,)"
            )
        if np.isinf(objectives).any() or (violation < 0).any():
            raise InvalidInput(
                "an infinite objective or a negative violation was told: give NaN for a failed evaluation, "
                "and 0 for a code that meets all limits"
            )
        failed = np.isnan(objectives).any(axis=1) | np.isnan(violation)
        self._check_columns(free, objectives, failed)
        if failed.any():
            objectives[failed] = np.nan
            violation[failed] = 0.0
        return objectives, violation

    def _check_columns(self, free: Floats, objectives: Floats, failed: NDArray[np.bool_]) -> None:
        columns, known = objectives.shape[1], free.shape[1]
        expected = columns if self._columns is None else self._columns
        if columns != expected or columns < max(1, known):
            raise InvalidInput(
                f"{columns} objectives were told: expected "
                + (f"{expected} as before" if columns != expected else f"at least {max(1, known)}")
            )
        equal = np.abs(objectives[:, :known] - free) <= _TOLERANCE * np.abs(free)
        if not (equal | failed[:, None]).all():
            raise InvalidInput(
                f"the first {known} objectives told differ from the domain's free objectives: "
                "tell all objectives, free ones first and in the same order"
            )
        self._columns, self._all_free = columns, columns == known

"""Conformance of search algorithms: what `chipfit.search.Algorithm` promises, checked on small made-up spaces."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from chipfit.search import Algorithm, Codes, Domain, FreeCosts

Make = Callable[[Domain, int], Algorithm]
Floats = NDArray[np.float64]

_SEEDS = range(2)


def check_algorithm(make: Make) -> None:
    """Raises AssertionError, with what was wrong, unless make(domain, seed) gives a sound algorithm.

    Checked: asks are integers of the right shape, in range, canonical, within the free limits and never repeat a
    code that was asked or told; the same seed and the same asks and tells give the same codes, another seed gives
    others; a small space is exhausted, no sooner and no later; failed evaluations, single objectives, tells in
    parts and in another order, asks before any tell and codes that were never asked are all survived. An
    exception of the algorithm's own passes through. Takes a few seconds for a light algorithm.
    """
    for seed in _SEEDS:
        for name, domain in _domains().items():
            for objective_count in (1, 2):
                _check_run(make, domain, seed, f"{name}, seed {seed}", objective_count)
        _check_failures(make, seed)
        _check_told_unasked(make, seed)
        _check_exhaustion(make, seed)
        _check_replay(make, seed)
    _check_seeds_differ(make)


def _require(condition: bool | np.bool_, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _domains() -> dict[str, Domain]:
    return {
        "a plain space": Domain((3, 1, 4, 2)),
        "a space with equivalent codes": Domain((2, 3, 4), canonical=_skip_decision),
        "a large space with free costs and limits": Domain((5,) * 30, canonical=_skip_decision, free=_costs),
    }


def _skip_decision(codes: Codes) -> Codes:
    """Option 0 of the first decision leaves the block of the second one out."""
    canonical = codes.copy()
    canonical[canonical[:, 0] == 0, 1] = 0
    return canonical


def _costs(codes: Codes) -> FreeCosts:
    weights = np.linspace(1.0, 2.0, codes.shape[1])
    cost = codes @ weights
    limit = 1.8 * weights.sum()
    return FreeCosts(cost[:, None], np.maximum(cost - limit, 0.0))


def _values(domain: Domain, codes: Codes, objective_count: int) -> tuple[Floats, Floats]:
    """Free objectives first, then made-up ones that pull the other way; and the violation of the limits."""
    free = domain.free_costs(codes)
    paid = [-np.sqrt(codes + number).sum(axis=1) for number in range(objective_count)]
    objectives = np.concatenate([free.objectives, np.stack(paid, axis=1)], axis=1)[:, :objective_count]
    return objectives, free.violation


class _Watched:
    """The algorithm with every ask checked against what it may not do."""

    def __init__(self, make: Make, domain: Domain, seed: int, where: str) -> None:
        self._algorithm = make(domain, seed)
        self._domain = domain
        self._where = where
        self._gone: set[bytes] = set()

    def ask(self, n: int) -> Codes:
        codes = self._algorithm.ask(n)
        self._check_form(codes, n)
        inside = (codes >= 0) & (codes < np.array(self._domain.cardinalities))
        self._require(inside.all(), f"ask({n}) gave a code with an option out of range")
        canonical = (codes == self._domain.canonicalised(codes)).all()
        self._require(canonical, f"ask({n}) gave a code that is not canonical: pass codes through domain.canonical")
        within = (self._domain.free_costs(codes).violation <= 0).all()
        self._require(within, f"ask({n}) gave a code that breaks the free limits although others meet them")
        for code in codes:
            key = code.tobytes()
            self._require(key not in self._gone, f"ask({n}) gave code {code.tolist()}, asked or told before")
            self._gone.add(key)
        kept = codes.copy()
        codes[...] = 0
        return kept

    def tell(self, codes: Codes, objectives: Floats, violation: Floats | None) -> None:
        given = (codes.copy(), objectives.copy(), None if violation is None else violation.copy())
        self._algorithm.tell(*given)
        unchanged = np.array_equal(given[0], codes) and np.array_equal(given[1], objectives, equal_nan=True)
        if violation is not None and given[2] is not None:
            unchanged &= np.array_equal(given[2], violation)
        self._require(unchanged, "tell changed the arrays that it was given: copy them")
        self._gone.update(code.tobytes() for code in self._domain.canonicalised(codes))

    def _check_form(self, codes: Codes, n: int) -> None:
        width = len(self._domain.cardinalities)
        form = isinstance(codes, np.ndarray) and codes.dtype == np.int64 and codes.ndim == 2
        self._require(
            form and codes.shape[1] == width and len(codes) <= n,
            f"ask({n}) must give an int64 array of at most {n} rows and {width} columns, gave "
            f"{getattr(codes, 'dtype', type(codes).__name__)} of shape {np.shape(codes)}",
        )

    def _require(self, condition: bool | np.bool_, message: str) -> None:
        _require(condition, f"{self._where}: {message}")


def _check_run(make: Make, domain: Domain, seed: int, where: str, objective_count: int) -> None:
    """Asks of several sizes, of which some overlap; tells in parts and in reverse order."""
    watched = _Watched(make, domain, seed, where)
    _require(watched.ask(0).shape[0] == 0, f"{where}: ask(0) must give no rows")
    waiting: list[Codes] = []
    for size in (1, 3, 7, 2, 1, 12, 5):
        waiting.append(watched.ask(size))
        if size != 7:
            codes = np.concatenate(waiting)[::-1]
            waiting = []
            for part in np.array_split(codes, 2):
                objectives, violation = _values(domain, part, objective_count)
                watched.tell(part, objectives, violation if domain.free else None)


def _check_failures(make: Make, seed: int) -> None:
    """First everything fails, then a third of it, then nothing."""
    domain = Domain((4,) * 6)
    watched = _Watched(make, domain, seed, f"failed evaluations, seed {seed}")
    for every in (1, 1, 3, 3, 10_000):
        codes = watched.ask(9)
        _require(len(codes) == 9, f"failed evaluations, seed {seed}: ask(9) gave {len(codes)} rows, many are left")
        objectives, violation = _values(domain, codes, 2)
        objectives[::every] = np.nan
        watched.tell(codes, objectives, violation)


def _check_told_unasked(make: Make, seed: int) -> None:
    domain = Domain((2, 2, 2))
    watched = _Watched(make, domain, seed, f"codes told but never asked, seed {seed}")
    codes = np.array([[0, 0, 0], [1, 1, 1], [0, 1, 0]], dtype=np.int64)
    watched.tell(codes, *_values(domain, codes, 2))
    _exhaust(watched, domain, 5, f"codes told but never asked, seed {seed}")


def _check_exhaustion(make: Make, seed: int) -> None:
    def free(codes: Codes) -> FreeCosts:
        cost = codes.sum(axis=1, dtype=np.float64)
        return FreeCosts(cost[:, None], np.maximum(cost - 4.0, 0.0))

    domains = {"plain": Domain((3, 2, 4)), "limited": Domain((2, 3, 4), canonical=_skip_decision, free=free)}
    for name, domain in domains.items():
        everything = np.indices(domain.cardinalities).reshape(len(domain.cardinalities), -1).T
        canonical = np.unique(domain.canonicalised(everything), axis=0)
        expected = int((domain.free_costs(canonical).violation <= 0).sum())
        where = f"exhausting a {name} space, seed {seed}"
        _exhaust(_Watched(make, domain, seed, where), domain, expected, where)


def _exhaust(watched: _Watched, domain: Domain, expected: int, where: str) -> None:
    asked = 0
    for _ in range(expected):
        codes = watched.ask(5)
        asked += len(codes)
        if len(codes) == 0:
            break
        watched.tell(codes, *_values(domain, codes, 2))
    _require(asked == expected, f"{where}: {asked} of {expected} codes were asked before ask gave no rows")
    _require(len(watched.ask(5)) == 0, f"{where}: ask gave rows although nothing is left")


def _check_replay(make: Make, seed: int) -> None:
    """Two algorithms, fed alike and step by step in turn, so that hidden shared state shows."""
    where = f"repeating a run with seed {seed}"
    domain = Domain((5,) * 30, canonical=_skip_decision, free=_costs)
    first, second = (_Watched(make, domain, seed, where) for _ in range(2))
    for size in (4, 1, 90, 30, 30):
        codes, repeated = first.ask(size), second.ask(size)
        _require(
            np.array_equal(codes, repeated),
            f"{where} gave other codes: draw all randomness from a generator made from the seed",
        )
        objectives, violation = _values(domain, codes, 2)
        first.tell(codes, objectives, violation)
        second.tell(codes, objectives, violation)


def _check_seeds_differ(make: Make) -> None:
    domain = Domain((5,) * 30)
    asked = [make(domain, seed).ask(20).tobytes() for seed in range(5)]
    _require(len(set(asked)) > 1, "five seeds gave the same codes: the seed is ignored")

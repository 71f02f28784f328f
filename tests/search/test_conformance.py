"""The conformance suite accepts the algorithms of the house and catches each broken one."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from chipfit.search import (
    NSGA2,
    AbsoluteTarget,
    Algorithm,
    Codes,
    Domain,
    LocalSearch,
    RandomSearch,
    RegularizedEvolution,
    Reinforce,
)
from chipfit.testing.algorithms import check_algorithm

Floats = NDArray[np.float64]


@pytest.mark.parametrize(
    "make",
    [
        RandomSearch,
        lambda domain, seed: NSGA2(domain, seed, population=10),
        lambda domain, seed: RegularizedEvolution(domain, seed, population=10, sample=3),
        lambda domain, seed: LocalSearch(domain, seed, start=4),
        lambda domain, seed: Reinforce(domain, seed, start=4),
        lambda domain, seed: Reinforce(domain, seed, AbsoluteTarget(50.0), start=4),
    ],
    ids=["random", "nsga2", "regularized", "local", "reinforce", "reinforce to a target"],
)
def test_the_algorithms_of_the_house_conform(make: Callable[[Domain, int], Algorithm]) -> None:
    check_algorithm(make)


class Wrapped:
    """Random search, for others to break in one respect."""

    def __init__(self, domain: Domain, seed: int) -> None:
        self.domain = domain
        self.inner = RandomSearch(domain, seed)
        self.told = 0

    def ask(self, n: int) -> Codes:
        return self.inner.ask(n)

    def tell(self, codes: Codes, objectives: Floats, violation: Floats | None = None) -> None:
        self.told += len(codes)
        self.inner.tell(codes, objectives, violation)


class OutOfRange(Wrapped):
    def ask(self, n: int) -> Codes:
        return super().ask(n) + (self.told > 10)


class Repeats(Wrapped):
    def ask(self, n: int) -> Codes:
        codes = super().ask(n)
        return np.concatenate([codes[:1], codes])[:n]


class NotCanonical(Wrapped):
    def __init__(self, domain: Domain, seed: int) -> None:
        super().__init__(Domain(domain.cardinalities, free=domain.free), seed)


class IgnoresLimits(Wrapped):
    def __init__(self, domain: Domain, seed: int) -> None:
        super().__init__(domain, seed)
        self.inner = RandomSearch(Domain(domain.cardinalities, domain.canonical), seed)


class IgnoresItsSeed(Wrapped):
    def __init__(self, domain: Domain, seed: int) -> None:
        super().__init__(domain, 0)


_SHARED = np.random.default_rng(0)


class SharesAGenerator(Wrapped):
    def __init__(self, domain: Domain, seed: int) -> None:
        super().__init__(domain, int(_SHARED.integers(1000)))


class GivesUpEarly(Wrapped):
    def ask(self, n: int) -> Codes:
        return super().ask(n if self.told < self.domain.size - 6 else 0)


class TooMany(Wrapped):
    def ask(self, n: int) -> Codes:
        return super().ask(n + 1)


class WrongType(Wrapped):
    def ask(self, n: int) -> Codes:
        return super().ask(n).astype(np.float64)  # type: ignore[return-value]


class StopsAtFailure(Wrapped):
    failed = False

    def ask(self, n: int) -> Codes:
        return super().ask(0 if self.failed else n)

    def tell(self, codes: Codes, objectives: Floats, violation: Floats | None = None) -> None:
        self.failed |= bool(np.isnan(objectives).any())
        super().tell(codes, objectives, violation)


class ChangesWhatItIsTold(Wrapped):
    def tell(self, codes: Codes, objectives: Floats, violation: Floats | None = None) -> None:
        super().tell(codes, objectives, violation)
        objectives -= 1.0


class ForgetsWhatItDidNotAsk(Wrapped):
    def __init__(self, domain: Domain, seed: int) -> None:
        super().__init__(domain, seed)
        self.asked: set[bytes] = set()

    def ask(self, n: int) -> Codes:
        codes = super().ask(n)
        self.asked.update(code.tobytes() for code in codes)
        return codes

    def tell(self, codes: Codes, objectives: Floats, violation: Floats | None = None) -> None:
        known = np.array([code.tobytes() in self.asked for code in codes], dtype=bool)
        super().tell(codes[known], objectives[known], None if violation is None else violation[known])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (OutOfRange, "out of range"),
        (Repeats, "asked or told before"),
        (NotCanonical, "not canonical"),
        (IgnoresLimits, "free limits"),
        (IgnoresItsSeed, "seed is ignored"),
        (SharesAGenerator, "randomness"),
        (GivesUpEarly, "codes were asked before"),
        (TooMany, "at most"),
        (WrongType, "int64"),
        (StopsAtFailure, "failed evaluations"),
        (ChangesWhatItIsTold, "changed the arrays"),
        (ForgetsWhatItDidNotAsk, "asked or told before"),
    ],
)
def test_each_fault_is_found_and_named(broken: Callable[[Domain, int], Algorithm], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_algorithm(broken)


def test_an_algorithm_that_keeps_the_array_it_hands_out_is_found() -> None:
    class KeepsItsArray(Wrapped):
        """Marks as asked only what its own array still says at the next call."""

        last: Codes | None = None

        def __init__(self, domain: Domain, seed: int) -> None:
            super().__init__(domain, seed)
            self.seed = seed
            self.gone: list[Codes] = []

        def ask(self, n: int) -> Codes:
            fresh = RandomSearch(self.domain, self.seed)
            for codes in self.gone:
                free = self.domain.free_costs(codes).objectives
                fresh.tell(codes, np.concatenate([free, np.zeros((len(codes), 1))], axis=1))
            self.gone.append(fresh.ask(n))
            return self.gone[-1]

        def tell(self, codes: Codes, objectives: Floats, violation: Floats | None = None) -> None:
            pass

    with pytest.raises(AssertionError, match="asked or told before"):
        check_algorithm(KeepsItsArray)

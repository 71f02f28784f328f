import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.search import Codes, Domain, Halving, RandomSearch
from chipfit.search.halving import ETA, least, rungs, starters, trainings

DOMAIN = Domain((5,) * 6)
BUDGETS = (1.0, 3.0, 9.0)


class Noisy:
    """A table whose noise shrinks with the budget, as that of accuracies after some epochs."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._terms = self._generator.random((6, 5))

    def true(self, codes: Codes) -> np.ndarray:
        return self._terms[np.arange(6), codes].sum(axis=1)

    def after(self, codes: Codes, budgets: np.ndarray) -> np.ndarray:
        noise = self._generator.normal(size=len(codes)) / np.sqrt(budgets)
        return (self.true(codes) + noise)[:, None]


def halved(seed: int, total: float) -> float:
    table = Noisy(seed)
    halving = Halving(DOMAIN, RandomSearch(DOMAIN, seed), BUDGETS)
    spent = 0.0
    while spent < total:
        codes, budgets = halving.ask(8)
        halving.tell(codes, budgets, table.after(codes, budgets))
        spent += budgets.sum()
    codes, objectives, _ = halving.finished
    return float(table.true(codes[[objectives[:, 0].argmin()]])[0])


def in_full(seed: int, total: float) -> float:
    table = Noisy(seed)
    codes = RandomSearch(DOMAIN, seed).ask(int(total / BUDGETS[-1]))
    values = table.after(codes, np.full(len(codes), BUDGETS[-1]))
    return float(table.true(codes[[values[:, 0].argmin()]])[0])


def test_the_same_budget_finds_better_codes_than_training_all_in_full() -> None:
    seeds = range(12)
    assert np.mean([halved(seed, 900.0) for seed in seeds]) < np.mean([in_full(seed, 900.0) for seed in seeds]) - 0.1


def test_of_each_budget_no_more_than_one_in_eta_goes_on_and_those_are_the_best() -> None:
    table, halving = Noisy(0), Halving(DOMAIN, RandomSearch(DOMAIN, 0), BUDGETS, eta=4)
    told: dict[float, dict[bytes, float]] = {budget: {} for budget in BUDGETS}
    for _ in range(40):
        codes, budgets = halving.ask(5)
        values = table.true(codes)
        for code, budget in zip(codes, budgets, strict=True):
            if budget > 1:
                lower = told[BUDGETS[BUDGETS.index(budget) - 1]]
                better = sum(other < lower[code.tobytes()] for other in lower.values())
                assert better < len(lower) / 4
            assert code.tobytes() not in told[budget]
        for code, budget, value in zip(codes, budgets, values, strict=True):
            told[budget][code.tobytes()] = value
        halving.tell(codes, budgets, values[:, None])
    counts = [len(each) for each in told.values()]
    # Who is among the best changes as more is told, so that somewhat more go on.
    assert counts[0] > 3 * counts[1] > 9 * counts[2] > 0


def test_failed_codes_do_not_go_on_and_infeasible_ones_only_after_all_others() -> None:
    halving = Halving(DOMAIN, RandomSearch(DOMAIN, 0), (1, 2), eta=2)
    codes, budgets = halving.ask(4)
    values = np.array([[np.nan], [1.0], [2.0], [0.0]])
    halving.tell(codes, budgets, values, np.array([0.0, 0.0, 0.0, 5.0]))
    again, budgets = halving.ask(2)
    assert again.tolist() == codes[[1, 2]].tolist()
    assert budgets.tolist() == [2.0, 2.0]


def test_a_resumed_run_equals_the_uninterrupted_one() -> None:
    first, second = (Halving(DOMAIN, RandomSearch(DOMAIN, 3), BUDGETS) for _ in range(2))
    table = Noisy(0)
    for size in (7, 1, 12, 3):
        (codes, budgets), (repeated, same) = first.ask(size), second.ask(size)
        assert codes.tolist() == repeated.tolist()
        assert budgets.tolist() == same.tolist()
        values = table.true(codes)[:, None]
        first.tell(codes, budgets, values)
        second.tell(codes, budgets, values)


def test_a_space_is_exhausted_when_nothing_is_left_to_ask_or_to_go_on() -> None:
    domain = Domain((2, 2))
    halving = Halving(domain, RandomSearch(domain, 0), (1, 2), eta=2)
    asked = 0
    while len((pair := halving.ask(3))[0]):
        halving.tell(*pair, pair[0].sum(axis=1, dtype=np.float64)[:, None])
        asked += len(pair[0])
    assert asked == 4 + 2
    assert len(halving.finished[0]) == 2


@pytest.mark.parametrize(("kept", "reached"), [(0, 1), (2, 2), (9, 4)])
def test_at_the_end_so_many_go_on_as_are_kept(kept: int, reached: int) -> None:
    domain = Domain((2, 2))
    halving = Halving(domain, RandomSearch(domain, 0), (1, 2, 4), eta=2)
    while len((pair := halving.ask(3))[0]) or len((pair := halving.ask_best(3, kept))[0]):
        halving.tell(*pair, pair[0].sum(axis=1, dtype=np.float64)[:, None])
    assert len(halving.finished[0]) == reached
    assert [0, 0] in halving.finished[0].tolist()


def test_what_was_told_at_the_next_budget_is_not_asked_with_it() -> None:
    domain = Domain((4,))
    halving = Halving(domain, RandomSearch(domain, 0), (1, 2), eta=2)
    codes = np.arange(4)[:, None]
    halving.tell(codes, np.ones(4), codes.astype(np.float64))
    halving.tell(codes[:1], np.full(1, 2.0), np.zeros((1, 1)))
    again, budgets = halving.ask(4)
    assert (again.tolist(), budgets.tolist()) == ([[1]], [2.0])


@pytest.mark.parametrize(
    ("highest", "budgets"), [(2, (2,)), (3, (1, 3)), (8, (2, 8)), (9, (1, 3, 9)), (20, (2, 6, 20))]
)
def test_rungs_are_thirds_down_to_one(highest: int, budgets: tuple[int, ...]) -> None:
    assert rungs(highest) == budgets


@pytest.mark.parametrize("highest", [3, 7, 9, 20, 81])
def test_what_starts_is_paid_for_to_the_end_and_one_more_would_not_be(highest: int) -> None:
    budgets = rungs(highest)
    steps = np.diff([0, *budgets])
    each = (steps / float(ETA) ** np.arange(len(budgets))).sum()
    for total in (least(budgets), 10 * highest, 1000):
        codes = starters(budgets, total)
        assert codes >= ETA ** (len(budgets) - 1)
        assert codes * each <= total + 1e-9
        assert (codes + 1) * each > total
        for size in (2, codes, 10 * codes):
            fewest, most = np.array(trainings(budgets, total, size)).T
            assert fewest @ steps <= total
            assert most @ steps <= total
            assert fewest.sum() <= most.sum()
    assert starters(budgets, least(budgets) - 1) < ETA ** (len(budgets) - 1)


@pytest.mark.parametrize("budgets", [(1,), (1, 1), (2, 1), (0, 1), (np.nan, 1)])
def test_budgets_that_do_not_ascend_are_refused(budgets: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput):
        Halving(DOMAIN, RandomSearch(DOMAIN, 0), budgets)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInput):
        Halving(DOMAIN, RandomSearch(DOMAIN, 0), BUDGETS, eta=1)
    halving = Halving(DOMAIN, RandomSearch(DOMAIN, 0), BUDGETS)
    with pytest.raises(InvalidInput):
        halving.ask(-1)
    codes, budgets = halving.ask(1)
    with pytest.raises(InvalidInput, match="one of"):
        halving.tell(codes, budgets + 1, np.zeros((1, 1)))

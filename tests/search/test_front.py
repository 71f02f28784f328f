import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.search.sums import chain, everything, random_sum

from chipfit.errors import InvalidInput
from chipfit.search.exact import Table, total
from chipfit.search.front import front, undominated
from chipfit.search.pareto import front_mask

Problem = tuple[list[list[Table]], list[int]]


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    cardinalities = draw(st.lists(st.integers(1, 4), min_size=0, max_size=6))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    return [random_sum(cardinalities, generator) for _ in range(draw(st.integers(1, 4)))], cardinalities


def all_values(objectives: list[list[Table]], cardinalities: list[int]) -> np.ndarray:
    codes = everything(cardinalities)
    return np.stack([total(tables, codes) for tables in objectives], axis=1)


@given(problems())
def test_the_front_is_that_of_brute_force(problem: Problem) -> None:
    objectives, cardinalities = problem
    found, values = front(objectives, cardinalities), all_values(objectives, cardinalities)
    assert found.exact
    assert not found.gap.any()
    assert found.values.tolist() == np.unique(values[front_mask(values)], axis=0).tolist()
    assert np.stack([total(tables, found.codes) for tables in objectives], axis=1).tolist() == found.values.tolist()


@given(problems(), st.sampled_from([(0.0, 1), (0.0, 3), (0.2, 10_000), (1.0, 2)]))
def test_a_thinned_front_is_within_its_gap_of_every_code(problem: Problem, thinning: tuple[float, int]) -> None:
    objectives, cardinalities = problem
    epsilon, most = thinning
    found, values = front(objectives, cardinalities, epsilon, most), all_values(objectives, cardinalities)
    above = (found.values[None] <= values[:, None] + found.gap * (1 + 1e-12) + 1e-9).all(axis=2)
    assert above.any(axis=1).all()
    assert found.exact == (not found.gap.any())
    if most > 1000:
        assert (found.gap <= epsilon * np.ptp(values, axis=0) * (1 + 1e-9)).all()


@pytest.mark.parametrize(("columns", "axes"), [(2, 1), (2, 3), (3, 2)])
def test_the_front_of_a_million_codes_is_that_of_brute_force(columns: int, axes: int) -> None:
    generator = np.random.default_rng(columns)
    objectives = [chain(10, 4, axes, generator) for _ in range(columns)]
    found = front(objectives, [4] * 10)
    codes = np.indices((4,) * 10).reshape(10, -1).T
    values = np.stack([total(tables, codes) for tables in objectives], axis=1)
    expected = values[front_mask(values)]
    assert found.exact
    assert found.values == pytest.approx(expected[np.lexsort(expected.T[::-1])])


def test_options_in_another_order_do_not_fill_the_front() -> None:
    """Thirty equal decisions have thirty-choose-n codes of equal sums, of which rounding sees many different ones."""
    values = np.array([0.1, 0.7, 1.1])
    objectives = [[Table((d,), values) for d in range(30)], [Table((d,), 1.3 - values**2) for d in range(30)]]
    assert len(front(objectives, [3] * 30).codes) <= 31 * 32 // 2


def test_room_for_few_points_is_kept_to() -> None:
    generator = np.random.default_rng(0)
    objectives = [chain(30, 4, 1, generator) for _ in range(3)]
    found = front(objectives, [4] * 30, max_points=200)
    assert not found.exact
    assert 10 < len(found.codes) <= 200


def test_groups_are_kept_apart() -> None:
    values = np.array([[1.0, 1.0], [0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    groups = np.array([0, 1, 0, 0, 0])
    assert sorted(undominated(values, groups, 2).tolist()) in ([1, 2, 4], [1, 3, 4])
    assert len(undominated(values[:0], groups[:0], 2)) == 0


@pytest.mark.parametrize("options", [{"epsilon": -0.1}, {"max_points": 0}, {"max_layer_entries": 3}])
def test_settings_that_cannot_be_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InvalidInput):
        front([[Table((0, 1), np.zeros((2, 2)))]], [2, 2], **options)


def test_a_front_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput):
        front([], [2, 2])

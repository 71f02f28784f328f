import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from chipfit.search.pareto import (
    constrained_ranks,
    crowding_distance,
    dominates,
    front_mask,
    hypervolume,
    shadowed,
    ties,
)

Floats = NDArray[np.float64]


@st.composite
def evaluated(draw: st.DrawFn) -> tuple[Floats, Floats | None]:
    """Few distinct values, so that equal points and equal columns are common; some failed, some infeasible."""
    count, columns = draw(st.integers(0, 12)), draw(st.integers(1, 4))
    cell = st.sampled_from([0.0, 1.0, 2.0, 3.0])
    objectives = np.array(
        draw(st.lists(st.lists(cell, min_size=columns, max_size=columns), min_size=count, max_size=count))
    )
    objectives = objectives.reshape(count, columns)
    for row in draw(st.sets(st.integers(0, 11), max_size=3)):
        if row < count:
            objectives[row, row % columns] = np.nan
    if draw(st.booleans()):
        return objectives, None
    excess = st.lists(st.sampled_from([0.0, 0.0, 0.5, 2.0]), min_size=count, max_size=count)
    return objectives, np.array(draw(excess), dtype=np.float64)


def naive_dominates(a: int, b: int, objectives: Floats, violation: Floats | None) -> bool:
    failed_a, failed_b = (bool(np.isnan(objectives[i]).any()) for i in (a, b))
    if failed_a or failed_b:
        return failed_b and not failed_a
    excess_a, excess_b = (0.0, 0.0) if violation is None else (violation[a], violation[b])
    if excess_a > 0 or excess_b > 0:
        return bool(excess_a < excess_b)
    pairs = list(zip(objectives[a], objectives[b], strict=True))
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def naive_ranks(objectives: Floats, violation: Floats | None) -> list[int]:
    ranks = [-1] * len(objectives)
    rank = 0
    while -1 in ranks:
        left = [i for i, known in enumerate(ranks) if known < 0]
        best = [i for i in left if not any(naive_dominates(j, i, objectives, violation) for j in left)]
        for i in best:
            ranks[i] = rank
        rank += 1
    return ranks


def naive_crowding(objectives: Floats) -> list[float]:
    """As the paper states it, for one front without equal values in any column."""
    distance = [0.0] * len(objectives)
    for column in objectives.T:
        order = sorted(range(len(column)), key=lambda i: column[i])
        distance[order[0]] = distance[order[-1]] = np.inf
        for before, here, after in zip(order, order[1:], order[2:], strict=False):
            distance[here] += (column[after] - column[before]) / (column[order[-1]] - column[order[0]])
    return distance


@given(evaluated())
def test_dominates_equals_its_naive_twin(points: tuple[Floats, Floats | None]) -> None:
    objectives, violation = points
    naive = [
        [naive_dominates(a, b, objectives, violation) for b in range(len(objectives))] for a in range(len(objectives))
    ]
    assert dominates(objectives, violation).tolist() == naive


@given(evaluated())
def test_ranks_equal_their_naive_twin(points: tuple[Floats, Floats | None]) -> None:
    assert constrained_ranks(*points).tolist() == naive_ranks(*points)


@given(evaluated())
def test_the_front_is_what_no_point_dominates_and_is_neither_failed_nor_infeasible(
    points: tuple[Floats, Floats | None],
) -> None:
    objectives, violation = points
    undominated = ~dominates(objectives, violation).any(axis=0)
    feasible = np.ones(len(objectives), dtype=bool) if violation is None else violation <= 0
    assert (front_mask(objectives, violation) == undominated & feasible & ~np.isnan(objectives).any(axis=1)).all()


@given(evaluated(), evaluated())
def test_the_shadow_of_a_front_is_what_its_points_weakly_dominate(
    told: tuple[Floats, Floats | None], asked: tuple[Floats, Floats | None]
) -> None:
    columns = min(told[0].shape[1], asked[0].shape[1])
    points = asked[0][:, :columns][~np.isnan(asked[0][:, :columns]).any(axis=1)]
    front = told[0][:, :columns][front_mask(told[0][:, :columns])]
    naive = [any((row <= point).all() for row in front) for point in points]
    assert shadowed(points, front).tolist() == naive


@given(evaluated(), st.randoms(use_true_random=False))
def test_ranks_and_front_do_not_depend_on_the_order_of_the_points(points: tuple[Floats, Floats | None], random) -> None:
    objectives, violation = points
    order = list(range(len(objectives)))
    random.shuffle(order)
    shuffled = objectives[order], None if violation is None else violation[order]
    assert (constrained_ranks(*shuffled) == constrained_ranks(*points)[order]).all()
    assert (front_mask(*shuffled) == front_mask(*points)[order]).all()


def test_a_nan_violation_is_a_failure() -> None:
    objectives, violation = np.array([[1.0], [0.0], [2.0]]), np.array([0.0, np.nan, 1.0])
    assert constrained_ranks(objectives, violation).tolist() == [0, 2, 1]
    assert front_mask(objectives, violation).tolist() == [True, False, False]


@given(st.permutations(range(7)), st.integers(1, 3))
def test_crowding_equals_its_naive_twin(order: list[int], columns: int) -> None:
    objectives = np.stack([np.roll(order, shift) for shift in range(columns)], axis=1) ** 2.0
    assert crowding_distance(objectives) == pytest.approx(naive_crowding(objectives))


def test_crowding_is_taken_within_each_rank() -> None:
    generator = np.random.default_rng(0)
    objectives, ranks = generator.random((30, 2)), generator.integers(0, 3, 30)
    distance = crowding_distance(objectives, ranks)
    for rank in range(3):
        assert (distance[ranks == rank] == crowding_distance(objectives[ranks == rank])).all()


def test_crowding_of_constant_columns_and_failed_points_is_defined() -> None:
    distance = crowding_distance(np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 3.0], [np.nan, 0.0]]))
    assert distance.tolist() == [np.inf, 1.0, np.inf, 0.0]


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=12))
def test_hypervolume_never_falls_when_a_point_is_added(points: list[tuple[float, float]]) -> None:
    reference = np.array([4.0, 4.0])
    volumes = [hypervolume(np.array(points[:count]).reshape(-1, 2), reference) for count in range(len(points) + 1)]
    assert volumes[0] == 0.0
    assert all(after >= before * (1 - 1e-12) for before, after in itertools.pairwise(volumes))


def test_hypervolume_of_two_boxes_counts_their_overlap_once_and_skips_what_failed() -> None:
    points = np.array([[1.0, 3.0], [3.0, 1.0], [np.nan, 0.0], [9.0, 0.0]])
    assert hypervolume(points, np.array([4.0, 4.0])) == pytest.approx(5.0)


def test_points_tie_within_the_root_of_their_squared_spreads_in_every_objective() -> None:
    objectives = np.array([[0.0, 0.0], [4.9, 0.0], [5.1, 0.0], [0.0, 9.0], [np.nan, 0.0]])
    tied = ties(objectives, np.array([[3.0, 1.0], [4.0, 1.0], [4.0, 1.0], [3.0, 1.0], [9.0, 9.0]]))
    assert tied[0].tolist() == [False, True, False, False, False]
    assert (tied == tied.T).all()
    assert tied[1, 2]
    assert not tied[4].any()

"""Shares of variance are those of a list of all networks, and of a sample nearly so."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipfit.spaces.influence import Table, exact_influence, sampled_influence


def drawn(seed: int, cardinalities: list[int]) -> list[Table]:
    generator = np.random.default_rng(seed)
    tables: list[Table] = [((), np.array(3.0))]
    for _ in range(int(generator.integers(1, 6))):
        count = int(generator.integers(1, min(3, len(cardinalities)) + 1))
        axes = tuple(int(axis) for axis in generator.permutation(len(cardinalities))[:count])
        tables.append((axes, generator.normal(size=[cardinalities[axis] for axis in axes])))
    return tables


def costs_of(tables: list[Table], codes: np.ndarray) -> np.ndarray:
    return sum((values[tuple(codes[:, axis] for axis in axes)] for axes, values in tables), np.zeros(len(codes)))


@given(st.integers(0, 10_000), st.lists(st.integers(1, 4), min_size=1, max_size=5))
def test_tables_give_what_all_networks_give(seed: int, cardinalities: list[int]) -> None:
    tables = drawn(seed, cardinalities)
    codes = np.array(list(itertools.product(*map(range, cardinalities))), np.int64)
    costs = costs_of(tables, codes)
    wanted = np.zeros(len(cardinalities))
    if costs.var() > 1e-20:
        for index, options in enumerate(cardinalities):
            means = [costs[codes[:, index] == option].mean() for option in range(options)]
            wanted[index] = np.var(means) / costs.var()
    found = exact_influence(tables, len(cardinalities))
    np.testing.assert_allclose(found, wanted, atol=1e-9)
    np.testing.assert_allclose(sampled_influence(codes, costs, cardinalities, True), wanted, atol=1e-9)
    assert found.sum() <= 1 + 1e-9


def test_a_sample_says_nearly_the_same_and_gives_chance_no_credit() -> None:
    cardinalities = [3, 50, 4, 2]
    generator = np.random.default_rng(1)
    tables: list[Table] = [((0,), generator.normal(size=3)), ((0, 2), generator.normal(size=(3, 4)))]
    codes = generator.integers(0, cardinalities, size=(20_000, 4))
    found = sampled_influence(codes, costs_of(tables, codes), cardinalities, False)
    exact = exact_influence(tables, 4)
    np.testing.assert_allclose(found, exact, atol=0.02)
    assert exact[1] == exact[3] == 0
    assert found[1] == pytest.approx(0, abs=1e-3)


def test_a_constant_cost_is_explained_by_nothing() -> None:
    tables: list[Table] = [((0,), np.full(3, 0.1)), ((), np.array(1e6))]
    assert exact_influence(tables, 2).tolist() == [0, 0]

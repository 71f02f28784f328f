"""Preflight says of small spaces what a list of all networks says, and of large ones what can be relied on."""

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from chipfit.spaces.preflight import ENUMERATED, Evaluate, preflight, violation

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]


def additive(cardinalities: Sequence[int], seed: int) -> Evaluate:
    """Latency and memory as sums of one number per option, as integers so that sums are exact."""
    generator = np.random.default_rng(seed)
    tables = {name: [generator.integers(1, 50, count) for count in cardinalities] for name in ("latency", "memory")}

    def evaluate(codes: Codes) -> Mapping[str, Floats]:
        columns = {name: np.full(len(codes), 10.0) for name in tables}
        for name, parts in tables.items():
            for decision, part in enumerate(parts):
                columns[name] += part[codes[:, decision]]
        return columns

    return evaluate


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@given(
    st.lists(st.integers(1, 4), max_size=5),
    st.integers(0, 1000),
    st.floats(10, 200),
    st.floats(10, 200),
)
def test_small_spaces_are_as_brute_force_finds_them(
    cardinalities: list[int], seed: int, latency: float, memory: float
) -> None:
    evaluate, limits = additive(cardinalities, seed), {"latency": latency, "memory": memory}
    codes = list(itertools.product(*map(range, cardinalities)))
    everything = np.array(codes, np.int64).reshape(len(codes), len(cardinalities))
    costs = evaluate(everything)
    meets = {name: costs[name] <= limits[name] for name in limits}
    both = meets["latency"] & meets["memory"]

    found = preflight(cardinalities, evaluate, limits, generator())
    assert found.size == found.sampled == len(everything) == math.prod(cardinalities)
    for name, values in costs.items():
        seen = found.ranges[name]
        assert (seen.baseline, seen.minimum, seen.maximum) == (values[0], values.min(), values.max())
        assert seen.median == np.median(values)
        assert seen.exact
        assert evaluate(np.array([seen.cheapest]))[name][0] == values.min()
        assert found.shares[name] == meets[name].mean()
    assert found.share == both.mean()
    assert (found.feasible is not None) == both.any()
    if found.feasible is not None:
        assert all(evaluate(np.array([found.feasible]))[name][0] <= limits[name] for name in limits)
        assert found.nearest == found.feasible
        assert not found.excess
    else:
        at_nearest = {name: float(values[0]) for name, values in evaluate(np.array([found.nearest])).items()}
        over = {name: at_nearest[name] / limit - 1 for name, limit in limits.items() if at_nearest[name] > limit}
        assert found.excess == pytest.approx(over)
        assert sum(over.values()) == pytest.approx(violation(costs, limits).min())


def test_the_limits_of_a_space_without_decisions_hold_or_not() -> None:
    evaluate = additive([], 0)
    assert preflight([], evaluate, {"latency": 10.0}, generator()).feasible == ()
    assert preflight([], evaluate, {"latency": 8.0}, generator()).excess == {"latency": 0.25}


LARGE = [4] * 16


def test_a_tiny_feasible_part_of_a_large_space_is_found() -> None:
    evaluate = additive(LARGE, 1)
    best = [min(evaluate(one_decision(d, option))["latency"][0] for option in range(4)) for d in range(16)]
    base = evaluate(np.zeros((1, 16), np.int64))["latency"][0]
    least = base + sum(value - base for value in best)
    found = preflight(LARGE, evaluate, {"latency": least}, generator())
    assert found.size == 4**16 > ENUMERATED
    assert found.share == 0
    assert found.feasible is not None
    assert evaluate(np.array([found.feasible]))["latency"][0] == least
    assert not found.ranges["latency"].exact
    below = preflight(LARGE, evaluate, {"latency": least * 0.8}, generator())
    assert below.feasible is None
    assert below.excess == pytest.approx({"latency": 0.25})


def one_decision(decision: int, option: int) -> Codes:
    code = np.zeros((1, 16), np.int64)
    code[0, decision] = option
    return code


def test_a_minimum_that_is_known_is_taken_as_exact() -> None:
    evaluate = additive(LARGE, 2)
    cheapest = np.array([min(range(4), key=lambda o: evaluate(one_decision(d, o))["latency"][0]) for d in range(16)])
    found = preflight(LARGE, evaluate, {}, generator(), {"latency": cheapest})
    assert found.ranges["latency"].cheapest == tuple(cheapest)
    assert found.ranges["latency"].exact
    assert not found.ranges["memory"].exact
    assert found.feasible is not None
    assert found.share == 1.0


def test_samples_are_seeded() -> None:
    evaluate = additive(LARGE, 3)
    limits = {"latency": 400.0, "memory": 350.0}
    assert preflight(LARGE, evaluate, limits, generator()) == preflight(LARGE, evaluate, limits, generator())


def test_violation_adds_what_is_above_each_limit_as_a_fraction() -> None:
    costs = {"latency": np.array([1.0, 2.0, 3.0]), "memory": np.array([10.0, 5.0, 20.0])}
    assert violation(costs, {"latency": 2.0, "memory": 10.0}).tolist() == [0.0, 0.0, 1.5]
    assert violation(costs, {}).tolist() == [0.0, 0.0, 0.0]

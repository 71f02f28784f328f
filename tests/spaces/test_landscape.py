"""Landscapes: a slice of the space's own costs, and numbers that say how rocky it is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.spaces.networks import bottlenecks

from chipfit.errors import InvalidInput
from chipfit.estimate.estimator import SpaceCosts
from chipfit.estimate.store import default_estimator
from chipfit.graph.graph import Graph
from chipfit.spaces.landscape import landscape, terrain, widest
from chipfit.spaces.sizes import open_input_size, open_widths
from chipfit.targets import load_target

WIDTH, OTHER = "stage2.block1.expand.width", "stem.width"


@pytest.fixture(scope="module")
def space() -> Graph:
    return open_widths(bottlenecks(), groups={"stem": range(1, 21), "stage2.block1.expand": range(8, 97)})


@pytest.fixture(scope="module")
def prepared(space: Graph) -> SpaceCosts:
    return default_estimator(load_target("neural-engine")).prepare(space)


def test_a_landscape_is_what_each_code_costs(space: Graph, prepared: SpaceCosts) -> None:
    found = landscape(space, prepared, [WIDTH, OTHER])
    assert found.latency_s.shape == tuple(map(len, found.options))
    names = [decision.name for decision in space.decisions]
    generator = np.random.default_rng(0)
    for first, second in generator.integers(0, found.latency_s.shape, (20, 2)):
        code = [0, 0]
        code[names.index(WIDTH)], code[names.index(OTHER)] = found.options[0][first], found.options[1][second]
        costs = prepared.at(np.array([code]))
        assert found.latency_s[first, second] == costs.latency_s[0]
        assert found.macs[first, second] == costs.macs[0]


def test_the_lines_of_a_map_are_the_landscapes_of_its_decisions(space: Graph, prepared: SpaceCosts) -> None:
    both = landscape(space, prepared, [WIDTH, OTHER])
    for axis, name in enumerate((WIDTH, OTHER)):
        alone = landscape(space, prepared, [name])
        np.testing.assert_array_equal(both.line(axis)[0], alone.latency_s)
        np.testing.assert_array_equal(both.line(axis)[1], alone.macs)
        assert alone.labels(0) == both.labels(axis) == sorted(both.labels(axis))  # type: ignore[type-var]
        assert space.decisions[alone.decisions[0]].options[0] == alone.labels(0)[alone.given[0]]


def test_macs_are_smooth_and_a_chip_has_plateaus(space: Graph, prepared: SpaceCosts) -> None:
    latency, macs = landscape(space, prepared, [WIDTH]).line(0)
    smooth, rocky = terrain(macs, macs), terrain(latency, macs)
    assert (smooth.roughness, smooth.falling, smooth.concordance) == (0.0, 0.0, 1.0)
    assert rocky.flat > 0.9 > smooth.flat


def test_the_decision_that_changes_latency_most(space: Graph, prepared: SpaceCosts) -> None:
    spans = {name: np.ptp(landscape(space, prepared, [name]).latency_s) for name in (WIDTH, OTHER)}
    assert widest(space, prepared) == max(spans, key=lambda name: spans[name])


def test_options_stand_in_the_order_of_what_they_give() -> None:
    graph = open_input_size(bottlenecks(), [8, 24, 12])
    prepared = default_estimator(load_target("neural-engine")).prepare(graph)
    assert landscape(graph, prepared, ["input.size"]).labels(0) == [8, 12, 16, 24]


def test_terrains_by_hand() -> None:
    stairs = terrain([1, 1, 1, 2, 2, 3], range(6))
    assert (stairs.roughness, stairs.falling, stairs.flat) == (0.0, 0.0, 0.6)
    assert stairs.concordance == pytest.approx(11 / 15)
    tooth = terrain([1, 3, 2, 4], range(4))
    assert tooth.roughness == pytest.approx(5 / 3 - 1)
    assert (tooth.falling, tooth.flat, tooth.concordance) == (pytest.approx(1 / 3), 0.0, pytest.approx(5 / 6))


@pytest.mark.parametrize("cost", [[], [2.0], [0.1 + 0.2, 0.3, 0.3]])
def test_what_never_changes_is_flat(cost: list[float]) -> None:
    found = terrain(cost, range(len(cost)))
    assert (found.roughness, found.falling, found.flat, found.concordance) == (0.0, 0.0, 1.0, 0.0)


@given(st.lists(st.integers(0, 50), min_size=2, max_size=12, unique=True))
def test_only_what_turns_back_is_rough(values: list[int]) -> None:
    found, sorted_ = terrain(values, range(len(values))), terrain(sorted(values), range(len(values)))
    assert sorted_.roughness == sorted_.falling == 0.0
    assert sorted_.concordance == 1.0
    assert (found.falling == 0) == (values == sorted(values)) == (found.concordance == 1.0)
    assert (found.roughness < 1e-9) == (values in (sorted(values), sorted(values, reverse=True)))


def test_what_cannot_be_shown_is_refused(space: Graph, prepared: SpaceCosts) -> None:
    with pytest.raises(InvalidInput, match=r"no decision 'depth'; the space has stem.width"):
        landscape(space, prepared, ["depth"])
    for names in ([], [WIDTH, WIDTH]):
        with pytest.raises(InvalidInput, match="one or two different decisions"):
            landscape(space, prepared, names)
    with pytest.raises(InvalidInput, match="in the order of capacity"):
        terrain([1, 2], [2, 1])
    with pytest.raises(InvalidInput, match="no decision is open"):
        widest(bottlenecks(), prepared)

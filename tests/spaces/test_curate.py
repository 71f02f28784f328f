"""Curation: what is left costs what it did, nothing worth offering goes, nothing dominated stays."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.spaces.networks import NETWORKS, bottlenecks, random_code

from chipfit.errors import InvalidInput
from chipfit.estimate.estimator import Estimator
from chipfit.estimate.store import default_estimator
from chipfit.graph.graph import Graph, Input
from chipfit.graph.rewrite import restrict
from chipfit.graph.values import Decision
from chipfit.spaces.curate import Curated, Reason, curate, listed, monotone, multiples
from chipfit.spaces.edits import open_space
from chipfit.spaces.sizes import open_depth_multiplier, open_widths
from chipfit.spaces.structure import fuse_inverted_bottlenecks
from chipfit.targets import load_target

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Given:
    """Tables as a test writes them."""

    quantities: Mapping[str, list[tuple[tuple[int, ...], Floats]]]

    def tables(self, quantity: str) -> list[tuple[tuple[int, ...], Floats]]:
        return self.quantities[quantity]

    def total(self, quantity: str, code: Sequence[int]) -> float:
        return sum(float(values[tuple(code[axis] for axis in axes)]) for axes, values in self.quantities[quantity])

    def taken(self, kept: Sequence[Sequence[int]]) -> Given:
        return Given(
            {
                name: [(axes, values[np.ix_(*(kept[axis] for axis in axes))]) for axes, values in tables]
                for name, tables in self.quantities.items()
            }
        )


def space(*options: Sequence[int]) -> Graph:
    decisions = tuple(Decision(f"width{index}", tuple(counts)) for index, counts in enumerate(options))
    return Graph((Input("input", (1, 3, 8, 8)),), (), ("input",), decisions)


def pairs(costs: Floats, first: Sequence[int], second: Sequence[int]) -> Given:
    """A layer between two widths, with the MACs and parameters that such a layer has."""
    sizes = np.outer(first, second).astype(np.float64)
    return Given({"latency_s": [((0, 1), costs)], "macs": [((0, 1), 64 * sizes)], "parameters": [((0, 1), sizes)]})


def staircase(first: Sequence[int], second: Sequence[int], step: int = 16) -> Given:
    tiles = np.outer(-(-np.asarray(first) // step), -(-np.asarray(second) // step))
    return pairs(tiles.astype(np.float64), first, second)


def offered(curated: Curated, decision: int) -> list[int | float | str]:
    return sorted(curated.space.decisions[decision].options)  # type: ignore[type-var]


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return default_estimator(load_target("neural-engine"))


@pytest.fixture(scope="module")
def opened() -> Graph:
    """Every channel count of three groups, a fusion and a multiplier."""
    graph = fuse_inverted_bottlenecks(bottlenecks())
    ranges = {"stem": range(4, 21), "stage1.block1.expand": range(4, 41), "stage2.block1.expand": range(8, 60)}
    return open_widths(graph, groups=ranges)


def test_a_staircase_keeps_the_top_of_each_plateau_and_the_network_as_given() -> None:
    first, second = (24, *range(1, 24), *range(25, 65)), (32, *range(1, 32), *range(33, 49))
    curated = curate(space(first, second), staircase(first, second))
    assert offered(curated, 0) == [16, 24, 32, 48, 64]
    assert offered(curated, 1) == [16, 32, 48]
    assert curated.space.decisions[0].options[0] == 24
    assert "17 to 23, 25 to 31: no faster than 32" in curated.reasons()["width0"]
    assert "33 to 47: no faster than 48" in curated.reasons()["width1"]


def test_every_removed_option_is_named_with_a_larger_one_and_a_reason() -> None:
    first, second = (32, *range(1, 32)), (32, *range(1, 32))
    curated = curate(space(first, second), staircase(first, second), most=2)
    for index, decision in enumerate(curated.given.decisions):
        own = [item for item in curated.removed if item.decision == index]
        assert sorted([*(item.option for item in own), *curated.kept[index]]) == list(range(len(decision)))
        assert all(decision.options[item.option] < decision.options[item.instead] for item in own)  # type: ignore[operator]
    assert all(item.reason in Reason for item in curated.removed)


def test_what_costs_more_than_a_larger_option_goes_with_that_reason() -> None:
    first, second = (64, 67, 68), (8, 16)
    costs = np.array([[10.0, 20.0], [15.0, 30.0], [13.0, 27.0]])
    curated = curate(space(first, second), pairs(costs, first, second))
    assert offered(curated, 0) == [64, 68]
    assert curated.reasons()["width0"] == ("67: slower than 68",)


def test_plateaus_are_found_over_the_options_that_neighbours_still_offer() -> None:
    # 24 is worth its cost only beside 9 channels, and 9 channels are never worth theirs.
    first, second = (16, 24, 32), (8, 9, 16)
    costs = np.array([[4.0, 5.0, 4.5], [8.0, 6.0, 8.5], [8.0, 9.0, 8.5]])
    costs[:, 1] += 10
    curated = curate(space(first, second), pairs(costs, first, second), tolerance=0.0, free=0.0, safe=True)
    assert 9 not in offered(curated, 1)
    assert offered(curated, 0) == [16, 32]


def test_options_that_are_better_only_now_and_then_stay_when_it_must_be_safe() -> None:
    first, second = (16, 24, 32), (8, 64)
    costs = np.array([[4.0, 40.0], [8.0, 70.0], [8.5, 60.0]])
    given = pairs(costs, first, second)
    assert offered(curate(space(first, second), given, free=0.0, safe=True), 0) == [16, 24, 32]
    curated = curate(space(first, second), given, free=0.0)
    assert offered(curated, 0) == [16, 32]
    assert curated.reasons()["width0"] == ("24: slower than 32",)


costs = st.lists(st.integers(1, 12), min_size=5 * 4, max_size=5 * 4)


@settings(max_examples=60)
@given(costs, costs)
def test_safe_curation_loses_no_network(lower: list[int], upper: list[int]) -> None:
    widths = (16, 4, 8, 24, 32), (8, 4, 12, 16), (16, 4, 8, 24, 32)
    tables = Given(
        {
            "latency_s": [((0, 1), np.reshape(lower, (5, 4)) * 1.0), ((1, 2), np.reshape(upper, (5, 4)).T * 1.0)],
            **{
                name: [((0, 1), np.outer(widths[0], widths[1]) * 1.0), ((1, 2), np.outer(widths[1], widths[2]) * 1.0)]
                for name in ("macs", "parameters")
            },
        }
    )
    curated = curate(space(*widths), tables, tolerance=0.0, free=0.0, safe=True)
    left = [(tables.total("latency_s", c), tables.total("macs", c)) for c in itertools.product(*curated.kept)]
    for code in itertools.product(range(5), range(4), range(5)):
        cost, size = tables.total("latency_s", code), tables.total("macs", code)
        assert any(other <= cost and more >= size for other, more in left)


@settings(max_examples=60)
@given(costs, st.integers(2, 4), st.booleans())
def test_curation_of_a_curated_space_changes_nothing(lower: list[int], most: int, safe: bool) -> None:
    first, second = (16, 4, 8, 24, 32), (8, 4, 12, 16)
    tables = pairs(np.reshape(lower, (5, 4)) * 1.0, first, second)
    curated = curate(space(first, second), tables, most=most, safe=safe)
    again = curate(curated.space, tables.taken(curated.kept), most=most, safe=safe)
    assert again.removed == ()
    assert again.space == curated.space
    assert all(len(kept) <= most and kept[0] == 0 for kept in curated.kept)


@settings(max_examples=60)
@given(costs)
def test_average_cost_rises_with_capacity_except_through_the_network_as_given(lower: list[int]) -> None:
    first, second = (16, 4, 8, 24, 32), (8, 4, 12, 16)
    curated = curate(space(first, second), pairs(np.reshape(lower, (5, 4)) * 1.0, first, second))
    left = np.reshape(lower, (5, 4))[np.ix_(*curated.kept)]
    for options, average in ((first, left.mean(axis=1)), (second, left.mean(axis=0))):
        kept = curated.kept[0] if options is first else curated.kept[1]
        steps = sorted((options[index], value) for index, value in zip(kept, average, strict=True) if index)
        assert all(more > less for (_, less), (_, more) in itertools.pairwise(steps))


def test_huge_ranges_are_thinned_to_steps_that_grow_with_cost() -> None:
    first, second = tuple(range(512, 1, -1)), (16, 32)
    curated = curate(space(first, second), pairs(np.outer(first, second) * 1.0, first, second), most=9)
    left = offered(curated, 0)
    assert len(left) == 9
    assert (left[0], left[-1]) == (2, 512)
    steps = np.diff(np.array(left, dtype=float))
    assert (np.diff(steps) > 0).all()
    assert steps.max() < 512 / 3
    assert any("too near to" in sentence for sentence in curated.reasons()["width0"])


def test_crowded_decisions_keep_levels_in_proportion_to_what_their_costs_span() -> None:
    widths = tuple(range(64, 0, -1))
    few = (4, 3, 2, 1)
    sizes = [np.array(widths) * 1.0, np.array(widths) * 0.4, np.array(widths) * 0.01, np.array(few) * 0.01]
    tables = Given(
        {name: [((axis,), part) for axis, part in enumerate(sizes)] for name in ("latency_s", "macs", "parameters")}
    )
    curated = curate(space(widths, widths, widths, few), tables, tolerance=0.0, most=5)
    assert [len(kept) for kept in curated.kept] == [5, 2, 2, 4]
    assert all(offered(curated, axis)[0] == 1 for axis in range(4))  # the ends always stay
    raised = (32, *range(64, 32, -1), *range(31, 0, -1))
    one = [((0,), np.array(raised) * 1.0)]
    ends = curate(space(raised), Given(dict.fromkeys(("latency_s", "macs", "parameters"), one)), 0.0, most=3)
    assert offered(ends, 0) == [1, 32, 64]


def test_options_that_are_no_numbers_are_never_thinned() -> None:
    names = Graph((Input("input", (1, 3, 8, 8)),), (), ("input",), (Decision("kind", tuple("abcd")),))
    values = {"latency_s": np.arange(1.0, 5), "macs": np.arange(2.0, 6), "parameters": np.ones(4)}
    tables = Given({name: [((0,), each)] for name, each in values.items()})
    assert curate(names, tables, most=2).kept == ((0, 3, 2, 1),)


def test_neighbouring_options_are_alike(opened: Graph, estimator: Estimator) -> None:
    tables = estimator.prepare(opened).tables
    assert tables is not None
    for decision in curate(opened, tables).space.decisions:
        assert isinstance(decision.options[0], str) or list(decision.options[1:]) == sorted(
            decision.options[1:], reverse=True
        )


@settings(max_examples=40)
@given(st.lists(st.integers(1, 40), min_size=8, max_size=8), st.integers(0, 10_000), st.integers(2, 8))
def test_what_no_decision_changes_makes_no_difference(values: list[int], fixed: int, most: int) -> None:
    widths = (32, *range(4, 32, 4))
    sizes = [((0,), np.array(widths) * 1.0)]

    def kept(more: int) -> tuple[tuple[int, ...], ...]:
        latency = [((0,), np.array(values) * 1.0 + more)]
        tables = Given({"latency_s": latency, "macs": sizes, "parameters": sizes})
        return curate(space(widths), tables, tolerance=0.0, most=most).kept

    assert kept(fixed) == kept(0)


def test_a_plateau_that_rises_a_little_is_one_and_a_slope_is_none() -> None:
    widths = tuple(range(64, 0, -1))
    sizes = np.array(widths) * 1.0
    tiles = -(-sizes // 16)
    for latency, expected in ((tiles + 0.005 * sizes, [16, 32, 48, 64]), (sizes, list(range(1, 65)))):
        tables = Given({name: [((0,), sizes)] for name in ("macs", "parameters")} | {"latency_s": [((0,), latency)]})
        assert offered(curate(space(widths), tables, tolerance=0.0, most=64), 0) == expected


def test_options_of_equal_size_are_left_alone() -> None:
    first, second = (16, 16, 16), (8, 16)
    given = pairs(np.array([[3.0, 6.0], [2.0, 5.0], [2.0, 5.0]]), first, second)
    assert len(curate(space(first, second), given).kept[0]) == 3


def test_curated_networks_are_networks_of_the_space_and_cost_the_same(opened: Graph, estimator: Estimator) -> None:
    prepared = estimator.prepare(opened)
    assert prepared.tables is not None
    curated = curate(opened, prepared.tables)
    assert 1 < curated.size < np.prod([float(count) for count in opened.cardinalities]) / 100
    generator = np.random.default_rng(0)
    codes = np.array([[0] * len(curated.kept), *(random_code(curated.space, generator) for _ in range(40))])
    full = curated.full(codes)
    assert not full[0].any()
    found, expected = estimator.prepare(curated.space).at(codes), prepared.at(full)
    np.testing.assert_allclose(found.latency_s, expected.latency_s, rtol=1e-12)
    np.testing.assert_array_equal(found.peak_bytes, expected.peak_bytes)
    np.testing.assert_array_equal(found.parameters, expected.parameters)
    for code, other in zip(codes[:8], full[:8], strict=True):
        assert curated.space.close(code) == opened.close(other)


def test_the_lanes_of_a_chip_are_learnt_from_its_estimator_alone(estimator: Estimator) -> None:
    graph = open_widths(bottlenecks(), groups={"stage2.block1.expand": range(8, 97)})
    prepared = estimator.prepare(graph)
    assert prepared.tables is not None
    curated = curate(graph, prepared.tables, most=6)
    assert offered(curated, 0) == [16, 32, 48, 64, 80, 96]


def test_curating_the_curated_space_of_an_estimator_changes_nothing(opened: Graph, estimator: Estimator) -> None:
    tables = estimator.prepare(opened).tables
    assert tables is not None
    curated = curate(opened, tables)
    again = estimator.prepare(curated.space).tables
    assert again is not None
    assert curate(curated.space, again).removed == ()


@pytest.mark.parametrize("name", NETWORKS)
def test_restricting_to_everything_is_the_same_space(name: str) -> None:
    graph = open_widths(NETWORKS[name]())
    assert restrict(graph, {item.name: range(len(item)) for item in graph.decisions}) == graph
    assert restrict(graph, {}) == graph


def test_restricting_to_the_network_as_given_closes_it() -> None:
    graph = open_space(bottlenecks(), {"fuse": True, "width": True, "depth_multiplier": True})
    closed = restrict(graph, {item.name: [0] for item in graph.decisions})
    assert closed.cardinalities == (1,) * len(graph.decisions)
    code = [0] * len(graph.decisions)
    assert closed.close(code) == graph.close(code)


def test_restricted_codes_stand_for_those_of_the_options_that_were_kept() -> None:
    graph = open_depth_multiplier(open_widths(bottlenecks()))
    kept = {item.name: [0, len(item) - 1] for item in graph.decisions}
    left = restrict(graph, kept)
    generator = np.random.default_rng(1)
    for _ in range(10):
        code = random_code(left, generator)
        full = [kept[item.name][option] for item, option in zip(graph.decisions, code, strict=True)]
        assert left.close(code) == graph.close(full)


@pytest.mark.parametrize("indices", [[], [1], [1, 0], [0, 0], [0, 9], [0, -1]])
def test_indices_that_do_not_fit_are_refused(indices: list[int]) -> None:
    with pytest.raises(InvalidInput, match=r"width0: kept options .* 0 first"):
        restrict(space((1, 2, 3)), {"width0": indices})


def test_unknown_decisions_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"no decision 'width9'; the space has width0"):
        restrict(space((1, 2, 3)), {"width9": [0]})


def test_options_by_hand() -> None:
    decision = Decision("width", (24, *range(1, 65)))
    assert [decision.options[i] for i in multiples(decision, 16)] == [24, 16, 32, 48, 64]
    assert [decision.options[i] for i in listed(decision, [8, 64])] == [24, 8, 64]
    assert monotone((24, 16, 32, 48), (5.0, 4.0, 5.0, 4.5)) == (0, 1, 3)
    assert monotone((24, 16, 32, 48), (5.0, 4.0, 5.0, 6.0)) == (0, 1, 2, 3)
    assert monotone((32, 16, 24, 48), (5.0, 4.0, 4.98, 6.0), tolerance=0.02) == (0, 1, 3)


def test_options_by_hand_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(InvalidInput, match="width has no option 5; it offers 1, 2"):
        listed(Decision("width", (1, 2)), [5])
    with pytest.raises(InvalidInput, match="fuse: multiples of 8 need whole numbers"):
        multiples(Decision("fuse", ("no", "yes")), 8)
    with pytest.raises(InvalidInput, match="one capacity and one cost"):
        monotone((1.0,), ())
    with pytest.raises(InvalidInput, match=r"at least 2 options, got 0.001, 0.15 and 1"):
        curate(space((1, 2)), Given({}), most=1)

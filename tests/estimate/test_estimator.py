"""Batch equals one by one, the whole equals the sum of its parts, and nothing is left out silently."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from tests.graph.strategies import codes_of, spaces

from chipfit.errors import InvalidGraph
from chipfit.estimate import accumulate
from chipfit.estimate.accumulate import QUANTITIES, Costs
from chipfit.estimate.rows import Rows
from chipfit.graph.build import Builder, conv_bn_act, inverted_bottleneck
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Opaque
from chipfit.graph.subgraphs import cut
from chipfit.graph.values import choose
from chipfit.nets.zoo import ds_cnn, mobilenet_v2, resnet8
from chipfit.targets import variant

LIMITS = settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def assert_same(found: Costs, expected: Costs) -> None:
    for item in fields(Costs):
        np.testing.assert_allclose(
            getattr(found, item.name), getattr(expected, item.name), rtol=1e-9, err_msg=item.name
        )


def one_by_one(estimator, graph, codes) -> Costs:
    return accumulate.joined([estimator.costs(graph.close(code)) for code in codes])


@LIMITS
@given(graph=spaces())
def test_a_space_costs_what_its_networks_cost_closed(corrected, graph):
    codes = codes_of(graph)[:: max(1, len(codes_of(graph)) // 8)]
    expected = one_by_one(corrected, graph, codes)
    assert_same(corrected.prepare(graph).at(codes), expected)
    assert_same(corrected.costs(graph, codes), expected)


@LIMITS
@given(graph=spaces())
def test_the_cheapest_network_is_found_from_the_tables(estimator, graph):
    space, codes = estimator.prepare(graph), codes_of(graph)
    costs = space.at(codes)
    for quantity in QUANTITIES:
        found = space.minimum(quantity)
        assert found.exact
        assert found.value == pytest.approx(getattr(costs, quantity).min(), rel=1e-9)
        assert getattr(space.at(found.code[None]), quantity)[0] == pytest.approx(found.value, rel=1e-9)
    np.testing.assert_allclose(space.latency_s(codes), costs.latency_s, rtol=1e-12)


def _space() -> Graph:
    b = Builder()
    widths = tuple(choose(b.decide(f"w{index}", (16, 24, 33)), (16, 24, 33)) for index in range(3))
    x = conv_bn_act(b, b.input("input", (1, 3, 32, 32)), widths[0], stride=2, key="stem")
    x = inverted_bottleneck(b, x, widths[1], expansion=4, key="block1")
    skipped = conv_bn_act(b, x, widths[1], key="extra")
    x = b.select(choose(b.decide("skip", ("keep", "skip")), (0, 1)), [skipped, x], key="select")
    return b.graph(conv_bn_act(b, x, widths[2], kernel=1, key="head"))


def test_too_large_tables_give_way_to_the_same_numbers(corrected, monkeypatch, generator):
    graph = _space()
    codes = generator.integers(0, graph.cardinalities, (50, len(graph.decisions)))
    expected = corrected.prepare(graph).at(codes)
    # A row of the space depends on two widths: 9 combinations; 4 codes at a time are 4.
    monkeypatch.setattr(accumulate, "LARGEST_ENUMERATION", 5)
    monkeypatch.setattr(accumulate, "CHUNK", 4)
    monkeypatch.setattr("chipfit.estimate.estimator.SEARCHED", 12)
    space = corrected.prepare(graph)
    assert space.tables is None
    assert_same(space.at(codes), expected)
    np.testing.assert_allclose(space.latency_s(codes), expected.latency_s, rtol=1e-9)
    found = space.minimum("energy_j")
    assert not found.exact
    assert found.bound <= found.value == pytest.approx(space.at(found.code[None]).energy_j[0])


def test_no_codes_have_no_costs(estimator):
    graph = _space()
    none = np.zeros((0, len(graph.decisions)), np.int64)
    assert len(estimator.costs(graph, none)) == len(estimator.prepare(graph).at(none)) == 0


@pytest.mark.parametrize("graph", [resnet8(), ds_cnn(), mobilenet_v2(0.35, 96)])
def test_a_network_is_the_sum_of_its_rows(corrected, graph):
    costs, rows = corrected.costs(graph), corrected.by_layer(graph)
    assert sum(row.latency_s for row in rows) == pytest.approx(costs.latency_s[0])
    assert sum(row.energy_j for row in rows) == pytest.approx(costs.energy_j[0])
    assert sum(row.macs for row in rows) == costs.macs[0]
    assert sum(row.weight_bytes for row in rows) == costs.weight_bytes[0]
    assert sum(row.share for row in rows) == pytest.approx(1)
    independent = np.sqrt(sum(row.spread_s**2 for row in rows))
    assert costs.spread_s[0] == pytest.approx(np.hypot(independent, corrected.systematic * costs.latency_s[0]))
    assert all(row.in_range for row in rows)
    assert costs.in_range[0]
    assert not corrected.unsupported(graph)


def test_utilisation_is_a_share_of_the_array(estimator):
    rows = estimator.by_layer(mobilenet_v2())
    assert all(0 <= row.utilisation <= 1 for row in rows)
    assert {row.bound for row in rows} <= {"compute", "on_chip", "dram", "overhead"}
    by_kind = {kind: max(row.utilisation for row in rows if row.kind == kind) for kind in ("conv", "depthwise")}
    assert by_kind["depthwise"] < 0.1 < by_kind["conv"]


def test_a_row_costs_the_same_in_any_batch(corrected):
    rows = Rows.of_workloads([subgraph.workload for subgraph in cut(mobilenet_v2(), corrected.target.fuses)])
    together = corrected.predict(rows)
    for index in range(len(rows)):
        alone = corrected.predict(rows.take(slice(index, index + 1)))
        assert alone.latency_s[0] == pytest.approx(together.latency_s[index], rel=1e-12)
        assert alone.spread_s[0] == pytest.approx(together.spread_s[index], rel=1e-12)


def test_memory_is_counted(estimator):
    b = Builder()
    x = b.conv(b.input("input", (1, 3, 8, 8)), 16, kernel=3, bias=True, key="first")
    graph = b.graph(b.conv(x, 5, bias=False, key="second"))
    costs = estimator.costs(graph)
    assert costs.weight_bytes[0] == 16 * 3 * 9 + 16 * 4 + 5 * 16
    assert costs.parameters[0] == 16 * 3 * 9 + 16 + 5 * 16
    assert costs.peak_bytes[0] == 8 * 8 * (16 + 5)
    wide = replace(estimator, precision_name="int16x8")
    assert wide.costs(graph).peak_bytes[0] == 2 * 8 * 8 * (16 + 5)
    assert wide.costs(graph).weight_bytes[0] == 16 * 3 * 9 + 16 * 8 + 5 * 16


def _with_opaque() -> Graph:
    b = Builder()
    x = conv_bn_act(b, b.input("input", (1, 3, 16, 16)), 16, key="first")
    x = b.add(Opaque("GridSample", (1, 16, 16, 16)), x, key="warp")
    return b.graph(conv_bn_act(b, x, 16, key="second"))


def test_what_the_target_cannot_run_is_reported_and_left_out(estimator):
    graph = _with_opaque()
    (gap,) = estimator.unsupported(graph)
    assert (gap.node, gap.operator) == ("warp", "GridSample")
    assert gap.why
    assert gap.remedy
    rows = estimator.by_layer(graph)
    assert [row.name for row in rows] == ["first", "second"]
    assert estimator.costs(graph).latency_s[0] == pytest.approx(sum(row.latency_s for row in rows))
    assert_same(estimator.prepare(graph).at(np.zeros((1, 0), np.int64)), estimator.costs(graph))


def test_a_kind_that_the_target_lacks_is_reported(estimator, target):
    poorer = replace(estimator, target=variant(target, {"unsupported": ["opaque", "depthwise"]}))
    gaps = poorer.unsupported(ds_cnn())
    assert len(gaps) == 4
    assert {gap.operator for gap in gaps} == {"Conv2d"}
    assert "depthwise" in gaps[0].why
    assert poorer.costs(ds_cnn()).latency_s[0] < estimator.costs(ds_cnn()).latency_s[0]
    assert poorer.costs(ds_cnn()).weight_bytes[0] == estimator.costs(ds_cnn()).weight_bytes[0]


def test_what_lies_outside_the_measurements_is_flagged(estimator):
    b = Builder()
    x = b.conv(b.input("input", (1, 3, 64, 64)), 8, key="usual")
    graph = b.graph(b.conv(x, 20_000, kernel=1, key="huge"))
    usual, huge = estimator.by_layer(graph)
    assert usual.in_range
    assert not huge.in_range
    assert huge.spread_s / huge.latency_s > usual.spread_s / usual.latency_s
    assert not estimator.costs(graph).in_range[0]
    assert not estimator.prepare(graph).at(np.zeros((1, 0), np.int64)).in_range[0]


def test_an_open_graph_needs_codes(estimator):
    with pytest.raises(InvalidGraph, match="4 open decisions"):
        estimator.costs(_space())
    with pytest.raises(InvalidGraph, match="4 open decisions"):
        estimator.by_layer(_space())

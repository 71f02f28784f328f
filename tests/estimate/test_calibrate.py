"""A board that differs from the estimator is found from whole networks; what they do not tell stays as it was."""

from dataclasses import replace

import numpy as np
import pytest
from tests.estimate.test_estimator import _space as open_network
from tests.estimate.test_estimator import assert_same, one_by_one

from chipfit.errors import InvalidGraph, InvalidInput
from chipfit.estimate.calibrate import LEAST_NETWORKS, calibrate
from chipfit.estimate.calibration import Calibration, extras
from chipfit.estimate.estimator import Estimator
from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.rows import KIND_CODES, Rows
from chipfit.estimate.store import load_estimator, save_estimator
from chipfit.graph.graph import Graph
from chipfit.graph.subgraphs import cut
from chipfit.graph.workload import WORKLOAD_KINDS
from chipfit.measure.measurement import Source
from chipfit.measure.simulator import simulate
from chipfit.nets.zoo import ds_cnn, mobilenet_v2, resnet8
from chipfit.targets import variant

BOARD = Source("measured", "board timer", "1.0", "2026-11-24")


@pytest.fixture(scope="module")
def networks() -> list[Graph]:
    return random_networks(60, np.random.default_rng(3))


def predicted(estimator: Estimator, graphs: list[Graph]) -> np.ndarray:
    return np.array([estimator.costs(graph).latency_s[0] for graph in graphs])


def board_s(estimator: Estimator, graph: Graph, factors: dict[str, float], subgraph_s: float) -> float:
    """What a network takes on a board that runs some kinds slower and needs time to start each subgraph."""
    rows = Rows.of_workloads([part.workload for part in cut(graph, estimator.target.fuses)])
    scale = np.array([factors.get(kind, 1.0) for kind in WORKLOAD_KINDS])[rows.kinds]
    return float((scale * estimator.predict(rows).latency_s).sum() + subgraph_s * len(rows))


def test_a_board_is_found_that_runs_kinds_slower_and_starts_slowly(estimator, networks):
    taken = np.array([board_s(estimator, graph, {"depthwise": 4.0, "conv": 1.5}, 2e-5) for graph in networks])
    found = calibrate(estimator, networks[:40], taken[:40], BOARD)
    before = np.abs(predicted(estimator, networks[40:]) / taken[40:] - 1)
    after = np.abs(predicted(found, networks[40:]) / taken[40:] - 1)
    assert np.median(after) < 0.01 < 0.2 < np.median(before)
    factors = np.array(found.calibration.factors)
    assert factors[KIND_CODES["depthwise"]] == pytest.approx(4, rel=0.1)
    assert found.calibration.extras_s[0] == pytest.approx(2e-5, rel=0.1)
    assert found.calibration.median_error < 0.02 < found.calibration.median_error_before


def test_a_common_factor_is_all_that_is_learnt_where_nothing_else_differs(estimator, networks):
    found = calibrate(estimator, networks[:10], 3 * predicted(estimator, networks[:10]), BOARD)
    np.testing.assert_allclose(found.calibration.factors, 3, rtol=1e-6)
    np.testing.assert_allclose(found.calibration.extras_s, 0, atol=1e-15)
    np.testing.assert_allclose(predicted(found, networks), 3 * predicted(estimator, networks), rtol=1e-6)


def test_ten_noisy_networks_do_not_make_it_worse_than_a_common_factor(estimator, networks, generator):
    truth = predicted(estimator, networks)
    taken = truth * np.exp(0.1 * generator.standard_normal(len(truth)))
    found = calibrate(estimator, networks[:10], taken[:10], BOARD)
    assert np.median(np.abs(predicted(found, networks[10:]) / truth[10:] - 1)) < 0.12


def test_a_chip_unlike_its_description_is_nearer_the_more_networks_are_known(estimator, networks, target):
    chip = variant(target, {"depthwise.efficiency": 0.3, "memory.dram_bytes_per_s": 1e9, "overhead.layer_cycles": 4000})
    taken = np.array(
        [sum(item.latency_s for item in simulate(chip, [part.workload for part in cut(graph, chip.fuses)]))
         for graph in networks]
    )  # fmt: skip
    off = [np.median(np.abs(predicted(estimator, networks[40:]) / taken[40:] - 1))]
    for count in (10, 40):
        found = calibrate(estimator, networks[:count], taken[:count], BOARD)
        off.append(np.median(np.abs(predicted(found, networks[40:]) / taken[40:] - 1)))
    assert off[0] > 2 * off[1]
    assert off[1] > off[2]


def test_the_error_is_of_families_that_were_left_out(estimator, networks):
    """A family that runs slower for a reason of its own: single networks left out would hide it."""
    taken = predicted(estimator, networks)
    alike = ["odd" if number % 4 == 0 else f"usual {number % 3}" for number in range(len(networks))]
    taken[::4] *= 2
    by_family = calibrate(estimator, networks, taken, BOARD, alike)
    assert by_family.calibration.families == 4
    assert by_family.calibration.largest_error > 0.4
    assert by_family.calibration.networks == len(networks)
    odd_alone = calibrate(estimator, networks[::4], taken[::4], BOARD)
    assert odd_alone.calibration.largest_error < 0.01


def test_the_spread_holds_for_networks_that_were_not_measured(estimator, networks, generator):
    taken = predicted(estimator, networks) * np.exp(0.15 * generator.standard_normal(len(networks)))
    found = calibrate(estimator, networks[:30], taken[:30], BOARD)
    costs = [found.costs(graph) for graph in networks[30:]]
    latency_s, spread_s = (np.array([getattr(each, name)[0] for each in costs]) for name in ("latency_s", "spread_s"))
    assert 0.45 < (np.abs(latency_s - taken[30:]) <= spread_s).mean() < 0.95


def test_a_space_costs_what_its_networks_cost_closed(estimator, networks, generator):
    taken = np.array([board_s(estimator, graph, {"depthwise": 2.0}, 1e-5) for graph in networks[:20]])
    found = calibrate(estimator, networks[:20], taken, BOARD)
    graph = open_network()
    codes = generator.integers(0, graph.cardinalities, (20, len(graph.decisions)))
    assert_same(found.prepare(graph).at(codes), one_by_one(found, graph, codes))
    for closed in (resnet8(), ds_cnn(), mobilenet_v2(0.35, 96)):
        rows = found.by_layer(closed)
        assert sum(row.latency_s for row in rows) == pytest.approx(found.costs(closed).latency_s[0])
        assert all(row.latency_s > 0 for row in rows)


def test_a_file_keeps_a_calibration(estimator, networks, tmp_path):
    taken = np.array([board_s(estimator, graph, {"conv": 2.0}, 1e-5) for graph in networks[:12]])
    found = calibrate(estimator, networks[:12], taken, BOARD, [number // 2 for number in range(12)])
    save_estimator(tmp_path / "board.json", found)
    again = load_estimator(tmp_path / "board.json")
    assert again.calibration == found.calibration
    np.testing.assert_array_equal(predicted(again, networks[:5]), predicted(found, networks[:5]))
    save_estimator(tmp_path / "plain.json", estimator)
    assert load_estimator(tmp_path / "plain.json").calibration is None


def test_extras_are_counted(estimator):
    rows = Rows.of_workloads([part.workload for part in cut(resnet8(), estimator.target.fuses)])
    subgraphs, macs, _, parameters = extras(rows).sum(axis=0)
    assert subgraphs == len(rows)
    assert macs == estimator.costs(resnet8()).macs[0]
    assert 0 < parameters <= estimator.costs(resnet8()).parameters[0]


def test_what_cannot_be_calibrated_is_refused(estimator, networks):
    few, taken = networks[:8], predicted(estimator, networks[:8])
    wrong = (
        (few[: LEAST_NETWORKS - 1], taken[: LEAST_NETWORKS - 1], None, "too few"),
        (few, taken[:-1], None, "one for each"),
        (few, taken, ["a"] * 8, "one family"),
        (few, taken, ["a", "b"], "one for each"),
        (few, np.where(np.arange(8) == 3, 0, taken), None, "network 3 took 0"),
    )
    for graphs, latency_s, families, message in wrong:
        with pytest.raises(InvalidInput, match=message):
            calibrate(estimator, graphs, latency_s, BOARD, families)
    with pytest.raises(InvalidGraph, match="open decisions"):
        calibrate(estimator, [open_network(), *few[1:]], taken, BOARD)
    poorer = replace(estimator, target=variant(estimator.target, {"unsupported": ["opaque", "depthwise"]}))
    with pytest.raises(InvalidInput, match="cannot run node"):
        calibrate(poorer, [ds_cnn(), *few[1:]], taken, BOARD)
    done = calibrate(estimator, few, taken, BOARD)
    with pytest.raises(InvalidInput, match="calibrated already"):
        calibrate(done, few, taken, BOARD)
    with pytest.raises(InvalidInput, match="not negative"):
        replace(done.calibration, extras_s=(-1.0, 0.0, 0.0, 0.0))
    with pytest.raises(InvalidInput, match="factors"):
        replace(done.calibration, factors=(1.0,))
    assert Calibration.from_json(done.calibration.as_json()) == done.calibration

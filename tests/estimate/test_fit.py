from dataclasses import fields, replace

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.estimate.fit import errors, fit, fit_measured, measure_samples, rank_correlation, shared_error
from chipfit.estimate.forest import Forest
from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.regress import Regression
from chipfit.estimate.sampling import sample
from chipfit.estimate.store import load_estimator, save_estimator
from chipfit.graph.subgraphs import cut
from chipfit.measure.measurement import Source
from chipfit.measure.simulator import Simulated, simulate, simulator
from chipfit.measure.table import Table, read_table, write_table
from chipfit.nets.zoo import ZOO, resnet8
from chipfit.targets import variant


def networks_and_truth(target, chip, count, seed):
    networks = random_networks(count, np.random.default_rng(seed))
    loads = [[subgraph.workload for subgraph in cut(graph, target.fuses)] for graph in networks]
    return networks, np.array([sum(item.latency_s for item in simulate(chip, each)) for each in loads])


def test_unseen_networks_are_predicted_within_a_percent(estimator, target):
    networks, truth = networks_and_truth(target, target, 40, 901)
    predicted = np.array([estimator.costs(graph).latency_s[0] for graph in networks])
    off = np.abs(predicted / truth - 1)
    assert np.median(off) < 0.01
    assert off.max() < 0.05
    assert rank_correlation(predicted, truth) >= 0.999


def test_a_wrong_description_is_corrected_by_the_measurements(corrected, estimator, target, chip):
    networks, truth = networks_and_truth(target, chip, 40, 902)
    costs = [corrected.costs(graph) for graph in networks]
    predicted = np.array([each.latency_s[0] for each in costs])
    believed = np.array([estimator.costs(graph).latency_s[0] for graph in networks])
    off = np.abs(predicted / truth - 1)
    assert np.median(off) < 0.02
    assert np.median(off) < 0.2 * np.median(np.abs(believed / truth - 1))
    spread = np.array([each.spread_s[0] for each in costs])
    assert 0.5 <= (np.abs(predicted - truth) <= spread).mean() <= 0.95


def test_the_spread_of_subgraphs_holds_for_two_of_three(corrected):
    covered = corrected.provenance.subgraph_errors.values()
    total = sum(each.count for each in covered)
    assert total > 300
    assert 0.6 <= sum(each.coverage * each.count for each in covered) / total <= 0.85


def test_the_zoo_is_in_range(estimator):
    for name, build in ZOO.items():
        assert estimator.costs(build()).in_range[0], name


def _arrays(regression):
    for item in fields(Regression):
        value = getattr(regression, item.name)
        yield from ((getattr(value, part.name) for part in fields(Forest)) if isinstance(value, Forest) else (value,))


def test_the_same_seed_fits_the_same(target, chip):
    first, second, other = (
        fit(target, Simulated(target, simulator(chip)), budget=400, seed=seed) for seed in (5, 5, 6)
    )
    for left, right in zip(_arrays(first.regression), _arrays(second.regression), strict=True):
        np.testing.assert_array_equal(left, right)
    assert first.provenance == second.provenance
    assert first.systematic == second.systematic
    assert not np.array_equal(first.regression.pieces, other.regression.pieces)


def test_provenance_says_what_was_measured(estimator):
    found = estimator.provenance
    assert (found.source.kind, found.source.tool) == ("simulated", "chipfit simulator")
    assert found.network_errors.count == 35
    held = sum(each.count for each in found.subgraph_errors.values())
    assert found.subgraphs > 0.85 * 1500 - 75
    assert held == pytest.approx(0.15 * 1500, rel=0.25)


def test_a_budget_that_is_too_small_is_refused(target):
    with pytest.raises(InvalidInput, match="at least 100"):
        fit(target, Simulated(target, simulator(target)), budget=99)


def test_tools_are_never_mixed(target):
    def mixed(workloads):
        found = simulate(target, workloads)
        return [replace(found[0], source=Source("measured", "board", "1")), *found[1:]]

    with pytest.raises(InvalidInput, match="several tools"):
        fit(target, Simulated(target, mixed), budget=400)


def test_a_table_that_was_written_and_read_fits_the_same(target, chip, tmp_path):
    table = measure_samples(target, Simulated(target, simulator(chip)), 400, 5)
    write_table(tmp_path / "board.csv", table)
    found = fit_measured(target, read_table(tmp_path / "board.csv"), seed=5)
    direct = fit(target, Simulated(target, simulator(chip)), budget=400, seed=5)
    for left, right in zip(_arrays(found.regression), _arrays(direct.regression), strict=True):
        np.testing.assert_array_equal(left, right)
    assert found.provenance == direct.provenance


def test_a_table_without_networks_gives_an_estimator_that_says_so(target, tmp_path):
    loads = [item.workload(target.fuses) for item in sample("conv", 150, np.random.default_rng(3), target.fuses)]
    table = Table(tuple(loads), tuple(simulate(target, loads)), (None,) * 150)
    found = fit_measured(target, table)
    assert found.provenance.network_errors is None
    assert found.systematic == 0
    assert set(found.provenance.counts) == {"conv"}
    save_estimator(tmp_path / "file.json", found)
    assert load_estimator(tmp_path / "file.json").provenance == found.provenance
    rows = found.by_layer(resnet8())
    assert all(row.kind == "conv" for row in rows if row.in_range)
    assert any(not row.in_range for row in rows)


def test_tables_that_cannot_be_learnt_from_are_refused(target):
    loads = [item.workload(target.fuses) for item in sample("conv", 120, np.random.default_rng(3), target.fuses)]
    found = simulate(target, loads)
    with pytest.raises(InvalidInput, match="20 measured subgraphs are too few"):
        fit_measured(target, Table(tuple(loads), tuple(found), (*[None] * 20, *range(100))))
    with pytest.raises(InvalidInput, match="cannot run"):
        fit_measured(
            variant(target, {"unsupported": ["opaque", "conv"]}), Table(tuple(loads), tuple(found), (None,) * 120)
        )
    stuck = (replace(found[0], latency_s=0.0), *found[1:])
    with pytest.raises(InvalidInput, match="latency of 0"):
        fit_measured(target, Table(tuple(loads), stuck, (None,) * 120))


def test_errors_are_relative_and_counted():
    found = errors(np.array([1.0, 2.2, 2.7]), np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.1, 0.4]))
    assert (found.count, found.spearman) == (3, 1.0)
    assert found.median == pytest.approx(0.1)
    assert found.largest == pytest.approx(0.1)
    assert found.coverage == pytest.approx(2 / 3)


def test_ranks_share_ties():
    assert rank_correlation(np.array([1.0, 2, 3]), np.array([3.0, 2, 1])) == pytest.approx(-1)
    assert rank_correlation(np.array([1.0, 1, 2, 3]), np.array([1.0, 1, 2, 3])) == pytest.approx(1)
    assert rank_correlation(np.array([1.0, 2, 3, 4]), np.array([1.0, 1, 2, 2])) == pytest.approx(0.8944, abs=1e-4)


def test_a_shared_error_covers_two_of_three_networks(generator):
    measured = np.exp(generator.uniform(0, 3, 400))
    shared = 0.03 * generator.standard_normal(400)
    variance = (0.01 * measured) ** 2
    predicted = measured * (1 + shared) + np.sqrt(variance) * generator.standard_normal(400)
    found = shared_error(predicted, measured, variance)
    assert found == pytest.approx(0.03, rel=0.2)
    assert shared_error(measured, measured, variance) == 0

from dataclasses import replace

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.estimate.choose import (
    Pool,
    choosing,
    chosen,
    chosen_networks,
    network_error,
    pool_of,
    specimen_of,
    unlike,
    unlike_all,
)
from chipfit.estimate.fit import fit_measured, measured_networks
from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.regress import regress
from chipfit.estimate.rows import Rows
from chipfit.graph.subgraphs import cut
from chipfit.measure.measurement import Failure, Run
from chipfit.measure.simulator import Simulated, simulate, simulator
from chipfit.measure.specimen import Largest


@pytest.fixture(scope="module")
def pool(target) -> Pool:
    return pool_of(random_networks(30, np.random.default_rng(4)), target)


def one(rows, place):
    return rows.take(slice(place, place + 1))


def test_specimens_ask_what_the_subgraphs_of_networks_ask(target):
    for graph in random_networks(20, np.random.default_rng(5)):
        for part in cut(graph, target.fuses):
            found = specimen_of(graph, part).workload(target.fuses)
            # Inside a network of its own a specimen reads no input and gives no output of it.
            assert found == part.workload._replace(plain_input=found.plain_input, plain_output=found.plain_output)


def test_a_pool_holds_every_subgraph_once(target, pool):
    graphs = random_networks(30, np.random.default_rng(4))
    loads = [[part.workload for part in cut(graph, target.fuses)] for graph in graphs]
    assert len(pool.uses) == sum(map(len, loads))
    assert len(set(pool.specimens)) == len(pool) < len(pool.uses)
    np.testing.assert_array_equal(np.bincount(pool.networks), [len(each) for each in loads])
    small = pool_of(graphs, target, Largest(tensor=10_000, weights=5_000))
    assert 0 < len(small) < len(pool)
    assert small.rows["in_elements"].max() <= 10_000
    assert small.rows["parameters"].max() <= 5_000


def test_shares_of_time_add_up_to_one(pool):
    latency_s = np.random.default_rng(0).uniform(1, 5, len(pool))
    shares = pool.shares(latency_s)
    assert shares.sum() == pytest.approx(1)
    expected = np.zeros(len(pool))
    for network in np.unique(pool.networks):
        own = pool.uses[pool.networks == network]
        np.add.at(expected, own, latency_s[own] / latency_s[own].sum() / 30)
    np.testing.assert_allclose(shares, expected)


def test_unlike_is_0_for_the_same_1_for_another_kind_and_grows_with_the_distance(pool):
    place = int(np.flatnonzero(pool.rows.kinds == 0)[0])
    found = unlike(pool.rows, one(pool.rows, place))
    assert found[place] == 0
    assert (found[pool.rows.kinds != 0] == 1).all()
    assert ((found >= 0) & (found <= 1)).all()
    wider = np.repeat(pool.rows.values[place][None], 4, axis=0)
    wider[:, 2] *= [1, 1.2, 2, 16]
    grown = unlike(Rows(np.zeros(4, np.int64), wider), one(pool.rows, place))
    assert (np.diff(grown) > 0).all()


def test_the_first_is_the_worthiest_and_no_two_are_the_same(pool):
    worth = np.random.default_rng(1).random(len(pool))
    found = chosen(pool.rows, worth, 40)
    assert found[0] == worth.argmax()
    assert len(set(found.tolist())) == 40
    np.testing.assert_array_equal(chosen(pool.rows, worth, 10), found[:10])
    assert len(chosen(pool.rows, np.zeros(len(pool)), 10)) == 0


def test_near_duplicates_wait(pool):
    place = int(np.flatnonzero(pool.rows.kinds == 0)[0])
    rows = Rows(np.zeros(3, np.int64), pool.rows.values[[place] * 3].copy())
    rows.values[1, 2] *= 1.05
    rows.values[2, 2:6] *= 32
    assert chosen(rows, np.array([1.0, 0.99, 0.3]), 2).tolist() == [0, 2]


def test_networks_are_chosen_within_the_room_that_is_left(pool):
    worth = np.random.default_rng(2).random(len(pool))
    found = chosen_networks(pool, worth, 100)
    sizes = [len(np.unique(pool.uses[pool.networks == network])) for network in range(len(pool.graphs))]
    means = [worth[np.unique(pool.uses[pool.networks == network])].mean() for network in range(len(pool.graphs))]
    assert found[0] == np.argmax(means)
    assert 1 < len(found) == len(set(found.tolist()))
    assert sum(sizes[place] for place in found) <= 100
    assert len(chosen_networks(pool, worth, 1)) == 1
    assert len(chosen_networks(pool, np.zeros(len(pool)), 100)) == 0


def test_unlike_all_is_the_product(pool):
    others = pool.rows.take(slice(3, 6))
    expected = np.prod([unlike(pool.rows, one(pool.rows, place)) for place in (3, 4, 5)], axis=0)
    np.testing.assert_allclose(unlike_all(pool.rows, others), expected)


def test_rounds_go_on_until_the_budget_is_spent(target, chip):
    rounds = list(choosing(target, Simulated(target, simulator(chip), whole=12), error=0, budget=150, seed=3))
    counts = [each.subgraphs for each in rounds]
    assert counts[-1] == 150
    assert (np.diff(counts) > 0).all()
    assert [each.stopped for each in rounds] == [None] * (len(rounds) - 1) + ["budget"]
    alone = [load for load, number in zip(rounds[-1].table.workloads, rounds[-1].table.networks, strict=True)
             if number is None]  # fmt: skip
    assert len(alone) == 150
    assert rounds[-1].held_out == len(set(rounds[-1].table.networks) - {None})
    assert fit_measured(target, rounds[-1].table).provenance.network_errors is not None
    again = list(choosing(target, Simulated(target, simulator(chip), whole=12), error=0, budget=150, seed=3))
    assert again[-1].table.workloads == rounds[-1].table.workloads
    assert [each.error for each in again] == [each.error for each in rounds]


def test_it_stops_where_the_error_is_small_enough(target):
    *before, last = choosing(target, Simulated(target, simulator(target), whole=12), error=0.3, budget=2000, seed=3)
    assert last.stopped == "error"
    assert last.error <= 0.3
    assert all(each.error > 0.3 or each.subgraphs < 100 for each in before)
    assert 100 <= last.subgraphs < 2000


def test_networks_without_parts_tell_the_error_too(target):
    class Totals(Simulated):
        def networks(self, models):
            return [Run(run.measurement, {}, {}) for run in super().networks(models)]

    tool = Simulated(target, simulator(target), whole=12)
    graphs = random_networks(8, np.random.default_rng(8))
    parts = measured_networks(target, tool, graphs)
    totals = measured_networks(target, Totals(target, tool.measure), graphs)
    assert len(totals) == 0
    rows = Rows.of_workloads(parts.workloads)
    latency_s = np.array([found.latency_s for found in parts.measurements])
    learnt = regress(target, target.precision(), rows, 2 * latency_s, None, np.random.default_rng(0))

    def predict(rows):
        return learnt.predict(target, target.precision(), rows)

    assert network_error(parts, predict) == pytest.approx(network_error(totals, predict))
    assert network_error(parts, predict) == pytest.approx(1, rel=0.2)


def test_what_cannot_be_measured_is_not_asked_for_again(target):
    asked = []

    class Broken(Simulated):
        def subgraphs(self, specimens):
            asked.extend(specimens)
            return [
                Failure("too wide") if item.inputs[0][1] % 8 else part
                for item, part in zip(specimens, super().subgraphs(specimens), strict=True)
            ]

    *_, last = choosing(target, Broken(target, simulator(target), whole=12), error=0, budget=120, seed=3)
    assert last.subgraphs == 120
    drawn = asked[48:]
    assert len(set(drawn)) == len(drawn)


def test_impossible_wishes_are_refused(target):
    tool = Simulated(target, simulator(target))
    with pytest.raises(InvalidInput, match="at least 100"):
        next(choosing(target, tool, error=0.1, budget=99))
    with pytest.raises(InvalidInput, match=r"fraction from 0 to 1, such as 0.02 for 2 %"):
        next(choosing(target, tool, error=2, budget=200))
    with pytest.raises(InvalidInput, match="none of the random networks"):
        next(choosing(target, replace(tool, whole=0), error=0.1, budget=200))


@pytest.mark.slow
def test_chosen_subgraphs_teach_more_than_drawn_ones(target, chip):
    """On networks that nothing was chosen or held out from."""
    fresh = measured_networks(
        target, Simulated(target, simulator(chip)), random_networks(80, np.random.default_rng(99))
    )
    off = {"chosen": [], "drawn": []}
    for seed in range(3):
        *_, last = choosing(target, Simulated(target, simulator(chip), whole=12), error=0, budget=400, seed=seed)
        alone = [load for load, number in zip(last.table.workloads, last.table.networks, strict=True) if number is None]
        generator = np.random.default_rng(seed)
        pool = pool_of(random_networks(400, generator), target)
        drawn = [pool.specimens[place].workload(target.fuses) for place in generator.permutation(len(pool))[:400]]
        for name, loads in (("chosen", alone), ("drawn", drawn)):
            rows, found = Rows.of_workloads(loads), simulate(chip, loads)
            latency_s = np.array([each.latency_s for each in found])
            learnt = regress(target, target.precision(), rows, latency_s, None, generator)
            off[name].append(network_error(fresh, lambda rows, by=learnt: by.predict(target, target.precision(), rows)))
    assert np.mean(off["chosen"]) < 0.8 * np.mean(off["drawn"])

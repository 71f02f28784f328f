"""What is measured decides, whatever the unit and the order; one bad figure does not; the spread is honest."""

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.estimate import transfer as module
from chipfit.estimate.transfer import Population, choose, population, transfer

NETWORKS, DEVICES = 400, 6


@pytest.fixture
def counts(generator) -> np.ndarray:
    """How often networks hold each of five operators."""
    return generator.integers(1, 12, (NETWORKS, 5)).astype(float)


@pytest.fixture
def prices(generator) -> np.ndarray:
    """What each of five operators takes on six known devices and a new one."""
    return generator.gamma(3.0, 1.0, (5, DEVICES + 1))


@pytest.fixture
def networks(counts, prices) -> Population:
    return population(counts, counts @ prices[:, :-1])


def off(predicted, truth, measured) -> float:
    """Median relative error on what was not measured."""
    return float(np.median(np.delete(np.abs(predicted / truth - 1), measured)))


def test_a_mixture_of_known_devices_is_found_from_few_networks(networks, counts, prices):
    truth = 1e-3 * counts @ prices[:, :-1] @ np.array([0.5, 0, 0.2, 0, 0, 1.0])
    measured = choose(networks, 10, np.random.default_rng(0))
    assert off(transfer(networks, measured, truth[measured]).latency_s, truth, measured) < 0.01


def test_the_scatter_of_known_devices_is_not_taken_over(counts, prices, generator):
    clean = counts @ prices[:, :-1]
    noisy, truth = clean * np.exp(0.1 * generator.standard_normal(clean.shape)), counts @ prices[:, -1]
    measured = choose(population(counts, clean), 10, np.random.default_rng(0))
    assert off(transfer(population(counts, noisy), measured, truth[measured]).latency_s, truth, measured) < 0.02
    without = transfer(population(None, noisy), measured, truth[measured]).latency_s
    assert off(without, truth, measured) > 0.03


def test_what_no_feature_says_is_learnt_where_devices_share_it(counts, prices, generator):
    hidden = 2 * generator.integers(1, 12, (NETWORKS, 1)) * generator.gamma(3.0, 1.0, DEVICES + 1)
    every = counts @ prices + hidden
    measured = choose(population(counts, every[:, :-1]), 12, np.random.default_rng(0))
    found = transfer(population(counts, every[:, :-1]), measured, every[measured, -1]).latency_s
    alone = transfer(population(counts), measured, every[measured, -1]).latency_s
    assert off(found, every[:, -1], measured) < 0.03
    assert off(alone, every[:, -1], measured) > 0.06


def test_features_that_no_known_device_pays_for_do_no_harm(counts, prices, generator):
    plain, idle = [], []
    useless = generator.standard_normal((NETWORKS, 40))
    known = counts @ prices[:, :-1]
    for seed in range(6):
        truth = counts @ np.random.default_rng(seed).gamma(1.0, 1.0, 5)
        for features, found in ((counts, plain), (np.concatenate([counts, useless], axis=1), idle)):
            networks = population(features, known)
            measured = choose(networks, 10, np.random.default_rng(seed))
            found.append(off(transfer(networks, measured, truth[measured]).latency_s, truth, measured))
    assert np.mean(idle) < np.mean(plain) + 0.01


def test_the_weights_of_a_regression_are_as_likely_as_its_targets_allow(generator):
    columns = generator.standard_normal((300, 8))
    weights = generator.standard_normal((8, 5)) * np.array([3, 1, 0.3, 0, 0, 0, 0, 0])[:, None]
    variance, explained = module._regressed(columns, columns @ weights + 0.1 * generator.standard_normal((300, 5)))
    assert np.sqrt(np.mean((explained - columns @ weights) ** 2)) < 0.02
    needed = (weights[:3] ** 2).mean(axis=1)
    np.testing.assert_allclose(variance[:3], needed, rtol=0.1)
    assert variance[3:].max() < 1e-3 * variance[2]


def test_what_devices_share_is_told_from_their_scatter(generator):
    scatter = generator.standard_normal((NETWORKS, DEVICES))
    shared = 2 * np.outer(generator.standard_normal(NETWORKS), generator.choice([-1.0, 1.0], DEVICES))
    assert (module._shared(scatter) ** 2).mean() < 0.05
    assert ((module._shared(shared + scatter) - shared) ** 2).mean() < 0.3
    np.testing.assert_array_equal(module._shared(scatter[:, :1]), scatter[:, :1])


def test_a_device_unlike_the_others_is_learnt_from_the_features(counts, prices):
    known = counts[:, :2] @ prices[:2, :-1]
    truth = counts @ np.array([0.1, 0.1, 3.0, 1.0, 8.0])
    both = population(counts, known)
    measured = choose(both, 30, np.random.default_rng(0))
    alone = population(None, known)
    assert off(transfer(both, measured, truth[measured]).latency_s, truth, measured) < 0.05
    assert off(transfer(alone, measured, truth[measured]).latency_s, truth, measured) > 0.2


def test_more_measured_networks_bring_predictions_nearer_and_narrow_the_spread(networks, counts, prices, generator):
    truth = counts @ prices[:, -1] * np.exp(0.03 * generator.standard_normal(NETWORKS))
    found = []
    for count in (5, 20, 80):
        measured = np.arange(count)
        predicted = transfer(networks, measured, truth[measured])
        found.append((off(predicted.latency_s, truth, measured), np.median(predicted.spread_s / predicted.latency_s)))
    assert found == sorted(found, reverse=True)
    assert found[0][1] > found[1][1] > found[2][1] > 0.02


def test_the_spread_holds_as_often_as_one_standard_deviation_should(counts, prices, generator):
    held = []
    for _ in range(10):
        known = counts @ prices[:, :-1] * np.exp(0.05 * generator.standard_normal((NETWORKS, DEVICES)))
        truth = counts @ generator.gamma(3.0, 1.0, 5) * np.exp(0.05 * generator.standard_normal(NETWORKS))
        networks, measured = population(counts, known), generator.choice(NETWORKS, 20, replace=False)
        found = transfer(networks, measured, truth[measured])
        held.append(np.delete(np.abs(found.latency_s - truth) <= found.spread_s, measured).mean())
    assert 0.6 < np.mean(held) < 0.85


def test_units_and_the_order_of_networks_do_not_matter(counts, prices, generator):
    known, truth = counts @ prices[:, :-1], counts @ prices[:, -1]
    measured = np.arange(12)
    expected = transfer(population(counts, known), measured, truth[measured])
    other = population(counts * 7, known * generator.uniform(0.1, 10, DEVICES))
    found = transfer(other, measured, truth[measured] * 1e-3)
    np.testing.assert_allclose(found.latency_s, expected.latency_s * 1e-3, rtol=1e-6)
    np.testing.assert_allclose(found.spread_s, expected.spread_s * 1e-3, rtol=1e-4)
    order = generator.permutation(NETWORKS)
    shuffled = population(counts[order], known[order])
    found = transfer(shuffled, np.argsort(order)[measured], truth[measured])
    np.testing.assert_allclose(found.latency_s, expected.latency_s[order], rtol=1e-6)


def test_one_bad_measurement_does_not_decide(networks, counts, prices):
    truth = counts @ prices[:, -1]
    measured = np.arange(20)
    taken = truth[measured].copy()
    clean = off(transfer(networks, measured, taken).latency_s, truth, measured)
    taken[3] *= 8
    assert off(transfer(networks, measured, taken).latency_s, truth, measured) < clean + 0.08


def test_a_known_device_may_miss_networks_and_hold_bad_figures(counts, prices, generator):
    known, truth = counts @ prices[:, :-1], counts @ prices[:, -1]
    measured = np.arange(20)
    whole = off(transfer(population(counts, known), measured, truth[measured]).latency_s, truth, measured)
    known[generator.random(known.shape) < 0.05] = np.nan
    known[50:60, 0] *= 100
    torn = transfer(population(counts, known), measured, truth[measured])
    assert np.isfinite(torn.latency_s).all()
    assert off(torn.latency_s, truth, measured) < whole + 0.03


@pytest.mark.parametrize("given", ["features", "known", "both"])
def test_one_setting_gives_what_conditioning_a_gaussian_gives(counts, prices, monkeypatch, given):
    few, known = counts[:40], (counts @ prices[:, :-1])[:40]
    networks = population(few if given != "known" else None, known if given != "features" else None)
    monkeypatch.setattr(module, "_combinations", lambda _: (np.array([[0.3, 0.3, 0.03]]), np.array([1e-3])))
    monkeypatch.setattr(module, "_MEASURED_DEVIATIONS", 1e9)
    truth = (counts @ prices[:, -1])[:40]
    measured, rest = np.arange(8), np.arange(8, 40)
    ratio = truth / networks.base
    apart = ((networks.place[:, None] - networks.place[None]) ** 2).sum(axis=-1)
    covariance = 0.3 * (networks.devices @ networks.devices.T + networks.features @ networks.features.T)
    covariance += 0.03 * np.exp(-apart / (2 * module.LENGTH**2)) + 100 + 1e-3 * np.eye(40)
    level, middle = np.median(ratio[measured]), ratio[measured].mean()
    gain = covariance[np.ix_(rest, measured)] @ np.linalg.inv(covariance[np.ix_(measured, measured)])
    mean = middle + gain @ (ratio[measured] - middle)
    spread = np.sqrt(np.diag(covariance)[rest] - (gain * covariance[np.ix_(rest, measured)]).sum(axis=1))
    found = transfer(networks, measured, truth[measured])
    np.testing.assert_allclose(found.latency_s[rest], mean * networks.base[rest], rtol=1e-6)
    np.testing.assert_allclose(found.spread_s[rest], spread * level * networks.base[rest], rtol=1e-4)


def test_the_networks_to_measure_are_those_that_leave_the_least_variance(networks):
    found = choose(networks, 4, np.random.default_rng(5))
    pool = np.random.default_rng(5).choice(NETWORKS, NETWORKS, replace=False)
    devices, features, smooth, noise = module.PLANNED
    apart = ((networks.place[:, None] - networks.place[None]) ** 2).sum(axis=-1)
    prior = devices * networks.devices @ networks.devices.T + features * networks.features @ networks.features.T
    prior += smooth * np.exp(-apart / (2 * module.LENGTH**2)) + module.CONSTANT

    def left(places: list[int]) -> float:
        own = np.linalg.inv(prior[np.ix_(places, places)] + noise * np.eye(len(places)))
        return float(np.trace(prior) - np.trace(prior[:, places] @ own @ prior[places]))

    for step in range(4):
        before = found[:step].tolist()
        best = min(left([*before, each]) for each in pool.tolist() if each not in before)
        assert left(found[: step + 1].tolist()) == pytest.approx(best, rel=1e-6)


def test_chosen_networks_differ_and_tell_more_than_random_ones(networks, counts, generator):
    chosen, random = [], []
    for seed in range(10):
        truth = counts @ generator.gamma(1.0, 1.0, 5)
        places = choose(networks, 8, np.random.default_rng(seed))
        assert len(set(places.tolist())) == 8
        chosen.append(off(transfer(networks, places, truth[places]).latency_s, truth, places))
        places = generator.choice(NETWORKS, 8, replace=False)
        random.append(off(transfer(networks, places, truth[places]).latency_s, truth, places))
    assert np.mean(chosen) < np.mean(random)


def test_figures_that_cannot_be_are_refused(networks, counts, prices):
    known = counts @ prices[:, :-1]
    for features, costs in ((None, None), (counts[:5], known), (counts, known * 0), (counts * np.inf, known)):
        with pytest.raises(InvalidInput):
            population(features, costs)
    for measured, latency_s in (
        ([0, 1], [1, 1]),
        ([0, 1, 1], [1, 1, 1]),
        ([0, 1, NETWORKS], [1, 1, 1]),
        ([0, 1, 2], [1, 0, 1]),
    ):
        with pytest.raises(InvalidInput):
            transfer(networks, np.array(measured), np.array(latency_s, dtype=float))
    with pytest.raises(InvalidInput):
        choose(networks, NETWORKS + 1, np.random.default_rng(0))

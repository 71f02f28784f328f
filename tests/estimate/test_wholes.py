"""Networks of which only the total was measured."""

import numpy as np
import pytest

from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.wholes import sums, whole_of
from chipfit.graph.build import Builder
from chipfit.graph.ops import Opaque
from chipfit.measure.measurement import Measurement, Run, Source
from chipfit.nets.zoo import ZOO, resnet8

TOTAL = Run(Measurement(2e-3, Source("measured", "clock", "1", "2026-11-01")), {}, {})


def test_what_is_predicted_for_subgraphs_adds_up_to_the_estimate_of_the_network(estimator, target):
    graphs = [*random_networks(5, np.random.default_rng(31)), resnet8()]
    wholes = [whole_of(graph, TOTAL, target) for graph in graphs]
    measured, predicted, variance = sums([whole for whole in wholes if whole], estimator.predict)
    costs = [estimator.costs(graph) for graph in graphs]
    np.testing.assert_allclose(predicted, [each.latency_s[0] for each in costs], rtol=1e-9)
    np.testing.assert_array_equal(measured, TOTAL.measurement.latency_s)
    assert (variance > 0).all()
    for place, whole in enumerate(wholes):
        alone = sums([whole], estimator.predict)
        assert alone[1] == pytest.approx(predicted[place])
        assert alone[2] == pytest.approx(variance[place])


def test_nothing_adds_up_to_nothing(estimator):
    assert [len(each) for each in sums([], estimator.predict)] == [0, 0, 0]


def test_networks_that_the_target_runs_in_part_are_left_out(target):
    b = Builder()
    x = b.conv(b.input("input", (1, 3, 8, 8)), 8, key="conv")
    b.add(Opaque("Warp", (1, 8, 8, 8)), x, key="warp")
    assert whole_of(b.graph("warp"), TOTAL, target) is None
    assert all(whole_of(build(), TOTAL, target) for build in ZOO.values())

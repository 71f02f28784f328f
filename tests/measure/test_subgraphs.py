"""A model as a target runs it: what is alive in memory is worked out once, before what lies around is known."""

import numpy as np
import pytest

from chipfit.estimate.random_networks import random_networks
from chipfit.measure.subgraphs import laid_out, steps_of, subgraphs_of
from chipfit.nets.zoo import ibn_classifier
from chipfit.spaces.edits import open_space
from chipfit.targets import load_target


@pytest.mark.parametrize("name", ["ethos-u55-256", "ethos-u65-512", "ethos-u85-256", "neural-engine"])
def test_what_lies_around_a_subgraph_changes_nothing_in_what_is_alive(name: str) -> None:
    target = load_target(name)
    space = open_space(ibn_classifier(resolution=64, width=0.5), {"fuse": True, "width": True})
    for graph in [*random_networks(4, np.random.default_rng(3)), ibn_classifier(), space]:
        laid = laid_out(graph, target)
        assert laid.subgraphs == subgraphs_of(graph, target)
        assert laid.steps == steps_of(graph, laid.subgraphs, target)
        assert [step.subgraph for step in laid.steps] == [part.name for part in laid.subgraphs]

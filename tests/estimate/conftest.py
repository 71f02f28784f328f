"""Estimators that the tests share: one of a chip as described, one of a chip that differs from its description."""

import numpy as np
import pytest

from chipfit.estimate.estimator import Estimator
from chipfit.estimate.fit import fit
from chipfit.measure.simulator import Simulated, simulator
from chipfit.targets import Target, load_target, variant


@pytest.fixture(scope="session")
def target() -> Target:
    return load_target("neural-engine")


@pytest.fixture(scope="session")
def chip(target: Target) -> Target:
    """What the measurements of `corrected` come from: not what its description says."""
    return variant(
        target,
        {
            "lanes.output_channels": 24,
            "depthwise.efficiency": 0.5,
            "memory.dram_bytes_per_s": 2.5e9,
            "overhead.layer_cycles": 700,
        },
    )


@pytest.fixture(scope="session")
def estimator(target: Target) -> Estimator:
    return fit(target, Simulated(target, simulator(target)), budget=1500, seed=1)


@pytest.fixture(scope="session")
def corrected(target: Target, chip: Target) -> Estimator:
    return fit(target, Simulated(target, simulator(chip)), budget=3000, seed=2)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(77)

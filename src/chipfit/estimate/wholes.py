"""Networks of which only the total was measured: what is predicted for their subgraphs must add up to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from chipfit.estimate.regress import Prediction
from chipfit.estimate.rows import Floats, Rows
from chipfit.graph.graph import Graph
from chipfit.measure.measurement import Run
from chipfit.measure.subgraphs import subgraphs_of
from chipfit.measure.table import Whole
from chipfit.nets.network import Network
from chipfit.targets.target import Target


def whole_of(model: Graph | Network, run: Run, target: Target) -> Whole | None:
    """A network that was measured as one; None where the target leaves a part of it to another processor."""
    loads = [part.workload for part in subgraphs_of(model, target)]
    if not loads or not all(target.runs(load) for load in loads):
        return None
    return Whole(run.measurement, tuple(loads))


def sums(wholes: Sequence[Whole], predict: Callable[[Rows], Prediction]) -> tuple[Floats, Floats, Floats]:
    """Measured and predicted latencies of n networks (n,) in s, and the variances (n,) that their rows' spreads add up
    to."""
    if not wholes:
        return np.zeros(0), np.zeros(0), np.zeros(0)
    found = predict(Rows.of_workloads([load for whole in wholes for load in whole.workloads]))
    firsts = np.cumsum([0, *(len(whole.workloads) for whole in wholes[:-1])])
    measured = np.array([whole.measurement.latency_s for whole in wholes])
    return measured, np.add.reduceat(found.latency_s, firsts), np.add.reduceat(found.spread_s**2, firsts)

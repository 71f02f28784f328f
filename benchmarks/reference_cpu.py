"""How far estimates for this machine's CPU are off on networks that nothing was learnt from: real silicon.

    python benchmarks/reference_cpu.py [--target reference-cpu] [--fit]

Times unseen networks twice, one round after the other, so that the second says how well the machine agrees with itself:
no estimate can be nearer than that. What else runs on the machine shows in both. Estimates are those of the estimator
that the package ships, which is only fair on the machine that it was fitted on; with --fit one is fitted from nothing.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from numpy.typing import NDArray

from chipfit.estimate.fit import fit, rank_correlation
from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.store import default_estimator
from chipfit.graph.graph import Graph
from chipfit.measure.measurement import Run, Tool
from chipfit.measure.tools import tool_for
from chipfit.nets.zoo import ZOO
from chipfit.targets import load_target

NETWORKS = 60
"""Networks in all: those of the zoo, the rest random."""
SEED = 20_261_201
"""Of the networks here; nothing in the package or the tests uses it."""
WITHIN = 0.1


def unseen() -> dict[str, Graph]:
    """Networks by name."""
    known = {name: build() for name, build in ZOO.items()}
    drawn = random_networks(max(NETWORKS - len(known), 0), np.random.default_rng(SEED))
    return known | {f"random {number}": graph for number, graph in enumerate(drawn)}


def timed(tool: Tool, networks: dict[str, Graph]) -> dict[str, float]:
    """Latencies in s of the networks that run."""
    runs = ((name, tool.networks([graph])[0]) for name, graph in networks.items())
    return {name: run.measurement.latency_s for name, run in runs if isinstance(run, Run)}


def line(name: str, found: NDArray[np.float64], truth: NDArray[np.float64]) -> str:
    """Figures of one comparison."""
    off = np.abs(found / truth - 1)
    return (
        f"  {name:34s} within {WITHIN:.0%}: {np.mean(off <= WITHIN):.0%}   median {np.median(off):.1%}   "
        f"90 % below {np.quantile(off, 0.9):.1%}   largest {off.max():.1%}   "
        f"Spearman {rank_correlation(found, truth):.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="reference-cpu")
    parser.add_argument("--fit", action="store_true", help="fit an estimator on this machine first")
    options = parser.parse_args()
    target = load_target(options.target)
    tool = tool_for(target)
    print(f"load before: {os.getloadavg()}")
    start = time.perf_counter()
    estimator = fit(target, tool) if options.fit else default_estimator(target)
    took, known = time.perf_counter() - start, estimator.provenance
    print(f"{target.name}: fitted on {known.fitted} from {known.subgraphs} subgraphs ({took:.0f} s)")
    for kind, found in estimator.provenance.subgraph_errors.items():
        print(f"    {kind:16s} {found.count:4d} held out, median {found.median:.1%}, 99 % below {found.p99:.1%}")
    if found := estimator.provenance.network_errors:
        print(
            f"    whole networks   {found.count:4d} held out, median {found.median:.1%}, coverage {found.coverage:.0%}"
        )
    networks = unseen()
    first, second = timed(tool, networks), timed(tool, networks)
    names = [name for name in networks if name in first and name in second]
    costs = [estimator.costs(networks[name]) for name in names]
    predicted = np.array([each.latency_s[0] for each in costs])
    inside = np.array([each.in_range[0] for each in costs])
    truth, again = (np.array([times[name] for name in names]) for times in (first, second))
    fastest = np.minimum(truth, again)
    print(f"{len(names)} unseen networks, {inside.sum()} of them in the range of what was measured")
    print(line("predicted, against the faster time", predicted, fastest))
    print(line("the same, in range only", predicted[inside], fastest[inside]))
    print(line("timed twice (the noise)", again, truth))
    for name in ZOO:
        if name in names:
            place = names.index(name)
            print(f"    {name:28s} {fastest[place] * 1e3:9.3f} ms, predicted {predicted[place] * 1e3:9.3f} ms")
    print(f"load after: {os.getloadavg()}")


if __name__ == "__main__":
    main()

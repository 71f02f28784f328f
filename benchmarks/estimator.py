"""How exact and how fast the estimator is: against the simulator on networks that nothing was tuned on.

The simulator and the roofline inside the regression start from the same description, so that agreement between them is
the easy case. The harder one is a chip that differs from its description, or whose measurements scatter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from chipfit.estimate.estimator import Estimator
from chipfit.estimate.fit import errors, fit
from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.store import default_estimator
from chipfit.graph.graph import Graph
from chipfit.graph.subgraphs import cut
from chipfit.graph.workload import Workload
from chipfit.measure.measurement import Measure, Measurement
from chipfit.measure.simulator import Simulated, simulate, simulator
from chipfit.nets.zoo import ZOO, mobilenet_v2
from chipfit.spaces.edits import open_space
from chipfit.targets import Target, load_target, shipped_targets, variant

NETWORKS = 200
SEED = 20_261_130
"""Of the networks here; nothing in the package or the tests uses it."""


def seconds(work: Callable[[], object], repeats: int = 20) -> float:
    """The fastest of some runs."""
    found: list[float] = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def scattering(measure: Measure, deviation: float) -> Measure:
    """Measurements with a coefficient of variation, as real silicon has."""
    generator = np.random.default_rng(4)

    def measured(workloads: Sequence[Workload]) -> list[Measurement]:
        factors = np.exp(deviation * generator.standard_normal(len(workloads)))
        return [
            replace(item, latency_s=item.latency_s * factor, spread_s=item.latency_s * deviation)
            for item, factor in zip(measure(workloads), factors.tolist(), strict=True)
        ]

    return measured


def unseen() -> list[Graph]:
    return [*random_networks(NETWORKS, np.random.default_rng(SEED)), *(build() for build in ZOO.values())]


def compare(estimator: Estimator, chip: Target, networks: list[Graph]) -> str:
    """One line on predicted against simulated latencies of whole networks."""
    loads = [[subgraph.workload for subgraph in cut(graph, chip.fuses)] for graph in networks]
    truth = np.array([sum(item.latency_s for item in simulate(chip, each)) for each in loads])
    costs = [estimator.costs(graph) for graph in networks]
    predicted, spread = (np.array([getattr(each, name)[0] for each in costs]) for name in ("latency_s", "spread_s"))
    found = errors(predicted, truth, spread)
    within = np.mean(np.abs(predicted / truth - 1) <= 0.05)
    return (
        f"median {found.median:.4%}, 99 % below {found.p99:.3%}, largest {found.largest:.3%}, within 5 % {within:.1%}, "
        f"Spearman {found.spearman:.6f}, within its spread {found.coverage:.0%}"
    )


def exactness(networks: list[Graph]) -> None:
    print(f"whole networks: {len(networks)} unseen ones, predicted against simulated latency")
    for target in (item for item in shipped_targets() if item.tool is None):
        print(f"  {target.name:26s} {compare(default_estimator(target), target, networks)}")
    target = load_target("neural-engine")
    chip = variant(
        target,
        {
            "lanes.output_channels": 24,
            "lanes.pixels": 2,
            "depthwise.taps": 3,
            "memory.dram_bytes_per_s": 2.5e9,
            "memory.on_chip_bytes": 393_216,
            "memory.on_chip_bytes_per_cycle": 20.0,
            "overhead.layer_cycles": 700,
        },
    )
    believed = default_estimator(target)
    print(f"  a chip unlike its description, not measured\n    {compare(believed, chip, networks)}")
    for name, measure in (
        ("as described", simulator(target)),
        ("a chip unlike its description", simulator(chip)),
        ("as described, measured with 2.5 % scatter", scattering(simulator(target), 0.025)),
        ("unlike its description, with 2.5 % scatter", scattering(simulator(chip), 0.025)),
    ):
        start = time.perf_counter()
        estimator = fit(target, Simulated(target, measure), seed=11)
        took = time.perf_counter() - start
        truth = chip if "unlike" in name else target
        print(f"  fitted in {took:.1f} s: {name}\n    {compare(estimator, truth, networks)}")


def speed() -> None:
    estimator = default_estimator(load_target("neural-engine"))
    generator = np.random.default_rng(0)
    space = open_space(mobilenet_v2(), {"fuse": True, "width": True})
    code = generator.integers(0, space.cardinalities)
    print(f"speed: a MobileNetV2 space with {len(space.decisions)} decisions")
    print(
        f"  one network, closed, cut and predicted   {seconds(lambda: estimator.costs(space.close(code))) * 1e3:.1f} ms"
    )
    print(f"  prepare                                  {seconds(lambda: estimator.prepare(space), 2):.2f} s")
    prepared = estimator.prepare(space)
    codes = generator.integers(0, space.cardinalities, (1_000_000, len(space.decisions)))
    for name, work in (("latency", prepared.latency_s), ("all costs", prepared.at)):
        rate = len(codes) / seconds(lambda work=work: work(codes), 5) / 1e6
        print(f"  {name:40s} {rate:.1f} million codes/s")


if __name__ == "__main__":
    exactness(unseen())
    speed()

"""What curation does to a search: every channel count, multiples of 16 chosen by hand, and what `curate` learns.

python benchmarks/curation.py [TARGET …]      (default: neural-engine; about three minutes a target on one core)

One evolutionary search, NSGA-II, with equal budgets and the same seeds, on three spaces around the same network.
Nothing is trained: a function of the architecture alone stands in for accuracy, the loss of capacity, which is half the
logarithm of the network's MACs plus half that of its parameters, below those of the network as given; more than these
counts for nothing. The other objective is the latency that the target's estimator predicts. Hypervolumes are shares of
the rectangle from the ideal to the latency of the network as given and the loss of the smallest network of the space.
Curation sees the estimator's tables and never this proxy. Its defaults were chosen on ibn_classifier and mobilenet_v2
of `TUNED` on neural-engine, and on ibn_classifier and ibn_detector on ethos-u55-256.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.estimate.estimator import SpaceCosts
from chipfit.estimate.store import default_estimator
from chipfit.graph.channels import channel_groups
from chipfit.graph.graph import Graph
from chipfit.nets.zoo import from_zoo
from chipfit.search.algorithm import Codes, Domain
from chipfit.search.evolution import NSGA2
from chipfit.search.pareto import hypervolume
from chipfit.spaces.curate import curate, multiples
from chipfit.spaces.sizes import open_widths
from chipfit.targets import load_target

TUNED = (("ibn_classifier-96", 1), ("mobilenet_v2-0.5-96", 2), ("resnet8", 1))
OTHERS = (("mobilenet_v1-0.5-96", 2), ("ds_cnn", 1), ("ibn_detector-0.5-128", 2), ("mobilenet_v2-0.75-160", 2))
"""Networks and the steps in which their channel counts are open.

The rule and its defaults were chosen on the first; results of the others, of an earlier rule, had been seen before the
last one was settled, so that neither is a clean hold-out. For one, give networks of your own.
"""
WIDEST = (1.0, 1.25)
"""Largest widths that are offered, as factors of those given."""
SEEDS = range(20)
BUDGET, BATCH, POPULATION = 3000, 25, 50
HAND = 16
REFERENCE = np.ones(2)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Space:
    """A space to search: its domain, and its codes as codes of the space of every channel count."""

    name: str
    cardinalities: tuple[int, ...]
    full: Callable[[Codes], Codes]


def opened(graph: Graph, step: int, widest: float) -> Graph:
    """Every free width from a quarter of what it is to `widest` times that, the largest first."""
    widths = {group.name: int(group.width) for group in channel_groups(graph) if group.fixed is None}  # type: ignore[arg-type]
    ranges = {
        name: range(int(width * widest), max(step, width // 4 // step * step) - 1, -step)
        for name, width in widths.items()
    }
    return open_widths(graph, groups=ranges)


def spaces(graph: Graph, prepared: SpaceCosts) -> list[Space]:
    begin = time.perf_counter()
    if prepared.tables is None:
        raise InvalidInput("the tables of its space would be too large; open wider steps")
    learned = curate(graph, prepared.tables)
    print(f"  curated in {time.perf_counter() - begin:.2f} s")
    return [
        _space("every count", [range(len(item)) for item in graph.decisions]),
        _space("by hand", [multiples(decision, HAND) for decision in graph.decisions]),
        _space("learned", learned.kept),
    ]


def _space(name: str, kept: Sequence[Sequence[int]]) -> Space:
    options = [np.array(indices) for indices in kept]

    def full(codes: Codes) -> Codes:
        return np.stack([indices[codes[:, index]] for index, indices in enumerate(options)], axis=1)

    return Space(name, tuple(map(len, kept)), full)


class Objectives:
    """Latency and loss of capacity of codes (n, d), as (n, 2) shares of the reference: 0 is ideal."""

    def __init__(self, graph: Graph, prepared: SpaceCosts) -> None:
        self.prepared = prepared
        smallest = [int(np.argmin(np.array(item.options, dtype=float))) for item in graph.decisions]
        self.given = prepared.at(np.zeros((1, len(smallest)), np.int64))
        self.largest_loss = float(self.loss(np.array([smallest]))[0])

    def loss(self, codes: Codes) -> Floats:
        costs = self.prepared.at(codes)
        macs = np.minimum(costs.macs / self.given.macs, 1)
        parameters = np.minimum(costs.parameters / self.given.parameters, 1)
        return -0.5 * (np.log(macs) + np.log(parameters))

    def __call__(self, codes: Codes) -> Floats:
        latency = self.prepared.latency_s(codes) / self.given.latency_s
        return np.stack([latency, self.loss(codes) / self.largest_loss], axis=1)


def search(space: Space, objectives: Objectives, seed: int) -> Floats:
    """Hypervolume after every batch."""
    algorithm = NSGA2(Domain(space.cardinalities), seed, POPULATION)
    found = np.empty((0, 2))
    volumes: list[float] = []
    for _ in range(BUDGET // BATCH):
        codes = algorithm.ask(BATCH)
        if not len(codes):
            break
        values = objectives(space.full(codes))
        algorithm.tell(codes, values)
        found = np.concatenate([found, values])
        volumes.append(hypervolume(found, REFERENCE))
    return np.array(volumes + volumes[-1:] * (BUDGET // BATCH - len(volumes)))


def reached(volumes: Floats, wanted: float) -> float:
    """Evaluations after which a search first has so much hypervolume; infinite where it never has."""
    met = np.flatnonzero(volumes >= wanted)
    return (int(met[0]) + 1) * BATCH if len(met) else math.inf


def compare(target: str, network: str, step: int, widest: float) -> None:
    estimator = default_estimator(load_target(target))
    graph = opened(from_zoo(network).graph, step, widest)
    prepared = estimator.prepare(graph)
    source = estimator.provenance.source
    origin = f"{source.kind} with {source.tool} {source.version}"
    print(f"{network} on {target} ({origin}), widths to x{widest}, steps of {step}")
    objectives = Objectives(graph, prepared)
    wanted = math.nan
    for space in spaces(graph, prepared):
        begin = time.perf_counter()
        volumes = np.array([search(space, objectives, seed) for seed in SEEDS])
        final = volumes[:, -1]
        if math.isnan(wanted):
            wanted = float(final.mean())
        first = np.array([reached(row, wanted) for row in volumes])
        middle = float(np.median(first))
        speed = f"{middle:.0f} evaluations ({BUDGET / middle:.1f}x)" if math.isfinite(middle) else "never"
        marks = " ".join(f"{volumes[:, at // BATCH - 1].mean():.4f}" for at in (100, 300, 1000, BUDGET))
        print(
            f"  {space.name:11s} {math.prod(map(float, space.cardinalities)):8.1e} networks   "
            f"final {final.mean():.4f} ± {final.std(ddof=1):.4f}   after 100, 300, 1000, {BUDGET}: {marks}   "
            f"reaches {wanted:.4f} after {speed}, {int(np.isfinite(first).sum())} of {len(first)} seeds   "
            f"({time.perf_counter() - begin:.0f} s)",
            flush=True,
        )


def main() -> None:
    for target in sys.argv[1:] or ["neural-engine"]:
        for title, networks in (("tuned on", TUNED), ("others", OTHERS)):
            for widest, (network, step) in itertools.product(WIDEST, networks):
                print(f"[{title}]", end=" ")
                try:
                    compare(target, network, step, widest)
                except InvalidInput as error:
                    print(f"{network} on {target}: {error}")


if __name__ == "__main__":
    main()

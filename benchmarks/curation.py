"""What curation does to a search: every channel count, multiples of 16 chosen by hand, and what `curate` learns.

python benchmarks/curation.py [TARGET …] [--seeds 20] [--only GROUP] [--widest 1.0 1.25]
    (default: neural-engine, all groups; about four minutes a target on one quiet core)

One evolutionary search, NSGA-II, with equal budgets and the same seeds, on three spaces around the same network.
Nothing is trained: a function of the architecture alone stands in for accuracy, the loss of capacity, which is half the
logarithm of the network's MACs plus half that of its parameters, below those of the network as given; more than these
counts for nothing. The other objective is the latency that the target's estimator predicts. Hypervolumes are shares of
the rectangle from the ideal to the latency of the network as given and the loss of the smallest network of the space.
Curation sees the estimator's tables and never this proxy. Its tolerance was chosen on networks of "tuned"; how many
options it leaves each decision, and `free`, on other ones and other chips: ibn_classifier-0.75-64 on
neural-engine-small, mobilenet_v2-0.35-96 on neural-engine-wide-memory, mobilenet_v2-0.35-128 on neural-engine,
ibn_classifier-0.5-48 on ethos-u55-128, mobilenet_v1-0.25-96 on ethos-u65-256, mobilenet_v1-0.25-128 on ethos-u85-1024.
"held-out" are networks of pytorchcv (pip install --no-deps pytorchcv) that no development of curation has used.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import ChipfitError, InvalidInput
from chipfit.estimate.estimator import SpaceCosts
from chipfit.estimate.store import default_estimator
from chipfit.graph.channels import channel_groups
from chipfit.graph.graph import Graph
from chipfit.nets.load import load
from chipfit.search.algorithm import Codes, Domain
from chipfit.search.evolution import NSGA2
from chipfit.search.pareto import hypervolume
from chipfit.spaces.curate import curate, multiples
from chipfit.spaces.sizes import open_widths
from chipfit.targets import load_target

GROUPS: Mapping[str, tuple[tuple[str, int], ...]] = {
    "tuned": (("ibn_classifier-96", 1), ("mobilenet_v2-0.5-96", 2), ("resnet8", 1)),
    "others": (("mobilenet_v1-0.5-96", 2), ("ds_cnn", 1), ("ibn_detector-0.5-128", 2), ("mobilenet_v2-0.75-160", 2)),
    "held-out": (
        ("pytorchcv.models.mnasnet:mnasnet_small", 2),
        ("pytorchcv.models.fdmobilenet:fdmobilenet_wd4", 4),
        ("pytorchcv.models.squeezenet:squeezenet_v1_1", 4),
        ("pytorchcv.models.resnet:resnet10", 8),
    ),
}
"""Networks and the steps in which their channel counts are open.

Results of "others" with earlier rules had been seen before these were settled, so that only "held-out" is clean.
"""
SHAPE = (1, 3, 224, 224)
WIDEST = (1.0, 1.25)
"""Largest widths that are offered, as factors of those given."""
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


def compare(target: str, network: str, step: int, widest: float, seeds: int) -> None:
    estimator = default_estimator(load_target(target))
    graph = opened(load(network, input_shape=SHAPE if ":" in network else None).graph, step, widest)
    prepared = estimator.prepare(graph)
    source = estimator.provenance.source
    origin = f"{source.kind} with {source.tool} {source.version}"
    print(f"{network} on {target} ({origin}), widths to x{widest}, steps of {step}")
    objectives = Objectives(graph, prepared)
    wanted = math.nan
    for space in spaces(graph, prepared):
        begin = time.perf_counter()
        volumes = np.array([search(space, objectives, seed) for seed in range(seeds)])
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
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", default=["neural-engine"])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--only", choices=list(GROUPS), nargs="+", default=list(GROUPS))
    parser.add_argument("--widest", type=float, nargs="+", default=WIDEST)
    asked = parser.parse_args()
    for target, group, widest in itertools.product(asked.targets, asked.only, asked.widest):
        for network, step in GROUPS[group]:
            print(f"[{group}]", end=" ")
            try:
                compare(target, network, step, widest, asked.seeds)
            except ChipfitError as error:
                print(f"{network} on {target}: {error}")


if __name__ == "__main__":
    main()

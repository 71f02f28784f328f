"""Advice beside the compiler: gains that are predicted against gains that compiling before and after shows.

python benchmarks/advice.py [TARGET …] [--every N]        (about ten minutes a target on two quiet cores)

Needs chipfit[ethos-u]. Every N-th one (the second without) of the networks of `benchmarks/ethos_u.py`, which no fit has
seen, gets advice; the network as given, the one with all advised changes, and those with the first two changes alone
are compiled. Last comes MobileNetV2 at 224 on a chip where that is the figure to look at.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np
from ethos_u import networks

from chipfit.errors import InvalidInput
from chipfit.estimate.store import default_estimator
from chipfit.expert.advice import Advice, advise
from chipfit.graph.graph import Graph
from chipfit.measure.measurement import Run
from chipfit.measure.vela import Compiler
from chipfit.nets.network import Network, initialise
from chipfit.nets.zoo import mobilenet_v2
from chipfit.targets import load_target

TARGETS = ("ethos-u55-256", "ethos-u65-512", "ethos-u85-256")
LARGE = "ethos-u85-1024"
ALONE = 2
"""Changes of each network that are compiled by themselves."""
HARM = 0.02
"""Share of the latency from which on a change that costs more by the compiler's own measure is harmful."""


def advised(graph: Graph, estimator: object) -> Advice | None:
    network = Network("network", graph, initialise(graph, np.random.default_rng(0)))
    try:
        return advise(network, estimator)  # type: ignore[arg-type]
    except InvalidInput:
        return None


def codes_of(found: Advice) -> list[tuple[int, ...]]:
    """All advised changes at once, then the first ones alone."""
    return [found.code, *(found.code_of([item.id]) for item in found.advised[:ALONE])]


def compiled(tool: Compiler, graphs: Sequence[Graph]) -> list[float]:
    """Latency in s by the compiler, NaN where it leaves operators to the host's processor or fails."""
    runs = tool.networks(graphs)
    return [run.measurement.latency_s if isinstance(run, Run) and not run.elsewhere else np.nan for run in runs]


def line(name: str, off: np.ndarray, gains: np.ndarray) -> str:
    return (
        f"  {name:26s} n {len(off):4d}   off by {np.median(off) * 100:.2f} points (median), "
        f"{np.quantile(off, 0.9) * 100:.2f} (90 % below), {off.max() * 100:.1f} (most)   "
        f"compiled {np.median(gains) * 100:+.1f} % (median), harmful {(gains > HARM).sum()}"
    )


def compare(target: str, every: int) -> None:
    estimator = default_estimator(load_target(target))
    tool = Compiler(estimator.target)
    graphs = [graph for found in networks().values() for graph in found][::every]
    seconds: list[float] = []
    wanted: list[tuple[bool, float]] = []
    pairs: list[tuple[Graph, Graph]] = []
    nothing = 0
    for graph in graphs:
        started = time.perf_counter()
        found = advised(graph, estimator)
        seconds.append(time.perf_counter() - started)
        if found is None or not found.advised:
            nothing += 1
            continue
        for place, code in enumerate(codes_of(found)):
            wanted.append((place == 0, found.gains.of(code).latency))
            pairs.append((graph, found.changes.space.close(list(code))))
    distinct = list({id(graph): graph for pair in pairs for graph in pair}.values())
    latency = dict(zip(map(id, distinct), compiled(tool, distinct), strict=True))
    real = np.array([latency[id(after)] / latency[id(before)] - 1 for before, after in pairs])
    together = np.array([all_at_once for all_at_once, _ in wanted])
    off = np.abs(np.array([gain for _, gain in wanted]) - real)
    there = np.isfinite(real)
    print(f"{target}: {len(graphs)} networks, {nothing} without advice; advice in {np.median(seconds):.1f} s (median)")
    print(line("all advised changes", off[there & together], real[there & together]))
    print(line("one advised change", off[there & ~together], real[there & ~together]), flush=True)


def large() -> None:
    """MobileNetV2 at 224 on the chip with 1024 MACs a cycle."""
    estimator = default_estimator(load_target(LARGE))
    found = advised(mobilenet_v2(1.0, 224), estimator)
    assert found is not None
    graphs = [found.network.graph, *(found.changes.space.close(list(code)) for code in (found.code, found.fastest))]
    before, after, fastest = compiled(Compiler(estimator.target), graphs)
    print(
        f"{LARGE}, MobileNetV2 at 224: all advice predicted {found.together.latency:+.1%}, compiled "
        f"{after / before - 1:+.1%}; fastest set predicted {found.gains.of(found.fastest).latency:+.1%}, compiled "
        f"{fastest / before - 1:+.1%}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="three of them without")
    parser.add_argument("--every", type=int, default=2, metavar="N", help="look at every N-th network only")
    options = parser.parse_args()
    for each in options.targets or TARGETS:
        compare(each, options.every)
    large()

"""Estimates of whole networks for Ethos-U beside what the compiler itself says of them, on networks no fit has seen.

python benchmarks/ethos_u.py [TARGET …]        (needs chipfit[ethos-u]; about three minutes a target on two cores)
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np

from chipfit.errors import MissingDependency
from chipfit.estimate.estimator import Estimator
from chipfit.estimate.fit import rank_correlation
from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.store import default_estimator
from chipfit.graph.graph import Graph
from chipfit.measure.measurement import Run
from chipfit.measure.vela import Compiler
from chipfit.nets.load import load
from chipfit.nets.zoo import ds_cnn, ibn_classifier, ibn_detector_backbone, mobilenet_v1, mobilenet_v2, resnet8
from chipfit.spaces.edits import open_space
from chipfit.targets import load_target

TARGETS = ("ethos-u55-256", "ethos-u55-256-sram-only", "ethos-u65-512", "ethos-u85-256")
DATA = Path(os.environ.get("CHIPFIT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
SEED = 20_261_125
"""Fits draw their networks with seed 0."""


def fused(width: float, resolution: int, generator: np.random.Generator) -> Graph:
    """A MobileNetV2 with some inverted bottlenecks fused, other widths and other kernels."""
    space = open_space(mobilenet_v2(width, resolution), {"fuse": True, "width": True, "kernel": True})
    return space.close(generator.integers(0, space.cardinalities))


def networks() -> dict[str, list[Graph]]:
    """Unseen networks by family: 60 named ones and 25 with random decisions, and 125 random ones."""
    generator = np.random.default_rng(SEED)
    found: dict[str, list[Graph]] = {
        "MobileNetV1": [mobilenet_v1(w, r) for w in (0.25, 0.5, 0.75, 1.0) for r in (96, 128, 160, 224)],
        "MobileNetV2": [mobilenet_v2(w, r) for w in (0.35, 0.5, 0.75, 1.0) for r in (96, 128, 160, 192, 224)],
        "fused MobileNetV2": [
            fused(w, r, generator) for w in (0.35, 0.5, 0.75, 1.0, 1.4) for r in (96, 128, 160, 192, 224)
        ],
        "inverted bottlenecks": [ibn_classifier(resolution=r, width=w) for w in (0.5, 1.0, 1.5) for r in (64, 96, 128)],
        "detector": [ibn_detector_backbone(w, r) for w in (0.5, 1.0) for r in (128, 192, 256, 320)],
        "ResNet-8, DS-CNN": [
            *(resnet8(resolution=r) for r in (32, 48, 64, 96)),
            ds_cnn(),
            ds_cnn(height=98),
            ds_cnn(width=40),
        ],
    }
    for graph in random_networks(125, generator):
        found.setdefault(f"random {family(graph)}", []).append(graph)
    return found


def family(graph: Graph) -> str:
    """What a random network is like, by its operators."""
    kinds = {type(node.op).__name__ for node in graph.nodes}
    separate = any(getattr(node.op, "groups", 1) != 1 for node in graph.nodes)
    if kinds & {"Resize", "ConvTranspose2d", "Concat"}:
        return "encoder-decoder"
    if separate:
        return "with depthwise"
    return "residual" if "Elementwise" in kinds else "plain"


def row(name: str, predicted: np.ndarray, measured: np.ndarray, covered: np.ndarray) -> str:
    off = np.abs(predicted / measured - 1)
    spearman = f"{rank_correlation(predicted, measured):.5f}" if len(off) > 2 else ""
    return (
        f"  {name:28s} {len(off):4d}   {np.median(off):6.2%}   {off.max():6.1%}   {(off <= 0.05).mean():6.1%}   "
        f"{(off <= 0.1).mean():6.1%}   {spearman:8s}  {covered.mean():4.0%}"
    )


def whole_networks(estimator: Estimator, tool: Compiler) -> None:
    groups = networks()
    names = [name for name, graphs in groups.items() for _ in graphs]
    graphs = [graph for found in groups.values() for graph in found]
    runs = tool.networks(graphs)
    kept = [place for place, run in enumerate(runs) if isinstance(run, Run) and not run.elsewhere]
    measured = np.array([runs[place].measurement.latency_s for place in kept])
    costs = [estimator.costs(graphs[place]) for place in kept]
    predicted = np.array([each.latency_s[0] for each in costs])
    covered = np.abs(predicted - measured) <= np.array([each.spread_s[0] for each in costs])
    print(f"  {'family':28s}    n   median      max   within 5 %  within 10 %  Spearman  within spread")
    for name in groups:
        chosen = np.array([names[place] == name for place in kept])
        if chosen.any():
            print(row(name, predicted[chosen], measured[chosen], covered[chosen]))
    print(row("all", predicted, measured, covered))
    if missing := len(graphs) - len(kept):
        print(f"  {missing} networks are left out: the compiler gives operators of theirs to the host's processor")
    peaks = np.array([runs[place].memory_bytes.get("Sram", 0) for place in kept], np.float64)
    counted = np.array([each.peak_bytes[0] for each in costs])
    print(
        f"  peak SRAM: counted / compiled: median {np.median(counted / peaks):.3f}, exact for "
        f"{(counted == peaks).mean():.0%}, within 4 % for {(np.abs(counted / peaks - 1) <= 0.04).mean():.0%}"
    )


def speed(estimator: Estimator, tool: Compiler) -> None:
    graph = mobilenet_v2()
    start = time.perf_counter()
    tool.networks([graph])
    compiled = time.perf_counter() - start
    estimator.costs(graph)
    times: list[float] = []
    for _ in range(5):
        fresh = mobilenet_v2()
        start = time.perf_counter()
        estimator.costs(fresh)
        times.append(time.perf_counter() - start)
    space = open_space(graph, {"fuse": True, "width": True})
    start = time.perf_counter()
    prepared = estimator.prepare(space)
    preparing = time.perf_counter() - start
    codes = np.random.default_rng(0).integers(0, space.cardinalities, (500_000, len(space.decisions)))
    start = time.perf_counter()
    prepared.latency_s(codes)
    each = (time.perf_counter() - start) / len(codes)
    print(
        f"  MobileNetV2: compiled in {compiled * 1e3:.0f} ms, estimated in {min(times) * 1e3:.1f} ms "
        f"({compiled / min(times):.0f} times faster); in batch {each * 1e9:.0f} ns a candidate "
        f"({compiled / each:.2g} times), after {preparing:.1f} s of preparation"
    )


def tiny(estimator: Estimator, tool: Compiler) -> None:
    files = sorted((DATA / "models").glob("*.tflite")) if DATA.is_dir() else []
    if not files:
        print(f"  the MLPerf Tiny models are left out: there is no {DATA / 'models'}")
    for file in files:
        network = load(file)
        (run,) = tool.networks([network])
        assert isinstance(run, Run), run
        costs = estimator.costs(network)
        peak, took_s = run.memory_bytes.get("Sram", 0), run.measurement.latency_s
        elsewhere = f", elsewhere: {', '.join(run.elsewhere)}" if run.elsewhere else ""
        print(
            f"  {file.name:32s} estimated {costs.latency_s[0] * 1e3:.3f} ms, compiled {took_s * 1e3:.3f} ms "
            f"({costs.latency_s[0] / took_s - 1:+.1%}); peak SRAM {costs.peak_bytes[0]} / {peak} "
            f"({costs.peak_bytes[0] / peak - 1:+.1%}){elsewhere}"
        )


if __name__ == "__main__":
    for name in sys.argv[1:] or TARGETS:
        target = load_target(name)
        try:
            tool = Compiler(target, seed=SEED)
        except MissingDependency as error:
            sys.exit(f"{error}")
        estimator = default_estimator(target)
        found = estimator.provenance
        print(
            f"{name}: {found.subgraphs} subgraphs of {found.source.tool} {found.source.version}, fitted {found.fitted}"
        )
        whole_networks(estimator, tool)
        tiny(estimator, tool)
        speed(estimator, tool)

"""Estimates of whole networks for Ethos-U beside what the compiler itself says of them, on networks no fit has seen.

python benchmarks/ethos_u.py [TARGET …]                          (about three minutes a target on two cores)
python benchmarks/ethos_u.py --families TARGET [--table FILE]    (fits anew for each family, without it)

Needs chipfit[ethos-u]. What `chipfit profile TARGET --out FILE` measured can be given as a table; otherwise it is all
measured first. The named networks are in no fit; each kind of random networks is taken out of one in turn.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chipfit.errors import MissingDependency
from chipfit.estimate.estimator import Estimator
from chipfit.estimate.fit import fit_measured, measure_samples, rank_correlation
from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.store import default_estimator
from chipfit.graph.graph import Graph
from chipfit.measure.measurement import Run
from chipfit.measure.table import Table, read_table
from chipfit.measure.vela import Compiler
from chipfit.nets.load import load
from chipfit.nets.zoo import ds_cnn, ibn_classifier, ibn_detector_backbone, mobilenet_v1, mobilenet_v2, resnet8
from chipfit.spaces.edits import open_space
from chipfit.targets import Target, load_target

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


ALIKE = {
    "random with depthwise": ("MobileNetV1", "MobileNetV2", "fused MobileNetV2", "inverted bottlenecks", "detector"),
    "random residual": ("ResNet-8, DS-CNN",),
}
"""Named networks, of which no fit sees any, that are like the random ones of a family."""
HEAD = f"  {'family':28s}    n   median      max   within 5 %  within 10 %  Spearman  within spread"


def families_left_out(target: Target, tool: Compiler, table: Table) -> None:
    """For each family of random networks the errors of a fit that saw none of them, on them and on named ones alike."""
    drawn = random_networks(tool.whole, np.random.default_rng(0))
    of_row = ["" if number is None else f"random {family(drawn[number])}" for number in table.networks]
    groups = networks()
    print(HEAD)
    for name in sorted(group for group in groups if group.startswith("random ")):
        kept = [place for place, own in enumerate(of_row) if own != name]
        rest = Table(
            tuple(table.workloads[place] for place in kept),
            tuple(table.measurements[place] for place in kept),
            tuple(table.networks[place] for place in kept),
        )
        Compared.of(
            fit_measured(target, rest), tool, {each: groups[each] for each in (name, *ALIKE.get(name, ()))}
        ).show()


@dataclass(frozen=True)
class Compared:
    """Networks by the name of their family: compiled and predicted latencies in s, whether within the spread, and peak
    SRAM in bytes; `missing` are those of which the compiler leaves operators to the host's processor."""

    names: np.ndarray
    measured_s: np.ndarray
    predicted_s: np.ndarray
    covered: np.ndarray
    peak_bytes: np.ndarray
    counted_bytes: np.ndarray
    missing: int

    @classmethod
    def of(cls, estimator: Estimator, tool: Compiler, groups: dict[str, list[Graph]]) -> Compared:
        names = [name for name, graphs in groups.items() for _ in graphs]
        graphs = [graph for found in groups.values() for graph in found]
        runs = tool.networks(graphs)
        kept = [place for place, run in enumerate(runs) if isinstance(run, Run) and not run.elsewhere]
        measured = np.array([runs[place].measurement.latency_s for place in kept])
        costs = [estimator.costs(graphs[place]) for place in kept]
        predicted = np.array([each.latency_s[0] for each in costs])
        spread = np.array([each.spread_s[0] for each in costs])
        return cls(
            np.array([names[place] for place in kept]),
            measured,
            predicted,
            np.abs(predicted - measured) <= spread,
            np.array([runs[place].memory_bytes.get("Sram", 0) for place in kept], np.float64),
            np.array([each.peak_bytes[0] for each in costs]),
            len(graphs) - len(kept),
        )

    def show(self) -> None:
        for name in dict.fromkeys(self.names.tolist()):
            own = self.names == name
            print(row(name, self.predicted_s[own], self.measured_s[own], self.covered[own]), flush=True)


def whole_networks(estimator: Estimator, tool: Compiler) -> None:
    found = Compared.of(estimator, tool, networks())
    print(HEAD)
    found.show()
    print(row("all", found.predicted_s, found.measured_s, found.covered))
    if found.missing:
        print(
            f"  {found.missing} networks are left out: the compiler gives operators of theirs to the host's processor"
        )
    ratio = found.counted_bytes / found.peak_bytes
    print(
        f"  peak SRAM: counted / compiled: median {np.median(ratio):.3f}, exact for {(ratio == 1).mean():.0%}, "
        f"within 4 % for {(np.abs(ratio - 1) <= 0.04).mean():.0%}",
        flush=True,
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", default=TARGETS)
    parser.add_argument("--families", action="store_true", help="leave each family of networks out of a fit")
    parser.add_argument("--table", type=Path, help="what was measured on the one target")
    options = parser.parse_args()
    for name in options.targets:
        target = load_target(name)
        try:
            tool = Compiler(target, seed=SEED)
        except MissingDependency as error:
            sys.exit(f"{error}")
        if options.families:
            print(f"{name}: fits without a family")
            families_left_out(
                target, tool, read_table(options.table) if options.table else measure_samples(target, Compiler(target))
            )
            continue
        estimator = default_estimator(target)
        found = estimator.provenance
        print(
            f"{name}: {found.subgraphs} subgraphs of {found.source.tool} {found.source.version}, fitted {found.fitted}"
        )
        whole_networks(estimator, tool)
        tiny(estimator, tool)
        speed(estimator, tool)


if __name__ == "__main__":
    main()

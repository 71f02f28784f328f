"""A latency predictor for a device of which only some whole networks were timed, on public tables of real devices.

Run as `OMP_NUM_THREADS=1 python benchmarks/calibrate.py [split] [devices] [families] [spaces] [product]`; without
words, everything. The tables are looked for in the directory that CHIPFIT_TEST_DATA names, or in ../shared/data.

Every device is in turn the one that is asked for, and nothing was chosen on it: the sizes in `transfer` were settled on
the nine devices that HELP (Lee et al. 2021) trains with, one of them left out at a time. Spearman and the share of
networks within 10 % are means over draws, on the networks that were not measured.
"""

from __future__ import annotations

import ast
import csv
import gzip
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chipfit.estimate.calibrate import calibrate
from chipfit.estimate.fit import rank_correlation
from chipfit.estimate.store import default_estimator
from chipfit.estimate.transfer import Population, choose, population, transfer
from chipfit.measure.measurement import Source
from chipfit.spaces.published import nas_bench_201
from chipfit.spaces.published.nas_bench_201 import CONV1, CONV3, EDGES, NONE, POOL
from chipfit.targets import load_target, shipped_targets

Floats = NDArray[np.float64]

DATA = Path(os.environ.get("CHIPFIT_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "nas"
COUNTS = (10, 20, 50, 100)
DRAWS = 20
NETWORKS = 1500
"""Networks of a space that predictions are made and judged on, where a table has more."""
REFERENCE = (
    "1080ti_1", "1080ti_32", "1080ti_256", "silver_4114", "silver_4210r", "samsung_a50", "pixel3", "essential_ph_1",
    "samsung_s7",
)  # fmt: skip
"""The devices that HELP trains with on NAS-Bench-201; it judges on others."""
FAMILIES = {"silver": "xeon", "gold": "xeon", "titan": "titan_rtx"}
"""Processors that are one family though their names begin differently."""
ADDITIVE = 0.9995
"""Share of the variance that a sum over the parts explains, from which on a table is called additive."""


@dataclass(frozen=True)
class Space:
    """n networks of a space: `parts` (n, p) say which choice each part is, `latency_s` holds (n,) for every device.

    `used` is `parts` without what the output does not depend on; `counts` are MACs and parameters, or nothing.
    """

    name: str
    parts: NDArray[np.int64]
    used: NDArray[np.int64]
    features: Floats
    counts: dict[str, Floats]
    latency_s: dict[str, Floats]


def rows(name: str) -> list[dict[str, str]]:
    with gzip.open(DATA / f"{name}.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


def column(table: Sequence[dict[str, str]], name: str, scale: float = 1.0) -> Floats:
    return np.array([float(row[name] or "nan") * scale for row in table])


def one_hot(parts: NDArray[np.int64]) -> Floats:
    return np.concatenate([(each[:, None] == np.unique(each)).astype(np.float64) for each in parts.T], axis=1)


def used_edges(code: NDArray[np.int64]) -> NDArray[np.int64]:
    """A NAS-Bench-201 cell without edges that no input reaches or that reach no output."""
    fed, read = {0}, {3}
    for _ in range(3):
        fed |= {b for (a, b), kind in zip(EDGES, code, strict=True) if kind != NONE and a in fed}
        read |= {a for (a, b), kind in zip(EDGES, code, strict=True) if kind != NONE and b in read}
    kept = [kind if a in fed and b in read else NONE for (a, b), kind in zip(EDGES, code, strict=True)]
    return np.array(kept, dtype=np.int64)


def longest(code: NDArray[np.int64], kinds: tuple[int, ...]) -> int:
    """Most operators of `kinds` on one way through a cell."""
    best = [0, -9, -9, -9]
    for (a, b), kind in sorted(zip(EDGES, code.tolist(), strict=True), key=lambda item: item[0][1]):
        if kind != NONE:
            best[b] = max(best[b], best[a] + (kind in kinds))
    return max(best[3], 0)


def cells() -> Space:
    """NAS-Bench-201 with all devices of three tables; a device that another table repeats counts once."""
    table = rows("nb201_accuracy")
    place = {int(row["idx"]): number for number, row in enumerate(table)}
    codes = np.array([ast.literal_eval(row["net"]) for row in table])
    used = np.array([used_edges(code) for code in codes])
    latency_s: dict[str, Floats] = {}
    for name, leave in (
        ("help_nb201_latency_ms", ()),
        ("hw_nas_bench_201", ("edgegpu_energy", "pixel3_latency")),
        ("oneproxy_nb201_latency_ms", ()),
    ):
        found = rows(name)
        at = [place[int(row["idx"])] for row in found]
        for device in found[0]:
            if device not in ("dataset", "idx", "net", *leave):
                values = np.full(len(table), np.nan)
                values[at] = column(found, device, 1e-3)
                latency_s[device.removesuffix("_latency")] = values
    counts = {"MACs": column(table, "cifar10_mflops"), "parameters": column(table, "cifar10_mparams")}
    tallies = [(each == kind).sum(axis=1) for each in (codes, used) for kind in range(5)]
    ways = [[longest(code, kinds) for code in used] for kinds in ((CONV3, CONV1), (CONV3, CONV1, POOL))]
    logs = [np.log(each) for each in counts.values()]
    features = np.concatenate([one_hot(codes), one_hot(used), np.stack([*tallies, *ways, *logs], axis=1)], axis=1)
    return Space("NAS-Bench-201", codes, used, features, counts, latency_s)


def blocks() -> Space:
    """FBNet."""
    table = rows("help_fbnet_latency_ms")
    parts = np.array([[int(part) for part in row["arch"].split("_")] for row in table])
    counts = {"MACs": column(table, "flops"), "parameters": column(table, "params")}
    features = np.concatenate([one_hot(parts), np.log(np.stack([*counts.values()], axis=1))], axis=1)
    devices = [name for name in table[0] if name not in ("arch", "flops", "params")]
    return Space("FBNet", parts, parts, features, counts, {name: column(table, name, 1e-3) for name in devices})


def subnets() -> Space:
    """Once-for-all: kernel and expansion of 20 blocks, some of which are not there, and the resolution."""
    table = rows("help_ofa_latency_ms")
    kernel, expansion, depth = (np.array([ast.literal_eval(row[name]) for row in table]) for name in ("ks", "e", "d"))
    size = np.array([[int(row["r"])] for row in table])
    there = np.tile(np.arange(4), 5) < np.repeat(depth, 4, axis=1)
    parts = np.concatenate([np.where(there, kernel * 10 + expansion, 0), size], axis=1)
    work = (np.where(there, expansion, 0).sum(axis=1, keepdims=True) * size**2).astype(np.float64)
    features = np.concatenate([one_hot(parts), depth, size, work], axis=1)
    devices = [name for name in table[0] if name not in ("ks", "e", "d", "r")]
    return Space("once-for-all", parts, parts, features, {}, {name: column(table, name, 1e-3) for name in devices})


def family(device: str) -> str:
    """GPUs and Xeons of one architecture, at whatever batch; a phone or a board is one of its own."""
    first = device.split("_")[0]
    return device if first in ("samsung", "eagle", "true") else FAMILIES.get(first, first)


def marks(space: Space, device: str) -> str:
    """What is odd about a table: whole milliseconds, networks that are missing, an exact sum over the parts."""
    latency_s = space.latency_s[device]
    there = np.isfinite(latency_s)
    found = []
    if np.allclose(latency_s[there] * 1e3, np.rint(latency_s[there] * 1e3)):
        found.append("rounded")
    if not there.all() and there.mean() > 0.3:
        found.append("misses networks")
    for parts in (space.parts, space.used):
        matrix = one_hot(parts)[there]
        left = latency_s[there] - matrix @ np.linalg.lstsq(matrix, latency_s[there], rcond=None)[0]
        if left.var() < (1 - ADDITIVE) * latency_s[there].var():
            found.append("additive")
            break
    return ", ".join(found)


def ridge(matrix: Floats, measured: NDArray[np.int64], latency_s: Floats) -> Floats:
    """Ridge regression of log latency on standardised columns, its strength chosen by leaving one network out."""
    from sklearn.linear_model import RidgeCV

    scaled = (matrix - matrix.mean(axis=0)) / np.maximum(matrix.std(axis=0), 1e-12)
    model = RidgeCV(alphas=np.logspace(-4, 4, 25)).fit(scaled[measured], np.log(latency_s))
    return np.exp(model.predict(scaled))


Method = Callable[[NDArray[np.int64], Floats], Floats]
"""From the places and the latencies of measured networks to the latencies of all."""
Pick = Callable[[int, int], NDArray[np.int64]]
"""Chooses so many networks to measure, in a numbered draw."""
Scores = dict[tuple[str, int], tuple[float, float]]
"""Spearman and share within 10 % by method and number of measured networks."""


def judge(latency_s: Floats, methods: dict[str, tuple[Method, Pick]]) -> Scores:
    """Spearman and share within 10 % of each method and number of measured networks, means over draws."""
    found: Scores = {}
    for name, (method, pick) in methods.items():
        for count in COUNTS:
            scores = []
            for draw in range(DRAWS):
                measured = pick(count, draw)
                rest = np.delete(np.arange(len(latency_s)), measured)
                predicted = method(measured, latency_s[measured])[rest]
                within = np.abs(predicted / latency_s[rest] - 1) <= 0.1
                scores.append((rank_correlation(predicted, latency_s[rest]), within.mean()))
            found[name, count] = tuple(np.mean(scores, axis=0).tolist())
    return found


def ask(
    space: Space,
    device: str,
    known: Sequence[str],
    simulated: Floats | None = None,
    alone: bool = True,
) -> Scores:
    """How well each method predicts one device from some of its networks and from the `known` devices.

    `alone` asks for the methods that need no other device, too.
    """
    at = np.flatnonzero(np.isfinite(space.latency_s[device]))
    if len(at) > NETWORKS:
        at = np.sort(np.random.default_rng(0).choice(at, NETWORKS, replace=False))
    latency_s, features, parts = space.latency_s[device][at], space.features[at], one_hot(space.parts[at])
    costs = [*space.counts.values(), *([] if simulated is None else simulated.T)]
    without = population(features, np.stack(costs, axis=1)[at] if costs else None)

    def random(count: int, draw: int) -> NDArray[np.int64]:
        return np.random.default_rng([draw, count]).choice(len(at), count, replace=False)

    def designed(networks: Population) -> Pick:
        """The first of the networks chosen for the largest count: choosing is one by one."""
        picks: dict[int, NDArray[np.int64]] = {}

        def pick(count: int, draw: int) -> NDArray[np.int64]:
            if draw not in picks:
                picks[draw] = choose(networks, max(COUNTS), np.random.default_rng(draw))
            return picks[draw][:count]

        return pick

    methods: dict[str, tuple[Method, Pick]] = {}
    if alone:
        for name, values in space.counts.items():
            logs = np.log(values[at])[:, None]
            methods[name] = (lambda m, t, logs=logs: ridge(logs, m, t), random)
        methods["additive lookup"] = (lambda m, t: ridge(parts, m, t), random)
        methods["chipfit, no other device"] = (lambda m, t: transfer(without, m, t).latency_s, random)
        methods["  its own choice"] = (methods["chipfit, no other device"][0], designed(without))
    if known:
        others = np.stack([space.latency_s[name][at] for name in known], axis=1)
        whole = np.log(others[:, np.isfinite(others).all(axis=0)])
        prior = population(features, others)
        own = designed(prior)
        methods["ridge on devices"] = (lambda m, t: ridge(whole, m, t), random)
        methods["  chipfit's choice"] = (methods["ridge on devices"][0], own)
        methods["chipfit"] = (lambda m, t: transfer(prior, m, t).latency_s, random)
        methods["  own choice"] = (methods["chipfit"][0], own)
    return judge(latency_s, methods)


def show(title: str, found: dict[str, Scores], odd: dict[str, str]) -> None:
    """Means over the devices without marks and over those with, then each device with the fewest networks."""
    print(f"\n{title}: Spearman / share within 10 %")
    for name, group in (
        ("devices without marks", [device for device in found if not odd[device]]),
        ("devices with marks", [device for device in found if odd[device]]),
    ):
        if not group:
            continue
        print(f"  {len(group)} {name}{'':{max(1, 24 - len(name))}}" + "".join(f"{count:>16d}" for count in COUNTS))
        for method in dict.fromkeys(method for method, _ in found[group[0]]):
            means = [np.mean([found[device][method, count] for device in group], axis=0) for count in COUNTS]
            print(f"    {method:26s}" + "".join(f"   {rank:.4f} / {within:.2f}" for rank, within in means))
    print(f"  each device, {COUNTS[0]} networks")
    for device, each in found.items():
        methods = [name for name in ("ridge on devices", "chipfit", "  own choice") if (name, COUNTS[0]) in each]
        line = "   ".join(
            f"{name.strip()} {each[name, COUNTS[0]][0]:.3f} / {each[name, COUNTS[0]][1]:.2f}" for name in methods
        )
        print(f"    {device:16s} {line}   {odd[device]}", flush=True)


def split(space: Space) -> None:
    """HELP's split of NAS-Bench-201: nine devices are known, the others of its table are asked for."""
    asked = ["titanx_1", "titanx_32", "titanx_256", "gold_6240"]
    found = {device: ask(space, device, REFERENCE) for device in asked}
    show("nine devices known, four asked for", found, {device: marks(space, device) for device in asked})


def left_out(space: Space, alike: bool, simulated: Floats | None = None) -> None:
    """Every device asked for, with all others known or, for `alike`, with all but its family."""
    sources = [name for name, values in space.latency_s.items() if np.isfinite(values).mean() > 0.5]
    odd = {device: marks(space, device) for device in space.latency_s}
    found: dict[str, Scores] = {}
    for device in space.latency_s:
        known = [name for name in sources if name != device and not (alike and family(name) == family(device))]
        found[device] = ask(space, device, known, simulated=simulated, alone=not alike)
    title = "all devices known but its family" if alike else "all other devices known"
    show(f"{space.name}, {title}", found, odd)


def simulated_latency(space: Space) -> Floats:
    """What chipfit's own estimators of the chips that it ships say (n, 2 * chips): no device was measured for it.

    Once with all edges and once with those that the output depends on: some runtimes leave the others out.
    """
    graph = nas_bench_201.space(idle=True)
    estimators = [default_estimator(target) for target in shipped_targets() if target.tool is None]
    prepared = [each.prepare(graph) for each in estimators]
    return np.stack([each.latency_s(codes) for each in prepared for codes in (space.parts, space.used)], axis=1)


def agreement(predicted: Floats, taken: Floats) -> str:
    within = np.mean(np.abs(predicted / taken - 1) <= 0.1)
    return f"{rank_correlation(predicted, taken):.3f} / {within:.2f}"


def product(space: Space) -> None:
    """`calibrate`: the estimator of a chip that is only described, calibrated to each device; 300 networks judge."""
    estimator = default_estimator(load_target("neural-engine"))
    # Networks without idle edges: some of the runtimes leave those out and some do not.
    reach = np.flatnonzero((space.used == space.parts).all(axis=1) & (space.used != NONE).any(axis=1))
    at = np.random.default_rng(1).choice(reach, 400, replace=False)
    graphs = [nas_bench_201.network(space.used[number]) for number in at.tolist()]
    before = np.array([estimator.costs(graph).latency_s[0] for graph in graphs])
    source = Source("measured", "public table", "1")
    print("\ncalibrate: Spearman / share within 10 %, its own median error on networks left out; as it was, scaled")
    for device in [name for name, values in space.latency_s.items() if np.isfinite(values).all()]:
        taken = space.latency_s[device][at]
        rest = slice(100, None)
        scaled = before * np.median(taken[:100] / before[:100])
        line = f"  {device:16s} {agreement(scaled[rest], taken[rest])}"
        for count in COUNTS:
            found = calibrate(estimator, graphs[:count], taken[:count], source)
            predicted = np.array([found.costs(graph).latency_s[0] for graph in graphs[rest]])
            own = found.calibration.median_error if found.calibration else np.nan
            line += f"   {count}: {agreement(predicted, taken[rest])}, {own:.1%}"
        print(line, flush=True)


def main() -> None:
    if not DATA.is_dir():
        print(f"no tables at {DATA}; set CHIPFIT_TEST_DATA to a directory that holds nas/")
        return
    wanted = sys.argv[1:] or ["split", "devices", "families", "spaces", "product"]
    space = cells()
    if "split" in wanted:
        split(space)
    if "devices" in wanted:
        left_out(space, False, simulated_latency(space))
    if "families" in wanted:
        left_out(space, True)
    if "spaces" in wanted:
        for other in (blocks(), subnets()):
            left_out(other, False)
            left_out(other, True)
    if "product" in wanted:
        product(space)


if __name__ == "__main__":
    main()

"""How zero-shot scores rank networks beside the accuracies that these reached when they were trained.

python benchmarks/zero_shot.py [default] [scores] [tasks] [mobile] [N]

The tables are looked for in the directory that CHIPFIT_TEST_DATA names, or in ../shared/data. Spearman stands with
its 90 % interval over resampled networks; ms are processor time of one core for one network, with the plain forward
passes of 16 images that it amounts to. Without words `default` and `scores` are run.

default: N (1,000) networks of NAS-Bench-201, CIFAR-10, drawn with SEED after the DEVELOPMENT ones, on which
compositions of the default were compared. scores: every score on the first N (200) of the same, 16 images of CIFAR-10
as batch. tasks: cells of TransNAS-Bench-101, four tasks, N (200) of them in the skeleton of NAS-Bench-201 at 32 x 32.
mobile: N (200) networks of Accel-NASBench, ImageNet, at 64 x 64.
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from chipfit.accuracy.agreement import agreement
from chipfit.accuracy.zero_shot import SCORES, Score, ensemble, fresh
from chipfit.errors import ScoreFailed
from chipfit.graph.graph import Graph
from chipfit.spaces.published import mnasnet, nas_bench_201
from chipfit.spaces.published.nas_bench_201 import CONV1, CONV3, NONE, SKIP

Floats = NDArray[np.float64]
Rows = list[dict[str, str]]

DATA = Path(os.environ.get("CHIPFIT_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
SEED = 2026
DEVELOPMENT = 400
"""Networks at the front of the order drawn with `SEED`: compositions of the default were looked at on these."""
IMAGES = 16
TASKS = ("class_scene", "class_object", "jigsaw", "segmentsemantic")
TOGETHER = ("expressivity", "progressivity", "trainability", "complexity")


def rows(name: str) -> Rows:
    with gzip.open(DATA / "nas" / f"{name}.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


def drawn(table: Rows, first: int, count: int) -> Rows:
    order = np.random.default_rng(SEED).permutation(len(table))
    return [table[place] for place in order[first : first + count]]


def images() -> torch.Tensor:
    """(IMAGES, 3, 32, 32) of CIFAR-10, about zero mean and unit variance."""
    stored = np.load(DATA / "cifar10" / "cifar10_jpeg_train.npz")
    at = np.random.default_rng(SEED).choice(len(stored["labels"]), IMAGES, replace=False)
    parts = [stored["jpeg"][stored["offsets"][i] : stored["offsets"][i + 1]].tobytes() for i in at]
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(part)), np.float32) for part in parts])
    return torch.from_numpy((pixels.transpose(0, 3, 1, 2) / 255 - 0.47) / 0.25)


def forward(module: torch.nn.Module, batch: torch.Tensor) -> float:
    with torch.no_grad():
        return float(module.eval()(batch).sum())


def measured(
    scores: Mapping[str, Score], graphs: Iterable[Graph], batch: torch.Tensor, total: int
) -> tuple[dict[str, Floats], dict[str, float], float]:
    """Scores (n,) by name, NaN where one failed; processor milliseconds a network; those of a forward pass."""
    names = ("forward", *scores)
    values: dict[str, list[float]] = {name: [] for name in names}
    spent = dict.fromkeys(names, 0.0)
    for number, graph in enumerate(graphs, start=1):
        module = fresh(graph)
        for name in names:
            begin = time.process_time()
            try:
                values[name].append(scores.get(name, forward)(module, batch))
            except ScoreFailed:
                values[name].append(np.nan)
            spent[name] += time.process_time() - begin
        if number % 50 == 0:
            print(f"{number} of {total} networks", file=sys.stderr, flush=True)
    per_network = {name: 1e3 * each / max(1, total) for name, each in spent.items()}
    return {name: np.array(values[name]) for name in scores}, per_network, per_network["forward"]


def line(name: str, found: Floats, accuracies: Floats, cost: str) -> str:
    ranked = agreement(found, accuracies)
    if ranked.spearman is None or ranked.kendall is None:
        return f"| {name} | not known | | {ranked.failed} | {cost} |"
    shown = f"{ranked.spearman:.3f} [{ranked.low:.3f}, {ranked.high:.3f}] | {ranked.kendall:.3f}"
    return f"| {name} | {shown} | {ranked.failed} | {cost} |"


def cells(names: Sequence[str], count: int) -> None:
    """NAS-Bench-201, CIFAR-10."""
    taken = drawn(rows("nb201_accuracy"), DEVELOPMENT, count)
    accuracies = np.array([float(row["cifar10_test_acc"]) for row in taken])
    graphs = (nas_bench_201.network(nas_bench_201.code_of(row["net"])) for row in taken)
    found, milliseconds, forward_ms = measured({name: SCORES[name] for name in names}, graphs, images(), len(taken))
    print(f"\nNAS-Bench-201, CIFAR-10: {len(taken)} networks that nothing was chosen on, batch of {IMAGES} images\n")
    print("| score | Spearman [90 % interval] | Kendall | failed | ms (forward passes) |\n|---|---|---|---|---|")
    for name in names:
        cost = f"{milliseconds[name]:.0f} ({milliseconds[name] / forward_ms:.1f})"
        print(line(name, found[name], accuracies, cost))
    if set(TOGETHER) <= set(names):
        ranks = ensemble(np.column_stack([found[name] for name in TOGETHER]))
        cost = sum(milliseconds[name] for name in TOGETHER)
        print(line("AZ-NAS (ranks of its four)", ranks, accuracies, f"{cost:.0f} ({cost / forward_ms:.1f})"))
    for column in ("cifar10_mflops", "cifar10_mparams"):
        print(line(f"the table's {column}", np.array([float(row[column]) for row in taken]), accuracies, "-"))


def tasks(count: int) -> None:
    """TransNAS-Bench-101's cells; 0 is none, 1 skip, 2 a 1x1 and 3 a 3x3 convolution, edges by the node they enter."""
    by_net: dict[str, dict[str, dict[str, str]]] = {}
    for row in rows("transnasbench101_zc_subset"):
        if row["space"] == "micro":
            by_net.setdefault(row["net"], {})[row["task"]] = row
    nets = list(by_net)
    nets = [nets[place] for place in np.random.default_rng(SEED).permutation(len(nets))[DEVELOPMENT:][:count]]
    kinds = (NONE, SKIP, CONV1, CONV3)
    codes = [[kinds[int(net[1:-1].split(",")[place])] for place in (0, 1, 3, 2, 4, 5)] for net in nets]
    found, _, _ = measured({"default": SCORES["default"]}, map(nas_bench_201.network, codes), images(), len(nets))
    print(f"\nTransNAS-Bench-101, {len(nets)} cells; the table's own columns for comparison\n")
    print("| task, score | Spearman [90 % interval] | Kendall | failed | |\n|---|---|---|---|---|")
    for task in TASKS:
        has = [place for place, net in enumerate(nets) if task in by_net[net]]
        wanted = np.array([float(by_net[nets[place]][task]["val_metric"]) for place in has])
        print(line(f"{task}: default", found["default"][has], wanted, "-"))
        for column in ("flops", "params", "nwot", "jacov", "snip"):
            values = np.array([float(by_net[nets[place]][task][column]) for place in has])
            print(line(f"{task}: the table's {column}", values, wanted, "-"))


def mobile(count: int) -> None:
    """Accel-NASBench, ImageNet."""
    taken = drawn(rows("accel_nasbench"), DEVELOPMENT, count)
    accuracies = np.array([float(row["val_top1"]) for row in taken])
    space = mnasnet.space(resolution=64)
    batch = torch.nn.functional.interpolate(images(), size=(64, 64), mode="bilinear")
    graphs = (space.close(mnasnet.code_of(row)) for row in taken)
    found, milliseconds, forward_ms = measured({"default": SCORES["default"]}, graphs, batch, len(taken))
    print(f"\nAccel-NASBench, ImageNet: {len(taken)} networks\n")
    print("| score | Spearman [90 % interval] | Kendall | failed | ms (forward passes) |\n|---|---|---|---|---|")
    cost = f"{milliseconds['default']:.0f} ({milliseconds['default'] / forward_ms:.1f})"
    print(line("default", found["default"], accuracies, cost))
    for column in ("macs", "params"):
        print(line(f"the table's {column}", np.array([float(row[column]) for row in taken]), accuracies, "-"))


def main(words: Sequence[str]) -> None:
    if not (DATA / "nas").is_dir():
        print(f"zero_shot: no tables at {DATA}; set CHIPFIT_TEST_DATA to a directory that holds nas/ and cifar10/")
        return
    torch.set_num_threads(1)
    counts = [int(word) for word in words if word.isdigit()]
    parts: Mapping[str, tuple[Callable[[int], None], int]] = {
        "default": (lambda count: cells(["default"], count), 1000),
        "scores": (lambda count: cells(list(SCORES), count), 200),
        "tasks": (tasks, 200),
        "mobile": (mobile, 200),
    }
    for name in [word for word in words if word in parts] or ["default", "scores"]:
        run, count = parts[name]
        run(counts[0] if counts else count)


if __name__ == "__main__":
    main(sys.argv[1:])

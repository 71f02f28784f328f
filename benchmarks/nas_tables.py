"""Searches compared on public tables of trained networks: NAS-Bench-201 and Accel-NASBench, with equal trainings.

Run as `OMP_NUM_THREADS=1 python benchmarks/nas_tables.py [one] [latency] [accel] [overhead]`; without words, everything
(about 20 minutes of one core). The tables are looked for in the directory that CHIPFIT_TEST_DATA names, or in
../shared/data. The environment's SEEDS says how often each search is repeated (50); Optuna's, which are slow, a fifth.

one       NAS-Bench-201, CIFAR-10, one objective: trainings until the optimum of the column is found, at most 150. The
          columns are the test and validation accuracy after 200 epochs and after the short schedule, or those named.
latency   accuracy and the latency of every table, which is free: regret of hypervolume after 100 trainings, in percent
          of the true front's; the reference is the worst of each objective.
accel     the same on Accel-NASBench, whose domain is the networks that are listed.
overhead  seconds of ask and tell per candidate.

The options of every decision are shuffled by the seed, so no search can profit from their order. What guided search
does was settled on the short schedule, the validation column, the latencies of gold_6240 and the Edge TPU, and the
devices of Accel-NASBench, so that these say less than the others; nothing was set per table.
"topology" is computed from the cell alone: the most convolutions on a way through, and the fewest. Deeper is more
expressive and a short way keeps gradients, as He et al. 2016 argue; no accuracy was used. A study gives guided search
the same of every space, with FLOPs and parameters.
"""

from __future__ import annotations

import ast
import csv
import gzip
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from baselines import Problem, Rows, asked, local_search, optuna_search, pymoo_nsga2, ridge
from numpy.typing import NDArray

from chipfit.accuracy.surrogate import fit
from chipfit.search import NSGA2, Domain, RandomSearch, RegularizedEvolution, front_mask, hypervolume
from chipfit.search.algorithm import Codes
from chipfit.search.guided import Guided
from chipfit.spaces.published.nas_bench_201 import CONV1, CONV3, NONE

Floats = NDArray[np.float64]
Search = Callable[[Problem, int, int], Rows]

DATA = Path(os.environ.get("CHIPFIT_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data") / "nas"
SEEDS = int(os.environ.get("SEEDS", "50"))
WAYS = ((2,), (0, 4), (1, 5), (0, 3, 5))
"""The edges of each way through a cell of NAS-Bench-201."""
BATCH = 5
COLUMNS = ("cifar10_test_acc", "cifar10_val_acc", "lo_cifar10_test", "lo_cifar10_val")


def table(name: str) -> list[dict[str, str]]:
    with gzip.open(DATA / f"{name}.csv.gz", "rt") as file:
        return list(csv.DictReader(file))


def column(rows: Sequence[dict[str, str]], name: str) -> Floats:
    """Numbers of a column, NaN where it is empty."""
    return np.array([float(row[name] or "nan") for row in rows])


def topology(codes: Codes) -> Floats:
    """The most convolutions on a way through each cell, and minus the fewest; -1 and -4 without a way: (n, 2)."""
    deepest, shortest = np.full(len(codes), -1.0), np.full(len(codes), 4.0)
    convolutions = (codes == CONV3) | (codes == CONV1)
    for way in WAYS:
        through = (codes[:, way] != NONE).all(axis=1)
        depth = convolutions[:, way].sum(axis=1)
        deepest = np.where(through, np.maximum(deepest, depth), deepest)
        shortest = np.where(through, np.minimum(shortest, depth), shortest)
    return np.stack([deepest, -shortest], axis=1)


class Cells:
    """NAS-Bench-201 with options in an order of the seed's own."""

    def __init__(self) -> None:
        self.rows = table("nb201_accuracy")
        self.codes = np.array([ast.literal_eval(row["net"]) for row in self.rows], dtype=np.int64)
        counts = [column(self.rows, name)[:, None] for name in ("cifar10_mflops", "cifar10_mparams")]
        self.signs = np.concatenate([counts[0], topology(self.codes), counts[1]], axis=1)
        self.place = np.empty(5**6, dtype=np.int64)
        self.place[self.codes @ 5 ** np.arange(6)] = np.arange(len(self.codes))

    def problem(self, name: str, loss: Floats, cost: Floats | None, seed: int) -> Problem:
        generator = np.random.default_rng([seed, 201])
        orders = np.stack([generator.permutation(5) for _ in range(6)])
        shuffled = np.stack([np.argsort(order)[self.codes[:, edge]] for edge, order in enumerate(orders)], axis=1)
        usable = np.ones(len(loss), dtype=np.bool_) if cost is None else ~np.isnan(cost)
        known = None if cost is None else np.where(usable, cost, np.nanmax(cost))

        def row(codes: Codes) -> NDArray[np.int64]:
            return self.place[orders[np.arange(6), codes] @ 5 ** np.arange(6)]

        return Problem(name, (5,) * 6, shuffled, row, loss, known, usable, self.signs)


class Listed:
    """Accel-NASBench: a code stands for the listed network that differs from it in the fewest decisions."""

    def __init__(self) -> None:
        self.rows = table("accel_nasbench")
        names = [f"block{block}_{part}" for block in range(7) for part in ("e", "k", "l", "se")]
        columns = [np.unique([row[name] for row in self.rows], return_inverse=True) for name in names]
        self.cardinalities = tuple(len(options) for options, _ in columns)
        codes = np.stack([inverse for _, inverse in columns], axis=1).astype(np.int64)
        # Some networks were trained twice; the first training counts.
        first = np.sort(np.unique(codes, axis=0, return_index=True)[1])
        self.rows, self.codes = [self.rows[row] for row in first], codes[first]
        self.signs = np.stack([column(self.rows, "macs"), column(self.rows, "params")], axis=1)
        self.vectors = [np.eye(count, dtype=np.float32) for count in self.cardinalities]
        self.listed = self.onehot(self.codes).T.copy()

    def onehot(self, codes: Codes) -> NDArray[np.float32]:
        return np.concatenate([vectors[codes[:, place]] for place, vectors in enumerate(self.vectors)], axis=1)

    def row(self, codes: Codes) -> NDArray[np.int64]:
        return (self.onehot(codes) @ self.listed).argmax(axis=1)

    def problem(self, name: str, loss: Floats, cost: Floats) -> Problem:
        usable = ~np.isnan(cost)
        return Problem(
            name, self.cardinalities, self.codes, self.row, loss, np.where(usable, cost, np.nanmax(cost)), usable,
            self.signs, canonical=lambda codes: self.codes[self.row(codes)],
        )  # fmt: skip


def guided(columns: tuple[int, ...], batch: int, stop: bool = False) -> Search:
    """Our guided search with some of the problem's hints, or with none."""

    def search(problem: Problem, seed: int, budget: int) -> Rows:
        hints = problem.hints(columns) if columns else None
        return asked(lambda domain, seed: Guided(domain, seed, fit, hints), batch, stop)(problem, seed, budget)

    return search


def evolution(domain: Domain, seed: int) -> RegularizedEvolution:
    return RegularizedEvolution(domain, seed, population=20, sample=5)


def queries(problem: Problem, rows: Rows, budget: int) -> float:
    """The trainings until the optimum, infinity where it was not found within the budget."""
    hits = np.flatnonzero(problem.loss[rows[:budget]] <= problem.loss[problem.usable].min())
    return float(hits[0]) + 1 if len(hits) else np.inf


def one(cells: Cells, columns: Sequence[str]) -> None:
    budget = 150
    searches: dict[str, Search] = {
        "guided, as in a study": guided((0, 3, 1, 2), 1, True),
        "guided, FLOPs + topology": guided((0, 1, 2), 1, True),
        "guided, topology": guided((1, 2), 1, True),
        "guided, FLOPs": guided((0,), 1, True),
        "local search from most FLOPs": local_search(True),
        "ridge": ridge,
        "guided, no hints": guided((), 1, True),
        "local search": local_search(False),
        "regularised evolution": asked(evolution, 1, True),
        "pymoo NSGA-II": pymoo_nsga2,
        "random search": asked(RandomSearch, BATCH, True),
        "Optuna NSGA-II": optuna_search("nsga2"),
        "Optuna TPE": optuna_search("tpe"),
    }
    for name in columns:
        print(f"\nNAS-Bench-201, {name}: trainings to the optimum, at most {budget}, {SEEDS} seeds")
        print(f"{'':30}{'median':>8}{'quartiles':>14}{'hit rate':>10}", flush=True)
        loss = 1.0 - column(cells.rows, name) / 100.0
        for label, search in searches.items():
            if "Optuna" in label and name != "cifar10_test_acc":
                continue
            repeats = max(1, SEEDS // 5) if "Optuna" in label else SEEDS
            problems = [cells.problem(name, loss, None, seed) for seed in range(repeats)]
            found = [queries(p, search(p, seed, budget), budget) for seed, p in enumerate(problems)]
            low, middle, high = np.sort(found)[[len(found) // 4, len(found) // 2, 3 * len(found) // 4]]
            words = [f"{value:.0f}" if np.isfinite(value) else f">{budget}" for value in (middle, low, high)]
            rate = float(np.isfinite(found).mean())
            print(f"{label:30}{words[0]:>8}{words[1] + '–' + words[2]:>14}{rate:>10.0%}", flush=True)


def regret(problem: Problem, rows: Rows) -> float:
    """How much of the true front's hypervolume the rows lack, as a fraction."""
    everything = problem.objectives(np.flatnonzero(problem.usable))
    reference = everything.max(axis=0)
    true = hypervolume(everything[front_mask(everything)], reference)
    return 1.0 - hypervolume(problem.objectives(rows), reference) / true


def compare(name: str, problems: Sequence[Problem], searches: dict[str, Search]) -> None:
    """One row of a table: the median regret of each search in percent."""
    medians: list[float] = []
    for label, search in searches.items():
        some = problems[: max(1, len(problems) // 5)] if "Optuna" in label else problems
        medians.append(float(np.median([regret(p, search(p, seed, 100)) for seed, p in enumerate(some)])))
    print(f"{name:22}" + "".join(f"{100 * value:>10.2f}" for value in medians), flush=True)


def two_objectives(hints: dict[str, tuple[int, ...]], optuna: bool) -> dict[str, Search]:
    searches: dict[str, Search] = {
        "random": asked(RandomSearch, BATCH, False),
        "our NSGA-II": asked(partial(NSGA2, population=20), BATCH, False),
        "evolution": asked(evolution, BATCH, False),
        "pymoo": pymoo_nsga2,
        "ridge": ridge,
    }
    if optuna:
        searches |= {"Optuna TPE": optuna_search("tpe"), "Optuna NSGA": optuna_search("nsga2")}
    return searches | {label: guided(columns, BATCH) for label, columns in hints.items()}


def head(title: str, searches: dict[str, Search]) -> None:
    print(f"\n{title}: regret of hypervolume after 100 trainings, %, median of {SEEDS} seeds")
    print(" " * 22 + "".join(f"{label[-9:]:>10}" for label in searches), flush=True)


def devices(cells: Cells) -> dict[str, Floats]:
    """The latency of every cell on every device of the tables, NaN where it is not known."""
    found = {}
    for row_table in ("hw_nas_bench_201", "help_nb201_latency_ms", "oneproxy_nb201_latency_ms"):
        rows = table(row_table)
        places = column(rows, "idx").astype(np.int64)
        for name in rows[0]:
            if name not in ("dataset", "idx", "net", "edgegpu_energy") and name not in found:
                found[name] = np.full(len(cells.codes), np.nan)
                found[name][places] = column(rows, name)
    return {name: values for name, values in found.items() if name != "pixel3"}  # the same as pixel3_latency


def latency(cells: Cells) -> None:
    loss = 1.0 - column(cells.rows, "cifar10_test_acc") / 100.0
    hints = {"guided": (), "FLOPs": (0,), "+topology": (0, 1, 2)}
    every = two_objectives(hints, optuna=False)
    head("NAS-Bench-201, CIFAR-10 test accuracy and latency", every)
    for name, cost in devices(cells).items():
        compare(name, [cells.problem(name, loss, cost, seed) for seed in range(SEEDS)], every)


def accel() -> None:
    listed = Listed()
    loss = 1.0 - column(listed.rows, "val_top1") / 100.0
    every = two_objectives({"guided": (), "MACs": (0, 1)}, optuna=True)
    head("Accel-NASBench, ImageNet accuracy and latency", every)
    for name in ("throughput_a100", "throughput_3090", "throughput_tpuv2", "latency_vck190"):
        values = column(listed.rows, name)
        cost = 1000.0 / values if name.startswith("throughput") else values
        compare(name, [listed.problem(name, loss, cost)] * SEEDS, every)


def overhead() -> None:
    print("\nSeconds of ask and tell per candidate, 30 decisions of 4 options, batches of 16")
    values = np.random.default_rng(0).random((30, 4))

    def seconds(told: int) -> float:
        algorithm = Guided(Domain((4,) * 30), 0, fit)
        codes = np.random.default_rng(1).integers(0, 4, (told, 30))
        algorithm.tell(codes, values[np.arange(30), codes].sum(axis=1)[:, None])
        begin = time.perf_counter()
        codes = algorithm.ask(16)
        algorithm.tell(codes, values[np.arange(30), codes].sum(axis=1)[:, None])
        return (time.perf_counter() - begin) / 16

    for told in (20, 100, 500, 2000):
        print(f"guided, {told:5} told: {np.median([seconds(told) for _ in range(3)]):.4f} s")


def main() -> None:
    if not (DATA / "nb201_accuracy.csv.gz").is_file():
        print(f"no tables in {DATA}; set CHIPFIT_TEST_DATA to a directory that has nas/nb201_accuracy.csv.gz")
        return
    words = sys.argv[1:] or ["one", "latency", "accel", "overhead"]
    if "one" in words:
        one(Cells(), [word for word in words if word in COLUMNS] or COLUMNS)
    if "latency" in words:
        latency(Cells())
    if "accel" in words:
        accel()
    if "overhead" in words:
        overhead()


if __name__ == "__main__":
    main()

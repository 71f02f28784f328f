"""How few measured subgraphs it takes to estimate whole networks that no fit has seen, beside plain boosted trees.

python benchmarks/economy.py [TARGET …]        (needs chipfit[ethos-u]; ten to twenty minutes a target on one core)

Trees and chipfit's regression learn from the same measured subgraphs, distinct ones of random networks; whole networks
are sums over their subgraphs, compared with the totals that the tool itself gives. "chosen" takes from the same pool
what `chipfit.estimate.choose` would measure next. Nothing in the package or its tests uses the seed.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import lightgbm
import numpy as np
from numpy.typing import NDArray

from chipfit.estimate.choose import GROWTH, LEAST_BATCH, Pool, chosen, unlike_all
from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.regress import Prediction, regress
from chipfit.estimate.rows import Floats, Rows
from chipfit.graph.graph import Graph
from chipfit.graph.workload import Workload
from chipfit.measure.measurement import Run, Tool
from chipfit.measure.simulator import Simulated, simulator
from chipfit.measure.vela import Compiler
from chipfit.targets import Target, load_target, variant

LADDER = (50, 100, 200, 400, 800, 1600, 3200, 6400)
SEED = 20_261_127
DRAWS = 3
TEST_NETWORKS = 130
WITHIN, ENOUGH = 0.10, 0.90
START = 25
MOST_CHOSEN = 800
"""Subgraphs up to which choosing is followed: it learns anew at every step."""
LEAST_OWN = 20
"""Rows of a kind below which trees of its own are not grown; those of all kinds stand in."""
UNLIKE = {
    "lanes.output_channels": 24, "lanes.pixels": 2, "depthwise.taps": 3, "memory.dram_bytes_per_s": 2.5e9,
    "memory.on_chip_bytes": 393_216, "memory.on_chip_bytes_per_cycle": 20.0, "overhead.layer_cycles": 700,
}  # fmt: skip

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Networks:
    """Rows of whole networks: `place` (m,) numbers the network of each row, `totals_s` are the networks' own."""

    loads: tuple[Workload, ...]
    latency_s: Floats
    place: Indices
    totals_s: Floats

    @classmethod
    def measured(cls, tool: Tool, graphs: Sequence[Graph]) -> Networks:
        runs = [run for run in tool.networks(graphs) if isinstance(run, Run) and not run.elsewhere]
        parts = [(number, part) for number, run in enumerate(runs) for part in run.parts.values()]
        return cls(
            tuple(part.workload for _, part in parts),
            np.array([part.measurement.latency_s for _, part in parts]),
            np.array([number for number, _ in parts]),
            np.array([run.measurement.latency_s for run in runs]),
        )

    def within(self, latency_s: Floats) -> float:
        """Share of the networks whose predicted total lies within `WITHIN` of the measured one."""
        totals = np.bincount(self.place, weights=latency_s)
        return float((np.abs(totals / self.totals_s - 1) <= WITHIN).mean())


def pool_from(networks: Networks) -> tuple[Pool, Floats]:
    """The distinct subgraphs of measured networks, and their latencies (n,). Drawn weights do not make a difference."""
    first: dict[Workload, int] = {}
    uses = [first.setdefault(load._replace(stored_share=1), place) for place, load in enumerate(networks.loads)]
    places, uses = np.unique(np.array(uses), return_inverse=True)
    rows = Rows.of_workloads([networks.loads[place] for place in places])
    return Pool((), (), rows, uses, networks.place), networks.latency_s[places]


def trees(pool: Rows, latency_s: Floats, test: Rows, by_kind: bool, own: Indices, seed: int) -> Floats:
    """Plain boosted trees on the fields of workloads and their kind, learning the logarithm of the latency."""
    columns = np.column_stack([pool.values, pool.kinds])[own]
    asked = np.column_stack([test.values, test.kinds])
    wanted = np.log(latency_s[own])
    found = boosted(columns, wanted, seed).predict(asked)
    if by_kind:
        for kind in np.unique(test.kinds):
            mine, theirs = pool.kinds[own] == kind, test.kinds == kind
            if mine.sum() >= LEAST_OWN:
                found[theirs] = boosted(columns[mine], wanted[mine], seed).predict(asked[theirs])
    return np.exp(found)


def boosted(columns: Floats, wanted: Floats, seed: int) -> lightgbm.Booster:
    options = {
        "objective": "regression", "learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 5, "num_threads": 1,
        "deterministic": True, "force_col_wise": True, "seed": seed, "verbosity": -1,
    }  # fmt: skip
    return lightgbm.train(options, lightgbm.Dataset(columns, wanted), num_boost_round=1000)


def learnt(target: Target, pool: Rows, latency_s: Floats, own: Indices, seed: int) -> Callable[[Rows], Prediction]:
    numbers = target.precision()
    found = regress(target, numbers, pool.take(own), latency_s[own], None, np.random.default_rng(seed))
    return partial(found.predict, target, numbers)


def in_turn(target: Target, pool: Pool, latency_s: Floats, most: int, seed: int) -> Indices:
    """Places of subgraphs in the order in which they are chosen, after a few at random."""
    own = np.random.default_rng(seed).permutation(len(pool))[:START]
    novelty = unlike_all(pool.rows, pool.rows.take(own))
    while len(own) < most:
        predicted = learnt(target, pool.rows, latency_s, own, seed)(pool.rows)
        worth = pool.shares(predicted.latency_s) * predicted.spread_s / predicted.latency_s * novelty
        batch = chosen(pool.rows, worth, min(most - len(own), max(LEAST_BATCH, int(GROWTH * len(own)))))
        if not len(batch):
            break
        novelty *= unlike_all(pool.rows, pool.rows.take(batch))
        own = np.concatenate([own, batch])
    return own


def compare(name: str, target: Target, tool: Tool) -> None:
    generator = np.random.default_rng(SEED)
    test = Networks.measured(tool, random_networks(TEST_NETWORKS, generator))
    graphs = random_networks(LADDER[-1] // 14, generator)
    pool, latency_s = pool_from(Networks.measured(tool, graphs))
    print(
        f"\n{name}: {len(test.totals_s)} unseen networks; pool of {len(pool)} distinct subgraphs of {len(graphs)} "
        f"networks, {len(test.loads) / len(test.totals_s):.0f} subgraphs a network; means of {DRAWS} draws\n"
    )
    print("| measured subgraphs | trees, one for all | trees, one per kind | chipfit, drawn | chipfit, chosen |")
    print("|---|---|---|---|---|")
    reached: dict[str, int] = {}
    orders = [in_turn(target, pool, latency_s, MOST_CHOSEN, seed) for seed in range(DRAWS)]
    ladder = [count for count in LADDER if count < len(pool)] + [min(LADDER[-1], len(pool))]
    for count in sorted({*ladder, *(count // 10 for count in ladder if count >= 500)}):
        shares = within(count, target, pool, latency_s, test, orders)
        for name, share in shares.items():
            if share >= ENOUGH:
                reached.setdefault(name, count)
        print(f"| {count} | " + " | ".join(f"{share:.1%}" for share in shares.values()) + " |", flush=True)
    print(f"\nfirst with {ENOUGH:.0%} within {WITHIN:.0%}: {reached}")


def within(
    count: int, target: Target, pool: Pool, latency_s: Floats, test: Networks, orders: Sequence[Indices]
) -> dict[str, float]:
    """The share of test networks within the bound by what was learnt and how, means over the draws."""
    asked = Rows.of_workloads(test.loads)
    shares: dict[str, list[float]] = {}
    for seed, order in enumerate(orders):
        drawn = np.random.default_rng([seed, 1]).permutation(len(pool))[:count]
        found = {
            "trees, one for all": trees(pool.rows, latency_s, asked, False, drawn, seed),
            "trees, one per kind": trees(pool.rows, latency_s, asked, True, drawn, seed),
            "chipfit, drawn": learnt(target, pool.rows, latency_s, drawn, seed)(asked).latency_s,
        }
        if count <= len(order):
            found["chipfit, chosen"] = learnt(target, pool.rows, latency_s, order[:count], seed)(asked).latency_s
        for name, each in found.items():
            shares.setdefault(name, []).append(test.within(each))
    return {name: float(np.mean(each)) for name, each in shares.items()}


def main(names: Sequence[str]) -> None:
    if not names or "neural-engine" in names:
        described = load_target("neural-engine")
        chip = variant(described, UNLIKE)
        compare("a chip unlike its description", described, Simulated(described, simulator(chip)))
    for name in names or ("ethos-u55-256", "ethos-u85-256"):
        if name != "neural-engine":
            target = load_target(name)
            compare(name, target, Compiler(target, workers=1, seed=SEED))


if __name__ == "__main__":
    main(sys.argv[1:])
